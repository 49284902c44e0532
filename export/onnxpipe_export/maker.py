"""A precision's graph from the fp32 one, by a plan that says which form each product gets."""

import dataclasses
import fnmatch
import functools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxpipe.batching import Row
from onnxpipe.errors import UnsupportedModel
from onnxpipe.verification.figures import Figures
from onnxpipe_export.activations import Method, find_ranges, observe
from onnxpipe_export.attention import open_joined
from onnxpipe_export.generation.graphs import array, is_constant, save
from onnxpipe_export.half import write_half
from onnxpipe_export.precisions import PRECISIONS
from onnxpipe_export.products import Blocks, Form, Range, Site, find_sites, open_graph, put_embeddings, put_forms
from onnxpipe_export.quantize import narrowing_products, quantize
from onnxpipe_export.static import Rows

Plan = Mapping[str, Form]  # by the name of a site: its first product's

_CALIBRATED: tuple[Form, ...] = ("static", "smooth", "split")
# what a pass over numbers takes, for each, in multiply-adds
_PASS = 100.0
# Rows of tokens drawn at random beside typical ones: embeddings of rare words reach further than those of common ones.
# On MiniLM they take a third of the error away that is left behind factors.
_SCATTERED = 60
_LONGEST_SCATTERED = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is chosen about a variant: how scales are found, how blocks are made, whether tables of embeddings are
    stored in 8 bits, and the forms of products by name or pattern ("*/layer.0/*"), which win over all else.
    """

    method: Method = "minmax"
    blocks: Blocks = Blocks()
    embeddings: bool = True
    kept: Mapping[str, Form] = dataclasses.field(default_factory=dict)


class Maker:
    """Makes one precision of a graph. `inputs` are typical rows, `pictures` those that convolutions are calibrated on.

    Raises UnsupportedModel for a pattern that no product fits, or when there is nothing to make integers of.
    """

    def __init__(
        self,
        source: Path,
        precision: str,
        inputs: Sequence[Row],
        options: Options,
        *,
        float_narrowing: bool = False,
        pictures: Rows | None = None,
    ) -> None:
        self.forms = PRECISIONS[precision].forms
        self._source, self._precision, self._options, self._pictures = source, precision, options, pictures
        self._inputs = inputs
        self.fixed: frozenset[str] = frozenset()  # sites whose form was chosen by name
        self._folder = tempfile.TemporaryDirectory()
        self._narrowing = narrowing_products(source) if float_narrowing and precision == "int8" else []

    def close(self) -> None:
        """Remove what was kept on the way."""
        self._folder.cleanup()

    @functools.cached_property
    def sites(self) -> dict[str, Site]:
        """Where products read, in the order they run in."""
        return find_sites(self._open())

    def start(self) -> dict[str, Form]:
        """The fastest form for each, but for what is kept. Raises UnsupportedModel as the class does."""
        if not self.forms:
            return {}
        if not self.sites:
            raise UnsupportedModel(f"no product has weights of its own; this graph cannot be {self._precision}")
        plan: dict[str, Form] = dict.fromkeys(self.sites, self.forms[0])
        names = {str(node.name): site for site, found in self.sites.items() for node in found.products}
        for name in self._narrowing:
            if name in names:
                plan[names[name]] = "float"
        for pattern, form in self._options.kept.items():
            fitting = fnmatch.filter(names, pattern)
            if not fitting:
                raise UnsupportedModel(f"no product is named {pattern!r}; there are {', '.join(list(names)[:4])} ...")
            plan |= {names[name]: form for name in fitting}
            self.fixed |= {names[name] for name in fitting}
        return plan

    def make(self, target: Path, plan: Plan) -> Figures:
        """Write the graph; what was made of it, by name."""
        if self._precision == "fp16":
            write_half(self._source, target)
            return {}
        if self._precision == "int8":
            floats = [
                str(node.name) for name, form in plan.items() if form == "float" for node in self.sites[name].products
            ]
            return quantize(self._source, target, "int8", kept=[*floats, *self._narrowing], rows=self._pictures)
        model = self._open()
        count = put_forms(model, plan, self._ranges(plan), self._options.blocks)
        if not count:
            raise UnsupportedModel(f"every product is kept in float; this graph would not be {self._precision}")
        if self._options.embeddings:
            put_embeddings(model, 8, self._options.blocks)
        save(model, target)
        figures = {"integer_operators": float(count)}
        return figures | ({"calibration_rows": float(len(self._inputs))} if set(plan.values()) & {*_CALIBRATED} else {})

    def cost(self, name: str, form: Form) -> float:
        """About how long a site takes in a form for one row of numbers, in multiply-adds of float."""
        inputs, outputs = len(self.sites[name].weights[0]), sum(w.shape[1] for w in self.sites[name].weights)
        # measured on MiniLM at 16 to 64 tokens: integers take a third, blocks nearly as long as float
        share = {"float": 1.0, "weights8": 0.95, "weights4": 0.95}.get(form, 0.35)
        passes = {"smooth": inputs, "split": outputs}.get(form, 0)
        return float(inputs * outputs * share + _PASS * passes)

    def _open(self) -> ir.Model:
        """The graph with attention joined, which int8 is made without: onnxruntime's own quantiser reads the file."""
        if self._precision == "int8":
            return open_graph(self._source)
        prepared = Path(self._folder.name) / "prepared.onnx"
        if not prepared.exists():
            save(open_joined(self._source, self._inputs), prepared)
        return open_graph(prepared)

    def _ranges(self, plan: Plan) -> Mapping[tuple[str, Form], Range]:
        return self._found_ranges if set(plan.values()) & {*_CALIBRATED} else {}

    @functools.cached_property
    def _found_ranges(self) -> dict[tuple[str, Form], Range]:
        model = self._open()
        seen = observe(model, [*self._inputs, *scattered_rows(model, self._inputs)])
        return find_ranges(self.sites, seen, self._options.method)


def scattered_rows(model: ir.Model, inputs: Sequence[Row]) -> list[Row]:
    """Rows like those given, of any tokens but the first and the last; none for models that read no tokens."""
    tables = [
        node.inputs[0]
        for node in model.graph
        if node.op_type == "Gather" and node.inputs[1] is not None and node.inputs[1].name == "input_ids"
    ]
    tokens = min((len(array(table)) for table in tables if table is not None and is_constant(table)), default=0)
    if not tokens or not inputs or any(row["input_ids"].ndim != 1 for row in inputs):
        return []
    draws = np.random.default_rng(0)
    rows: list[Row] = []
    for number in range(_SCATTERED):
        row = dict(inputs[number % len(inputs)])
        if len(row["input_ids"]) > _LONGEST_SCATTERED:
            continue
        ids = draws.integers(0, tokens, len(row["input_ids"]))
        ids[[0, -1]] = row["input_ids"][[0, -1]]
        rows.append(row | {"input_ids": ids.astype(row["input_ids"].dtype)})
    return rows
