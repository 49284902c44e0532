"""Inputs that are files, such as images and audio: what they have in common, and base64 as JSON carries them."""

import base64
import binascii
from abc import ABC, abstractmethod
from typing import ClassVar, Self

from onnxpipe.errors import InvalidInput


class Media(ABC):
    """The content of a file, opened as far as it takes to know that it is one; `kind` is what messages call it."""

    kind: ClassVar[str]

    @classmethod
    @abstractmethod
    def read(cls, source: object) -> Self:
        """The media in bytes, at a path, in a `data:` URL, or in memory. Raises InvalidInput when it is none.

        A string is a path unless it begins with "data:"; what strings mean on a network is for the server to say.
        """


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
