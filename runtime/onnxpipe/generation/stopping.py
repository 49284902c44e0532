"""Stop strings: where a text that comes in pieces ends, whatever tokens it came in."""

from collections.abc import Sequence

from onnxpipe.errors import InvalidInput
from onnxpipe.records import show


class StopStrings:
    """A text up to the first of some stop strings, with it at its end when `include`, else without.

    The first is the one that ends first, of those that end together the longest: what a reader of the characters finds,
    so it does not depend on the tokens. Without `include`, what may be the beginning of a stop string is held back. The
    cost of a piece does not grow with the text (Knuth, Morris and Pratt 1977, a search for each string).
    """

    def __init__(self, stops: Sequence[str], *, include: bool) -> None:
        self._stops = tuple(_Stop(stop) for stop in stops)
        self._include = include
        self._held = ""
        self.found: str | None = None

    def add(self, piece: str, pending: str = "") -> str:
        """The text that is certain now; `found` says whether it is complete, and nothing more may be added then.

        `pending` is text that ends the whole if nothing more comes (`Detokenizer.pending`): a stop string that is
        complete with it is found at once and not a token later. Without one it is left for the next pieces.
        """
        text = piece + pending
        matches = [(end, -len(stop.text), stop) for stop in self._stops if (end := stop.find(text)) is not None]
        if matches:
            end, _, stop = min(matches, key=lambda match: match[:2])
            self.found = stop.text
            whole = self._held + text[:end]
            return whole if self._include else whole[: len(whole) - len(stop.text)]
        for stop in self._stops:
            stop.advance(piece)
        text = self._held + piece
        held = 0 if self._include else max((stop.matched for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """The text held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held


def read_stops(stop: str | Sequence[str] | None, *, max_count: int = 4, max_characters: int = 1000) -> tuple[str, ...]:
    """The stop strings of a request, each once. Raises InvalidInput for an empty, overlong or surplus one."""
    stops = tuple(dict.fromkeys([stop] if isinstance(stop, str) else stop or ()))
    if len(stops) > max_count:
        raise InvalidInput(f"`stop` supports up to {max_count} stop sequences. Given: {len(stops)}")
    for text in stops:
        if not text:
            raise InvalidInput("`stop`: expected strings of at least one character, given an empty one")
        if len(text) > max_characters:
            raise InvalidInput(
                f"`stop`: expected strings of at most {max_characters} characters, "
                f"given one of {len(text)}: {show(text)}"
            )
    return stops


class _Stop:
    """How much of one stop string the text ends with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._fallback = _fallback(text)

    def find(self, piece: str) -> int | None:
        """Where in the piece the stop string is first complete, None when it is not."""
        return self._follow(piece)[1]

    def advance(self, piece: str) -> None:
        """Take in a piece that does not complete it."""
        self.matched = self._follow(piece)[0]

    def _follow(self, piece: str) -> tuple[int, int | None]:
        matched = self.matched
        if not matched and self.text[0] not in piece:
            return 0, None
        for index, character in enumerate(piece):
            while matched and self.text[matched] != character:
                matched = self._fallback[matched]
            matched += self.text[matched] == character
            if matched == len(self.text):
                return matched, index + 1
        return matched, None


def _fallback(text: str) -> list[int]:
    """For each length of a beginning of `text`: that of the longest shorter one that it ends with."""
    lengths = [0, 0]
    for character in text[1:]:
        length = lengths[-1]
        while length and text[length] != character:
            length = lengths[length]
        lengths.append(length + (text[length] == character))
    return lengths
