"""`onnxpipe serve`: load bundles, say what is served, answer until told to stop."""

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxpipe.errors import BundleError, InvalidInput, OnnxpipeError
from onnxpipe_server.settings import Settings

if TYPE_CHECKING:
    from onnxpipe_server.auth import Keyring
    from onnxpipe_server.on_demand import OnDemand
    from onnxpipe_server.stock import Stock
    from onnxpipe_server.totals import Totals

_log = logging.getLogger(__name__)

_GRACE_SECONDS = 30  # how long requests that run may take to finish after a signal to stop
_BACKLOG = 2048


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve`."""
    parser.add_argument(
        "bundles",
        nargs="*",
        metavar="BUNDLE",
        help="a folder that `onnxpipe export` wrote, or the id of one in --models: loaded at the start",
    )
    parser.add_argument(
        "--models", type=Path, metavar="DIR", help="a folder of bundles, each loaded when it is first asked for"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--precision", help="precision to load (default: that of its recipe, else its first)")
    parser.add_argument(
        "--device",
        "--provider",
        action="append",
        dest="provider",
        metavar="DEVICE",
        help="where models run: cpu, cuda, cuda:1, cuda:OPTION=VALUE,... or another execution provider of onnxruntime; "
        "that or nothing, unless cpu is named as well; may be repeated (default: cpu)",
    )
    parser.add_argument("--threads", type=int, help="threads of one run (default: planned from the machine's limits)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument(
        "--model-cache",
        type=Path,
        metavar="DIR",
        help="where models are kept as this machine runs them (default: onnxpipe in the user's cache folder)",
    )
    parser.add_argument("--no-model-cache", action="store_true", help="keep nothing there: slower, and more memory")
    for field in _limits():
        described = f"{field.metadata['description']} (default: %(default)s)"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=int, default=field.default, metavar="N", help=described
        )
    parser.add_argument(
        "--default-model",
        action="append",
        metavar="ID",
        help="model that answers where a request names none; may be repeated, the first that can is taken",
    )
    parser.add_argument(
        "--allow-urls",
        action="extend",
        type=lambda given: given.split(","),
        metavar="HOST[,HOST...]",
        help="hosts whose images and sounds requests may name by their address: example.org, *.example.org, "
        "example.org:8080, 10.0.0.0/8; may be repeated (default: none, no address is ever opened)",
    )
    parser.add_argument(
        "--cors-origin", action="append", help="origin whose pages may call; may be repeated (default: any)"
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="hashes of the tokens that may call, as `onnxpipe token` writes them; those in the environment variable "
        "ONNXPIPE_TOKENS may too (default: everybody may)",
    )
    for switch in _switches():
        parser.add_argument(
            f"--{switch.name.replace('_', '-')}",
            action=argparse.BooleanOptionalAction,
            default=switch.default,
            help=switch.metadata["description"],
        )
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="how the log is written (default: %(default)s)"
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="what goes to the log on standard error (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, then return 0. Raises OnnxpipeError when it cannot start."""
    # both signals interrupt, while a model loads as well as after uvicorn has shut down and passes them on
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # here, as below: it needs the extra
    from onnxpipe_server.logs import start_log

    start_log(args.log_level, args.log_format)
    keyring = _read_keyring(args.tokens)
    limits = {field.name: getattr(args, field.name) for field in _limits()} | {
        field.name: getattr(args, field.name) for field in _switches()
    }
    settings = Settings(
        cors_origins=args.cors_origin or ("*",),
        default_models=args.default_model or (),
        allow_urls=args.allow_urls or (),
        **limits,
    )
    with contextlib.suppress(KeyboardInterrupt), listen(args.host, args.port) as listener:
        _serve(listener, settings, keyring, args)
    return 0


def _read_keyring(file: Path | None) -> "Keyring | None":
    if file is None and not os.environ.get("ONNXPIPE_TOKENS", "").strip():
        return None
    # only where there are tokens: its imports would come before the models begin to load
    from onnxpipe_server.auth import read_keyring

    return read_keyring(file)


def _limits() -> list[dataclasses.Field[int]]:
    """The settings that are numbers."""
    return [field for field in dataclasses.fields(Settings) if type(field.default) is int]  # a bool is an int too


def _switches() -> list[dataclasses.Field[bool]]:
    """The settings that are on or off."""
    return [field for field in dataclasses.fields(Settings) if type(field.default) is bool]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, before anything is loaded: a port in use shows at once."""
    if not 0 <= port <= 65535:
        raise InvalidInput(f"--port: expected an integer from 0 to 65535, given {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # named as TCP: asyncio sets TCP_NODELAY only then, without which answers wait 40 ms for the client's next packet
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InvalidInput(f"cannot listen on {host} port {port}: {error}; choose another --host or --port") from None
    return listener


def _serve(listener: socket.socket, settings: Settings, keyring: "Keyring | None", args: argparse.Namespace) -> None:
    if importlib.util.find_spec("uvicorn") is None:  # imported only when models have begun to load
        raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
    if args.workers < 1:
        raise InvalidInput(f"--workers: expected an integer >= 1, given {args.workers}")
    # here, not above: the command line reads this module for its arguments alone
    from onnxpipe.prepacked import Cache, default_folder
    from onnxpipe_server.processes import CANNOT_START, run_processes
    from onnxpipe_server.stock import Choice, open_stock

    choice = Choice(
        named=args.bundles,
        folder=args.models,
        precision=args.precision,
        providers=args.provider,
        threads=args.threads,
        cache=Cache(None if args.no_model_cache else args.model_cache or default_folder()),
    )
    stock = open_stock(choice, settings)
    host = f"[{args.host}]" if ":" in args.host else args.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    for served in stock.models.all():
        print(
            f"{url}/models/{served.id}  {', '.join(served.kinds)}  {served.precision}  "
            f"{served.size_bytes / 1e6:.1f} MB  {served.device}, {served.threads} threads"
        )

    answer = functools.partial(_answer, listener, settings, keyring, stock)
    if args.workers == 1:
        answer(url, args.log_level, waits=False)
        return
    import uvicorn  # noqa: F401 - so that the processes share it

    from onnxpipe_server.totals import make_totals

    totals = make_totals()
    if keyring is not None:
        keyring.share()

    def work_or_tell(*, waits: bool = False) -> int:
        try:
            answer("", args.log_level, waits=waits, totals=totals)
        except OnnxpipeError as error:
            _log.error("%s", error)
            return CANNOT_START
        finally:
            if totals is not None:
                totals.leave()
        return 0

    print(f"listening on {url}, documentation at {url}/docs", flush=True)
    again = functools.partial(work_or_tell, waits=True)
    with contextlib.nullcontext() if totals is None else contextlib.closing(totals):
        status = run_processes(args.workers, work_or_tell, again, totals.end if totals else lambda _: None)
    if status == CANNOT_START:
        raise BundleError("a process of the server could not start; its message is above")


def _answer(
    listener: socket.socket,
    settings: Settings,
    keyring: "Keyring | None",
    stock: "Stock",
    url: str,
    log_level: str,
    *,
    waits: bool,
    totals: "Totals | None" = None,
) -> None:
    """Load what is to be loaded first, and answer, meanwhile or, where others do so, when it `waits` no longer.

    Raises the error of such a model that cannot be loaded, or of a device that is not there.
    """
    stock.check_device()
    loads = [(model, stock.lifecycle.start(model)) for model in stock.first]
    # while these threads load: the server's own imports take as long
    import uvicorn

    from onnxpipe_server.app import create_app
    from onnxpipe_server.supervised import SupervisedServer

    app = create_app(stock.models, settings, keyring, stock, totals=totals)
    app.state.metrics.publish()
    config = uvicorn.Config(app, **server_options(log_level, settings))
    server = SupervisedServer(config, lambda: stock.is_ready)

    def stop_without(model: "OnDemand", _: object) -> None:
        if not model.passed:
            server.should_exit = True

    for model, load in loads:
        load.add_done_callback(functools.partial(stop_without, model))
        if waits and (error := load.result()):
            raise error
    if url:
        print(f"listening on {url}, documentation at {url}/docs", flush=True)
    try:
        server.run(sockets=[listener])
    finally:  # uvicorn passes the signal on, which interrupts
        app.state.metrics.publish()
        if app.state.traces is not None:
            app.state.traces.close()
    for model in stock.first:
        if model.error is not None and not model.passed:
            raise model.error


def server_options(log_level: str, settings: Settings | None = None) -> dict[str, Any]:
    """How uvicorn serves an application here."""
    from onnxpipe_server.connections import protocol_of

    return {
        "http": protocol_of(settings or Settings()),
        "ws": "none",
        "access_log": False,  # `logs` has a line for each request
        "log_config": None,  # that of `run`
        "log_level": log_level,
        "lifespan": "off",
        "server_header": False,
        "timeout_graceful_shutdown": _GRACE_SECONDS,
    }
