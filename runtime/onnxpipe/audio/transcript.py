"""What was said in a recording, and when: what every kind of speech recognition answers with."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A part of a transcript, and where it begins and ends, in seconds; the end is null where it was not heard.

    `language` is what it was heard to be in, where that was asked for.
    """

    text: str
    timestamp: tuple[float, float | None]
    language: str | None = None


@dataclasses.dataclass(frozen=True)
class Transcript:
    """The whole text, and its parts in order where they were asked for."""

    text: str
    chunks: list[Chunk] | None = None
