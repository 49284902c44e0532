import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.errors import InvalidInput
from onnxpipe.media import Media, decode_base64
from onnxpipe.records import FieldError, converter


class Sound(Media):
    kind = "audio"

    def __init__(self, source):
        self.source = source

    @classmethod
    def read(cls, source):
        if source != b"RIFF":
            raise InvalidInput("not a sound")
        return cls(source)


@given(st.binary())
def test_base64_gives_the_bytes_back(content):
    text = base64.b64encode(content).decode()
    assert decode_base64(text) == content
    assert decode_base64(f"data:image/png;base64,{text}") == content
    assert decode_base64("\n".join(text[i : i + 76] for i in range(0, len(text), 76))) == content


@pytest.mark.parametrize("text", ["not base64!", "abc", "YWJj*", "日本", "data:image/png;base64,###"])
def test_what_is_not_base64_is_refused(text):
    with pytest.raises(InvalidInput, match="expected base64"):
        decode_base64(text)


@pytest.mark.parametrize("text", ["data:image/png,raw", "data:base64", "DATA:;charset=utf-8,abc"])
def test_data_urls_of_another_kind_are_refused(text):
    with pytest.raises(InvalidInput, match="expected a data: URL"):
        decode_base64(text)


def test_an_annotation_of_media_opens_the_input():
    assert converter(Sound)(b"RIFF").source == b"RIFF"
    with pytest.raises(FieldError, match="not a sound"):
        converter(Sound)(b"MP3")
    with pytest.raises(FieldError, match="expected an audio as bytes, a path or a data: URL or null"):
        converter(Sound | None)(7)
