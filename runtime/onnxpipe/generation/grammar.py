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
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.errors import InvalidInput, Overloaded, UnprocessableInput
from onnxpipe.generation.detokenize import token_bytes
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
        self._threads = threading.BoundedSemaphore(max_threads)

    def warm(self) -> None:
        """Make what all grammars share: the bytes of every token, as a tree."""
        with self._lock:
            _ = self._vocabulary

    def compile(self, source: GrammarSource) -> "Grammar":
        """The grammar, from the cache or made in a thread of its own; blocks, so not for an event loop.

        Raises UnprocessableInput when it is wrong, too large, or not done in time (`seconds`), with llguidance's
        reason; Overloaded when as many as allowed are being made.
        """
        text = _lark(self._library, source)
        if len(text) > self._max_characters:
            raise UnprocessableInput(
                f"the grammar is too large: expected at most {self._max_characters} characters, given {len(text)}"
            )
        try:
            matcher = self._find_or_start(text).result(self._seconds)
        except TimeoutError:  # it stays in the cache: asking again waits for the same thread
            raise UnprocessableInput(
                f"the grammar is too complex: it was not compiled within {self._seconds:g} seconds; simplify it"
            ) from None
        if matcher.is_error():
            with self._lock:
                self._cache.pop(text, None)
            raise UnprocessableInput(f"the grammar cannot be used: {_reason(matcher)}")
        return Grammar(matcher, self._size)

    def _find_or_start(self, text: str) -> "concurrent.futures.Future[Any]":
        with self._lock:
            if (future := self._cache.get(text)) is None:
                vocabulary = self._vocabulary
                if not self._threads.acquire(blocking=False):
                    raise Overloaded("too many grammars are being compiled; try again later")
                future = self._cache[text] = concurrent.futures.Future()
                # a daemon: native code cannot be stopped, and must not keep the process from ending
                threading.Thread(target=self._make, args=(vocabulary, text, future), daemon=True).start()
            self._cache.move_to_end(text)
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
            return future

    def _make(self, vocabulary: Any, text: str, future: "concurrent.futures.Future[Any]") -> None:
        try:
            limits = self._library.LLParserLimits(max_lexer_states=_MAX_STATES, verbose_errors=False)
            future.set_result(self._library.LLMatcher(vocabulary, text, log_level=0, limits=limits))
        except BaseException as error:  # noqa: BLE001 - for the one who waits
            future.set_exception(error)
        finally:
            self._threads.release()

    @functools.cached_property
    def _vocabulary(self) -> Any:
        return self._library.LLTokenizer(_Vocabulary(self._tokenizer, self._size, self._eos), eos_token=self._eos)


class Grammar:
    """A compiled grammar; `begin` follows it from its beginning."""

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._size = vocabulary_size

    def begin(self) -> "GrammarMatcher":
        """A matcher for a new text."""
        return GrammarMatcher(self._matcher, self._size)

    def rows(self) -> "GrammarRows":
        """Matchers for the rows of a search, which begins with one."""
        return GrammarRows(self.begin())


class GrammarMatcher:
    """A text on its way through a grammar."""

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher.deep_copy()
        self._size = vocabulary_size
        self._mask = np.zeros(-(-vocabulary_size // 32), dtype=np.int32)

    @property
    def is_finished(self) -> bool:
        """Whether the text is complete and nothing but its end may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def is_complete(self) -> bool:
        """Whether the text may end here, though it may also go on."""
        return bool(self._matcher.is_accepting())

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may follow (V,).

        Raises UnprocessableInput when the grammar has become too complex, or when no token can go on with it.
        """
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if self._matcher.is_error():  # else the end of text would be allowed, as if all were well
            reason = _reason(self._matcher)
            if reason.startswith("NoExtension"):
                raise UnprocessableInput("the grammar wants characters that no token of the model can spell")
            raise UnprocessableInput(f"the grammar is too complex: {reason}; simplify it")
        bits = np.unpackbits(self._mask.view(np.uint8), count=self._size, bitorder="little")
        return bits.view(np.bool_)

    def mask(self, scores: Floats) -> Floats:
        """The scores (V,) with -inf for each token that may not follow."""
        return np.where(self.allowed(), scores, np.float32(-np.inf))

    def accept(self, token: int) -> None:
        """Go on with a token. Raises InvalidInput when it may not follow."""
        if not self._matcher.consume_token(token):
            raise InvalidInput(f"the grammar does not allow token {token} here: {_reason(self._matcher)}")

    def copy(self) -> "GrammarMatcher":
        """An independent matcher at the same place, for a text that goes on in two ways."""
        return GrammarMatcher(self._matcher, self._size)


class GrammarRows:
    """The matchers of a search's rows (`results.Follower`): masks their scores and goes with their tokens."""

    def __init__(self, first: GrammarMatcher) -> None:
        self._rows = [first]

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


def _reason(matcher: Any) -> str:
    """What llguidance says, in a line, without the place in a text that the user never saw."""
    lines = str(matcher.get_error()).splitlines() or [""]
    line = next((line for line in lines if line.startswith("error: ")), lines[0])
    return line.removeprefix("error: ").split("): ", 1)[-1].strip()


def _library() -> Any:  # untyped as a whole: its own annotations name tokens and masks in types of their own
    try:
        import llguidance
    except ImportError:
        raise UnprocessableInput(
            "grammars need llguidance, which is not installed: pip install 'onnxpipe[chat]'"
        ) from None
    return llguidance
