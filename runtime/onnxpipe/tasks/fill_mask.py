"""fill-mask: the tokens that may stand in the place of a mask, with their probabilities.

Models: encoders with a masked language modelling head. Reference: transformers 4.57.6 FillMaskPipeline.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnxpipe.arrays import descending, softmax
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import FieldError, Record, parameter, show
from onnxpipe.session import Arrays
from onnxpipe.text.tokenizer import check_inputs

# Tokens of all sequences of one answer: many masks in a long text with a large `top_k` would fill any memory.
MAX_ANSWER_TOKENS = 2**24
# Warnings of one call: the server sends them in a header.
MAX_WARNINGS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """Which tokens come back."""

    top_k: int = parameter(5, ge=1, description="How many tokens come back, at most the vocabulary or the targets.")
    targets: str | tuple[str, ...] | None = parameter(
        None,
        description="The only tokens that are scored; their probabilities are those among all tokens. Of a target that "
        "is not a token of the model its first sub-token is taken.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets == ():
            raise FieldError("targets", "expected at least one token, given an empty list")


@dataclasses.dataclass(frozen=True)
class Fill:
    """The text with a token in the place of the mask, and the token's probability, id and text."""

    sequence: str
    score: float
    token: int
    token_str: str


class FillMask(Pipeline[str, Parameters, list[Fill] | list[list[Fill]]]):
    """Fills by falling probability; for a text with several masks a list of them per mask.

    Of several masks each is filled on its own: the sequences keep the other masks, and all special tokens.

    >>> onnxpipe.load("bert-base-uncased")("This is a simple [MASK].", top_k=1)
    [Fill(sequence='this is a simple problem.', score=0.04..., token=3291, token_str='problem')]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        manifest = model.bundle.manifest
        self._graph = model.graph()
        check_inputs(self._graph, manifest.id)
        self._tokenizer = model.tokenizer
        mask, pad = (self._tokenizer.special(role) for role in ("mask_token", "pad_token"))
        mask_id = self._tokenizer.id(mask) if mask else None
        if mask is None or mask_id is None:
            raise UnsupportedModel(f"{manifest.id} has no mask token; it serves: {', '.join(manifest.tasks)}")
        self._mask, self._mask_id = mask, mask_id
        self._pad_id = self._tokenizer.id(pad) if pad else None  # None: no token equals it

    def preprocess(self, inputs: str, parameters: Parameters) -> Work[list[Fill] | list[list[Fill]]]:
        """One row: the text. Raises InvalidInput when it has no mask, or not all of them after it was cut."""
        encoding = self._tokenizer.encode(inputs)
        masks = np.flatnonzero(encoding.ids == self._mask_id)
        if encoding.cut and len(masks) < inputs.count(self._mask):
            raise InvalidInput(
                f"the text has {len(encoding.ids) + encoding.cut} tokens, and a {self._mask} stands beyond the model's "
                f"limit of {len(encoding.ids)}; shorten the text"
            )
        if not masks.size:
            raise InvalidInput(f"expected {self._mask} in the place to fill, given a text without it: {show(inputs)}")
        targets, warnings = self._find(parameters.targets)
        finish = functools.partial(
            self.postprocess, ids=encoding.ids, masks=masks, targets=targets, top_k=parameters.top_k
        )
        return Work([encoding.row(self._graph)], finish, encoding.cut, warnings)

    def postprocess(
        self,
        outputs: list[Arrays],
        ids: NDArray[np.int64],
        masks: NDArray[np.intp],
        targets: NDArray[np.int64] | None,
        top_k: int,
    ) -> list[Fill] | list[list[Fill]]:
        """Logits (T, V) at the masks to fills, one mask after the other: probabilities of all would be as large."""
        logits = outputs[0][self._graph.outputs[0].name]
        count = min(top_k, logits.shape[-1] if targets is None else len(targets))
        if len(masks) * count * len(ids) > MAX_ANSWER_TOKENS:
            raise InvalidInput(
                f"{count} fills for each of {len(masks)} masks in {len(ids)} tokens are too many for one answer; "
                "expected a smaller `top_k`, fewer masks or a shorter text"
            )
        fills = []
        for place in masks:
            scores = softmax(logits[place].astype(np.float32, copy=False))
            tokens = np.arange(len(scores)) if targets is None else targets
            best = tokens[descending(scores[tokens], count)]
            fills.append(
                [self._fill(ids, place, int(token), float(scores[token]), single=len(masks) == 1) for token in best]
            )
        return fills[0] if len(masks) == 1 else fills

    def _fill(self, ids: NDArray[np.int64], place: int, token: int, score: float, *, single: bool) -> Fill:
        filled = ids.copy()
        filled[place] = token
        sequence = self._tokenizer.decode(filled[filled != self._pad_id].tolist(), skip_special_tokens=single)
        return Fill(sequence, score, token, self._tokenizer.decode([token], skip_special_tokens=False))

    def _find(self, targets: str | Sequence[str] | None) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
        """The ids of the targets, each once, and the first warnings. Raises InvalidInput when none can be used."""
        if targets is None:
            return None, ()
        found: set[int] = set()
        warnings = []
        for target in [targets] if isinstance(targets, str) else targets:
            number = self._tokenizer.id(target)
            if number is None:
                encoding = self._tokenizer.encode(target, side="right")
                inside = encoding.ids[encoding.sequences == 0]
                if not inside.size:
                    warnings.append(f"the target {show(target)} has no tokens and is left out")
                    continue
                number = int(inside[0])
                warnings.append(
                    f"the target {show(target)} is not a token of the model; {self._tokenizer.token(number)!r} is taken"
                )
            found.add(number)
        if not found:
            raise FieldError("targets", f"expected a token, or text that has tokens, given {show(targets)}")
        return np.array(sorted(found)), tuple(warnings[:MAX_WARNINGS])
