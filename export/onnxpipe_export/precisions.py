"""Every precision there is, and what it makes of products with weights of their own: one row each."""

import dataclasses
from collections.abc import Mapping

from onnxpipe_export.generation.precisions import BITS
from onnxpipe_export.products import Form


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precision:
    """`forms` of products from the fastest to the safest: those that spoil answers get a later one.

    Empty where there is nothing to choose. `writes` says whether models that write text are made in it, `reads` the
    others.
    """

    about: str
    forms: tuple[Form, ...] = ()
    reads: bool = True
    writes: bool = False


PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(about="as it was trained", writes=True),
    "fp16": Precision(about="half the size; on CPUs no faster"),
    "int8": Precision(
        about="products with scales of the run: rows run alone; of models that write, weights in blocks of 8 bits",
        forms=("dynamic", "float"),
        writes=True,
    ),
    "int8-static": Precision(
        about="products with scales from typical inputs: fast, and alike in every batch",
        forms=("static", "smooth", "split", "weights8", "float"),
    ),
    "int8-weights": Precision(
        about="weights in blocks of 8 bits: nearly exact, and alike in every batch", forms=("weights8", "float")
    ),
    "int4-weights": Precision(
        about="weights in blocks of 4 bits: the smallest", forms=("weights4", "weights8", "float")
    ),
    "int4": Precision(about="of models that write, weights in blocks of 4 bits", reads=False, writes=True),
}
assert {name for name, row in PRECISIONS.items() if row.writes} == {"fp32", *BITS}  # noqa: S101  # one table, two users
