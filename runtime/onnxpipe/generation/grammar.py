"""Text that must follow a JSON Schema or a regular expression. The only door to llguidance (extra `chat`).

llguidance tells which tokens may follow; all others get -inf. It follows the bytes that tokens stand for, here those of
`token_bytes`, so grammars work with every kind of tokenizer. What it does not know of JSON Schema it refuses, so what
is finished always validates. Tokens are not forced where only one text is possible: it has no say in how the model cuts
a text into tokens.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.errors import Overloaded, UnprocessableInput
from onnxpipe.generation.detokenize import token_bytes
from onnxpipe.generation.matching import Grammar, GrammarMatcher, reason
from onnxpipe.generation.scores import Tokens
from onnxpipe.records import FieldError, Record, show
from onnxpipe.text.tokenizer import Tokenizer

# One space, or a new line and its indentation: a model that likes white space too much still comes to an end.
_WHITE_SPACE = r" |\n[ \t]{0,20}"
# Beyond it lies only harm: an automaton's state takes 1 to 2 kB.
_MAX_STATES = 50_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrammarSource(Record):
    """What a text must follow.

    json         `value` is a JSON Schema, as an object or a string; any JSON object when absent
    json_schema  `value` is {"schema": a JSON Schema, "name"?: ...}
    regex        `value` is a regular expression that the whole text matches (Rust's syntax, without look-around, and
                 with 0-9 alone as digits)
    """

    type: Literal["json", "json_schema", "regex"]
    value: Any = None  # JSON of whatever shape the type wants

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type == "regex":
            if not isinstance(self.value, str):
                raise FieldError("value", f"expected a regular expression as a string, given {show(self.value)}")
        else:
            self.schema()

    def schema(self) -> dict[str, Any]:
        """The JSON Schema. Raises FieldError when it is no object."""
        schema = self.value
        if self.type == "json_schema":
            if not isinstance(schema, dict) or "schema" not in schema:
                raise FieldError("value", f'expected an object with "schema", given {show(schema)}')
            schema = schema["schema"]
        elif schema is None:
            return {"type": "object"}
        if isinstance(schema, str):
            try:
                schema = json.loads(schema)
            except (ValueError, RecursionError) as error:
                raise FieldError(
                    "value", f"expected a JSON Schema, given a string that is not JSON ({error})"
                ) from None
        if not isinstance(schema, dict):
            raise FieldError("value", f"expected a JSON Schema, which is an object, given {show(schema)}")
        return schema


class GrammarCompiler:
    """Grammars for the tokens of one model; the last `cache_size` are kept. Safe to use from several threads.

    `vocabulary_size` is the number of scores a row has, which may be more than the tokenizer's ids. The first grammar
    takes longer, a second or two for 150,000 tokens: `warm` does that ahead. Raises UnprocessableInput when llguidance
    is missing, or when the model has no token that ends a text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocabulary_size: int,
        eos_token_ids: Sequence[int],
        seconds: float = 10.0,
        max_characters: int = 200_000,
        cache_size: int = 8,
        max_threads: int = 2,
    ) -> None:
        self._library = _library()
        if not eos_token_ids:
            raise UnprocessableInput("the model has no token that ends a text, so it cannot follow a grammar")
        self._tokenizer = tokenizer
        self._size = vocabulary_size
        self._eos = list(eos_token_ids)
        self._seconds = seconds
        self._max_characters = max_characters
        self._cache: collections.OrderedDict[str, concurrent.futures.Future[Any]] = collections.OrderedDict()
        self._cache_size = cache_size
        self._lock = threading.Lock()
        self._vocabulary_lock = threading.Lock()
        self._threads = threading.BoundedSemaphore(max_threads)

    def warm(self) -> None:
        """Make what all grammars share: the bytes of every token, as a tree."""
        with self._vocabulary_lock:
            _ = self._vocabulary

    def compile(self, source: GrammarSource) -> Grammar:
        """The grammar, when it is there; blocks, so not for an event loop. Raises what `start` and its `wait` do."""
        started = self.start(source)
        while (grammar := started.wait(self._seconds)) is None:
            pass
        return grammar

    def start(self, source: GrammarSource) -> "StartedGrammar":
        """A grammar from the cache, or one that is being made in a thread of its own.

        Raises UnprocessableInput when it is too large or no grammar; Overloaded when as many as allowed are being made.
        """
        text = _lark(self._library, source)
        if len(text) > self._max_characters:
            raise UnprocessableInput(
                f"the grammar is too large: expected at most {self._max_characters} characters, given {len(text)}"
            )
        future = self._find_or_start(text)
        return StartedGrammar(future, self._seconds, self._size, functools.partial(self._forget, text))

    def _forget(self, text: str) -> None:
        with self._lock:
            self._cache.pop(text, None)

    def _find_or_start(self, text: str) -> "concurrent.futures.Future[Any]":
        with self._lock:
            if (future := self._cache.get(text)) is None:
                if not self._threads.acquire(blocking=False):
                    raise Overloaded("too many grammars are being compiled; try again later")
                future = self._cache[text] = concurrent.futures.Future()
                # a daemon: native code cannot be stopped, and must not keep the process from ending
                threading.Thread(target=self._make, args=(text, future), daemon=True).start()
            self._cache.move_to_end(text)
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
            return future

    def _make(self, text: str, future: "concurrent.futures.Future[Any]") -> None:
        try:
            with self._vocabulary_lock:
                vocabulary = self._vocabulary
            limits = self._library.LLParserLimits(max_lexer_states=_MAX_STATES, verbose_errors=False)
            future.set_result(self._library.LLMatcher(vocabulary, text, log_level=0, limits=limits))
        except BaseException as error:  # noqa: BLE001 - for the one who waits
            future.set_exception(error)
        finally:
            self._threads.release()

    @functools.cached_property
    def _vocabulary(self) -> Any:
        return self._library.LLTokenizer(_Vocabulary(self._tokenizer, self._size, self._eos), eos_token=self._eos)


class StartedGrammar:
    """A grammar that is being made, or has been."""

    def __init__(
        self,
        future: "concurrent.futures.Future[Any]",
        limit_seconds: float,
        vocabulary_size: int,
        forget: Callable[[], None],
    ) -> None:
        self._future = future
        self._limit_seconds = limit_seconds
        self._deadline = time.monotonic() + limit_seconds
        self._size = vocabulary_size
        self._forget = forget

    def wait(self, seconds: float) -> Grammar | None:
        """The grammar; None when it is not there after so many seconds.

        Raises UnprocessableInput when it is wrong, with llguidance's reason, or not done within the limit.
        """
        try:
            matcher = self._future.result(min(seconds, max(0.0, self._deadline - time.monotonic())))
        except TimeoutError:  # it stays in the cache: asking again waits for the same thread
            if time.monotonic() < self._deadline:
                return None
            raise UnprocessableInput(
                f"the grammar is too complex: it was not compiled within {self._limit_seconds:g} seconds; simplify it"
            ) from None
        if matcher.is_error():
            self._forget()
            raise UnprocessableInput(f"the grammar cannot be used: {reason(matcher)}")
        return Grammar(matcher, self._size)

    def rows(self) -> "GrammarRows":
        """Matchers for the rows of a search, which begins with one; they wait for the grammar."""
        return GrammarRows(self)


class GrammarRows:
    """The matchers of a search's rows (`results.Follower`): masks their scores and goes with their tokens.

    There are none before `wait` says so.
    """

    def __init__(self, started: StartedGrammar) -> None:
        self._started = started
        self._rows: list[GrammarMatcher] = []

    def wait(self, seconds: float) -> bool:
        """Whether the grammar is there, after so many seconds at most. Raises as `StartedGrammar.wait`."""
        if not self._rows and (grammar := self._started.wait(seconds)) is not None:
            self._rows = [grammar.begin()]
        return bool(self._rows)

    def __call__(self, _: Tokens, scores: Floats, /) -> Floats:
        """Scores (R, V) with -inf for each token that may not follow in its row."""
        return np.stack([matcher.mask(row) for matcher, row in zip(self._rows, scores, strict=True)])

    def follow(self, parents: NDArray[np.intp], tokens: Tokens) -> None:
        """Rows became copies of `parents` (R',) with one more token (R',)."""
        taken: set[int] = set()
        rows = []
        for parent in parents.tolist():
            rows.append(self._rows[parent].copy() if parent in taken else self._rows[parent])
            taken.add(parent)
        for matcher, token in zip(rows, tokens.tolist(), strict=True):
            matcher.accept(token)
        self._rows = rows


class _Vocabulary:
    """The tokens' bytes in the form that llguidance wants (its TokenizerWrapper)."""

    def __init__(self, tokenizer: Tokenizer, size: int, eos: Sequence[int]) -> None:
        known = min(size, tokenizer.size)
        self.tokens = [token_bytes(tokenizer, number) for number in range(known)] + [b""] * (size - known)
        self.special_token_ids = sorted({*tokenizer.special_ids, *eos} & set(range(size)))
        self.eos_token_id = eos[0]
        self.bos_token_id = None
        self.is_tokenizer_wrapper = True

    def __call__(self, _: str) -> list[int]:
        """How a text is cut into tokens: only asked for forced tokens, which grammars here switch off."""
        return []


def _lark(library: Any, source: GrammarSource) -> str:
    """The grammar in llguidance's own language."""
    if source.type == "regex":
        start = f"/{library.regex_to_lark(source.value, 'd')}/"
    else:
        # the library reads these settings in a schema too, from where they could make it lenient
        settings = {"whitespace_pattern": _WHITE_SPACE, "lenient": False, "coerce_one_of": False}
        try:
            start = f"%json {json.dumps({**source.schema(), 'x-guidance': settings}, allow_nan=False)}"
        except (ValueError, TypeError, RecursionError) as error:
            raise UnprocessableInput(f"the grammar's schema is not JSON ({error})") from None
    return f'%llguidance {{"no_forcing": true}}\nstart: {start}'


def _library() -> Any:  # untyped as a whole: its own annotations name tokens and masks in types of their own
    try:
        import llguidance
    except ImportError:
        raise UnprocessableInput(
            "grammars need llguidance, which is not installed: pip install 'onnxpipe[chat]'"
        ) from None
    return llguidance
