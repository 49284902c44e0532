"""A compiled grammar, and a text on its way through it: which tokens may follow. `grammar` makes them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import Floats
from onnxpipe.errors import InvalidInput, UnprocessableInput


class Grammar:
    """A compiled grammar; `begin` follows it from its beginning."""

    def __init__(self, matcher: Any, vocabulary_size: int) -> None:
        self._matcher = matcher
        self._size = vocabulary_size

    def begin(self) -> "GrammarMatcher":
        """A matcher for a new text."""
        return GrammarMatcher(self._matcher, self._size)


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
            why = reason(self._matcher)
            if why.startswith("NoExtension"):
                raise UnprocessableInput("the grammar wants characters that no token of the model can spell")
            raise UnprocessableInput(f"the grammar is too complex: {why}; simplify it")
        bits = np.unpackbits(self._mask.view(np.uint8), count=self._size, bitorder="little")
        return bits.view(np.bool_)

    def mask(self, scores: Floats) -> Floats:
        """The scores (V,) with -inf for each token that may not follow."""
        return np.where(self.allowed(), scores, np.float32(-np.inf))

    def accept(self, token: int) -> None:
        """Go on with a token. Raises InvalidInput when it may not follow."""
        if not self._matcher.consume_token(token):
            raise InvalidInput(f"the grammar does not allow token {token} here: {reason(self._matcher)}")

    def copy(self) -> "GrammarMatcher":
        """An independent matcher at the same place, for a text that goes on in two ways."""
        return GrammarMatcher(self._matcher, self._size)


def reason(matcher: Any) -> str:
    """What llguidance says, in a line, without the place in a text that the user never saw."""
    lines = str(matcher.get_error()).splitlines() or [""]
    line = next((line for line in lines if line.startswith("error: ")), lines[0])
    return line.removeprefix("error: ").split("): ", 1)[-1].strip()
