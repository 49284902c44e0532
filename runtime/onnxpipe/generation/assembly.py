"""A transcript from what was written of each window: parts between two times, words, and one text.

Reference: transformers 4.57.6 `_decode_asr` of tokenization_whisper. Unlike there, times count from the beginning of
the recording wherever a window began, so nothing has to be guessed from their order; what a window left open ends with
it; and times never run backwards.
"""

import dataclasses
from collections.abc import Sequence

from onnxpipe.audio.transcript import Chunk, Transcript
from onnxpipe.generation.merging import Span, Timed, merge
from onnxpipe.generation.speech_options import Times, language_name
from onnxpipe.generation.words import split_words
from onnxpipe.sections import Transcription
from onnxpipe.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heard:
    """What was written of a window: tokens, of which those for times count from `begin`, in seconds of the recording.

    `ends` says when each token is over and the next begins, counted in the same way; it is empty where nobody asked.
    Of the `seconds` of the window, `left` and `right` are its neighbours' too; where they have none, the next one
    begins at `following`.
    """

    ids: Sequence[int]
    ends: Sequence[float] = ()
    language: str | None = None
    begin: float = 0.0
    seconds: float = 0.0
    left: float = 0.0
    right: float = 0.0
    following: float | None = None


class Assembly:
    """A transcript that grows by windows."""

    def __init__(self, tokenizer: Tokenizer, section: Transcription, times: Times, *, languages: bool) -> None:
        """`times` and `languages` say what comes back beside the text."""
        self._tokenizer = tokenizer
        self._section = section
        self._times = times
        self._languages = languages
        self._texts: list[str] = []
        self._chunks: list[Chunk] = []
        # of the part that is open: its beginning, its language, and what each window gave of it
        self._begin: float | None = None
        self._language: str | None = None
        self._parts: list[Timed] = []
        # whether the next time belongs to one that the next window tells better
        self._skipped = False

    def add(self, heard: Heard) -> None:
        """Go on with a window; where windows overlap, what is in both is found when the part ends."""
        if self._language != heard.language and not self._times:
            self.close(None)
        self._language = heard.language
        first, step = self._section.first_timestamp, self._section.time_precision
        shared, own = self._shared_from(heard), first + heard.left / step
        ids: list[int] = []
        spans: list[Span] = []
        for place, token in enumerate(heard.ids):
            if token >= first:
                time = round((token - first) * step + heard.begin, 2)
                if self._ends_with(token, time, shared, own):
                    self._parts.append((ids, spans))
                    self.close(time)
                    ids, spans = [], []
            elif token not in self._tokenizer.special_ids:
                ids.append(token)
                if heard.ends:
                    since = heard.ends[place - 1] if place else 0.0
                    spans.append((round(since + heard.begin, 2), round(heard.ends[place] + heard.begin, 2)))
        if ids:
            self._parts.append((ids, spans))
        elif not any(given for given, _ in self._parts):
            self._parts.clear()
            self._begin = None

    def _ends_with(self, token: int, time: float, shared: int | None, own: float) -> bool:
        """Whether a token for a time ends the part; else it begins one, or another window tells it better."""
        if shared is not None and token >= shared:
            self._skipped = True  # the next window tells this end, and the beginning behind it
        elif self._skipped or (self._parts and token < own):
            self._skipped = False
        elif self._begin is None:
            self._begin = time
        else:
            return time != self._begin  # the same is an end that is a beginning
        return False

    def close(self, end: float | None) -> None:
        """End the part that is open, if there is one."""
        if self._parts:
            ids, spans = merge(self._parts)
            text = self._tokenizer.decode(ids)
            self._texts.append(text)
            if self._times == "word":
                words = split_words(self._tokenizer, ids, self._language)
                for word in words:
                    self._keep(word.text, spans[word.places[0]][0], spans[word.places[-1]][1])
            else:
                self._keep(text, self._begin, end)
        self._parts.clear()
        self._begin = None

    def transcript(self) -> Transcript:
        """The whole; a part that is still open has no end."""
        self.close(None)
        return Transcript("".join(self._texts), self._chunks if self._times or self._languages else None)

    def _keep(self, text: str, begin: float | None, end: float | None) -> None:
        reached = 0.0
        if self._chunks:
            reached = self._chunks[-1].timestamp[1] or self._chunks[-1].timestamp[0]
        begin = max(reached, reached if begin is None else begin)
        language = language_name(self._section.names, self._language) if self._languages else None
        self._chunks.append(Chunk(text, (begin, None if end is None else max(begin, end)), language))

    def _shared_from(self, heard: Heard) -> int | None:
        """The first of the times at a window's end that the next window hears, too: the last of all at any rate."""
        if not heard.right:
            return None
        first, step = self._section.first_timestamp, self._section.time_precision
        shared = None
        for token in reversed(heard.ids):
            if token >= first:
                if shared is not None and (token - first) * step < heard.seconds - heard.right:
                    break
                shared = token
        return shared
