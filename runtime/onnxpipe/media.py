"""Inputs that are files, such as images and audio: what they have in common, and base64 as JSON carries them."""

import base64
import binascii
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Self, TypeVar

from onnxpipe.errors import InvalidInput

T = TypeVar("T")


class Media(ABC):
    """The content of a file, opened as far as it takes to know that it is one; `kind` is what messages call it."""

    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def read(cls, source: object) -> Self:
        """The media in bytes, at a path, in a `data:` URL, or in memory. Raises InvalidInput when it is none.

        A string is a path unless it begins with "data:"; what strings mean on a network is for the server to say.
        """

    @classmethod
    def take(cls, source: object) -> object:
        """What a string or a buffer stands for: bytes or a path. Anything else as it is."""
        if isinstance(source, str):
            return decode_base64(source) if source[:5].lower() == "data:" else Path(source)
        return bytes(source) if isinstance(source, bytearray | memoryview) else source

    @classmethod
    def check_bytes(cls, size: int, max_bytes: int) -> None:
        """Raise InvalidInput when a file has more bytes than that."""
        if size > max_bytes:
            raise InvalidInput(f"the {cls.kind} has {size} bytes; at most {max_bytes} are accepted")

    @classmethod
    def open_path(cls, path: Path, max_bytes: int, opener: Callable[[Path], T]) -> T:
        """What `opener` makes of a file. Raises InvalidInput when it is not there, too large, or cannot be opened."""
        if not path.is_file():
            raise InvalidInput(f"{path}: no such file; a string is a path unless it begins with data:")
        cls.check_bytes(path.stat().st_size, max_bytes)
        try:
            return opener(path)
        except OSError as error:
            raise InvalidInput(f"{path}: cannot be opened ({error.strerror})") from None


def decode_base64(text: str) -> bytes:
    """The bytes in base64 or in a `data:` URL, line breaks allowed. Raises InvalidInput when it is not base64."""
    content = text
    if text[:5].lower() == "data:":
        header, comma, content = text.partition(",")
        if not comma or not header.lower().endswith(";base64"):
            raise InvalidInput("expected a data: URL such as data:image/png;base64,iVBORw0..., given another kind")
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"expected base64, given {len(text)} characters that are not ({error})") from None
