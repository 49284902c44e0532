"""`onnxpipe token`: make a token, put its hash into a server's file, show the token once."""

import argparse
import os
from pathlib import Path

from onnxpipe.errors import InvalidInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `token`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what `onnxpipe serve --tokens` reads; made if missing")
    parser.add_argument("name", metavar="NAME", help="what the token is called, there and nowhere else")
    parser.add_argument(
        "--scope",
        action="append",
        choices=("infer", "admin"),
        help="what it may do; may be repeated (default: infer)",
    )
    parser.add_argument(
        "--tokens-per-minute", type=int, metavar="N", help="tokens of work that it may ask for (default: any number)"
    )


def run(args: argparse.Namespace) -> int:
    """Make it and print it. Raises InvalidInput for a name that is taken, or a file that cannot be written."""
    from onnxpipe_server.auth import Keyring, make_token, read_credentials, read_line

    token, line = make_token(args.name, args.scope or ("infer",), args.tokens_per_minute)
    begun = args.file.is_file()
    Keyring([*(read_credentials(args.file) if begun else ()), read_line(line)])
    try:
        # for nobody but its owner, from the moment it is there
        with os.fdopen(os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as file:
            file.write("" if not begun or args.file.read_bytes()[-1:] in (b"", b"\n") else "\n")
            file.write(line + "\n")
    except OSError as error:
        raise InvalidInput(f"{args.file} cannot be written: {error}") from None
    print(token)
    return 0
