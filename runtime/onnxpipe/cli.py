"""The `onnxpipe` command.

Exit codes: 0 done, 1 failed, 2 wrong usage. An error is one line on stderr; `--debug` shows the traceback.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from onnxpipe.errors import OnnxpipeError
from onnxpipe.version import __version__

# command -> (module with `add_arguments` and `run`, its extra, what it does). By name, for the runtime knows no other
# package, and because `onnxpipe --help` should not import any of them.
_COMMANDS = {
    "export": ("onnxpipe_export.cli", "export", "turn a hub model into a verified, quantised bundle"),
    "pull": ("onnxpipe.commands.pull", "cpu", "make a bundle of ready-made ONNX graphs"),
    "quantize": ("onnxpipe_export.quantize_cli", "quantize", "add a smaller or faster precision to a bundle"),
    "run": ("onnxpipe.commands.run", "cpu", "run a bundle on an input"),
    "serve": ("onnxpipe_server.cli", "server", "serve bundles over HTTP"),
    "token": ("onnxpipe_server.new_token", "server", "make a token that may call a server"),
    "bench": ("onnxpipe_bench.bench_cli", "bench", "measure what each precision of a bundle costs and gains here"),
    "tune": ("onnxpipe_bench.tune_cli", "bench", "find and keep the fastest way to run a bundle here"),
    "inspect": ("onnxpipe.commands.inspect", "cpu", "show what is in a bundle, and check it"),
    "doctor": ("onnxpipe.commands.doctor", "cpu", "show what this machine gives onnxpipe"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (the process's arguments when None) names; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    name = next((argument for argument in arguments if argument in _COMMANDS), None)
    args = _parser(name).parse_args(arguments)
    try:
        code = int(_module(args.command).run(args))
        sys.stdout.flush()  # here, where it can still be told that the reader left
    except OnnxpipeError as error:
        return _fail(args, error, str(error))
    except ModuleNotFoundError as error:
        extra = _COMMANDS[args.command][1]
        return _fail(args, error, f"`onnxpipe {args.command}` needs {error.name}: pip install 'onnxpipe[{extra}]'")
    except BrokenPipeError:
        # the reader left, as `head` does; nothing may be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail(args, None, "interrupted")
    except Exception as error:  # noqa: BLE001 - the last resort of the command line
        return _fail(args, error, f"unexpected {type(error).__name__}: {error}; --debug shows where")
    return code


class _Parser(argparse.ArgumentParser):
    """Takes options between positional arguments, as in `run BUNDLE --task TASK TEXT`.

    On its own argparse fills all positionals at the first one and then refuses the text.
    """

    _intermixed = False

    def parse_known_args(  # type: ignore[override]  # typeshed overloads it for namespaces of other types
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As in argparse, whose own implementation calls this one for each kind of argument."""
        if self._intermixed:
            return super().parse_known_args(args, namespace)
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


def _parser(command: str | None) -> argparse.ArgumentParser:
    """All commands with one line each, the arguments of the one that is wanted filled in."""
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    parser = argparse.ArgumentParser(prog="onnxpipe", description="Hugging Face models at the edge.", parents=[common])
    parser.add_argument("--version", action="version", version=f"onnxpipe {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, (_, _, summary) in _COMMANDS.items():
        child = commands.add_parser(name, help=summary, description=f"{summary.capitalize()}.", parents=[common])
        if name == command:
            _module(name).add_arguments(child)
    return parser


def _module(command: str) -> ModuleType:
    return importlib.import_module(_COMMANDS[command][0])


def _fail(args: argparse.Namespace, error: BaseException | None, message: str) -> int:
    if error is not None and getattr(args, "debug", False):
        raise error
    print(f"onnxpipe: {message}", file=sys.stderr)
    return 1
