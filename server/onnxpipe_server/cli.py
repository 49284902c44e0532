"""`onnxpipe serve`: load bundles, say what is served, answer until told to stop."""

import argparse
import contextlib
import dataclasses
import logging
import signal
import socket

from onnxpipe.errors import InvalidInput
from onnxpipe_server.settings import Settings

_GRACE_SECONDS = 30  # how long requests that run may take to finish after a signal to stop
_BACKLOG = 2048


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve`."""
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="a folder that `onnxpipe export` wrote")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 takes a free one (default: %(default)s)")
    parser.add_argument("--precision", help="precision to load (default: each bundle's first)")
    parser.add_argument(
        "--provider", action="append", help="execution provider, such as cpu or cuda; may be repeated (default: cpu)"
    )
    parser.add_argument("--threads", type=int, help="threads of one run (default: planned from the machine's limits)")
    for field in _limits():
        described = f"{field.metadata['description']} (default: %(default)s)"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=int, default=field.default, metavar="N", help=described
        )
    parser.add_argument(
        "--cors-origin", action="append", help="origin whose pages may call; may be repeated (default: any)"
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
    logging.basicConfig(level=args.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    limits = {field.name: getattr(args, field.name) for field in _limits()}
    settings = Settings(cors_origins=args.cors_origin or ("*",), **limits)
    with contextlib.suppress(KeyboardInterrupt), _listen(args.host, args.port) as listener:
        _serve(listener, settings, args)
    return 0


def _limits() -> list[dataclasses.Field[int]]:
    """The settings that are numbers."""
    return [field for field in dataclasses.fields(Settings) if isinstance(field.default, int)]


def _listen(host: str, port: int) -> socket.socket:
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


def _serve(listener: socket.socket, settings: Settings, args: argparse.Namespace) -> None:
    # here, not above: the command line reads this module for its arguments alone
    import uvicorn

    from onnxpipe_server.app import create_app
    from onnxpipe_server.models import Models, load_served

    models = Models(
        [
            load_served(path, precision=args.precision, providers=args.provider, threads=args.threads)
            for path in args.bundles
        ]
    )
    app = create_app(models, settings)
    host = f"[{args.host}]" if ":" in args.host else args.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    for served in models.all():
        print(
            f"{url}/models/{served.id}  {', '.join(served.pipelines)}  {served.model.precision}  "
            f"{served.size_bytes / 1e6:.1f} MB  {served.device}, {served.threads} threads"
        )
    print(f"listening on {url}, documentation at {url}/docs", flush=True)
    config = uvicorn.Config(
        app,
        log_config=None,  # that of `run`
        log_level=args.log_level,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])
