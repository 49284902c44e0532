"""The products of a graph with weights of its own: where they are, and what can stand in their place.

`static`   activations to 8 bits by a scale fixed beforehand, weights to 8 bits with a scale per output channel, results
           in float (QuantizeLinear, MatMulIntegerToFloat). Rows do not change each other. Results are not made integers
           again, which is what costs accuracy where all of a graph is: MiniLM's cosine is 0.993 so, and 0.94 with that.
`smooth`   the same behind a factor per input channel, taken out of the activations and put into the weights
           (SmoothQuant, Xiao et al. 2022), for inputs of which few channels are far larger than the rest.
`split`    the same with the few largest channels in float beside the others (LLM.int8(), Dettmers et al. 2022). Behind
           MiniLM's GELU eight of 1536 channels carry 9/10 of the error, and the range of all others.
`weights8`, `weights4`   weights in blocks with a scale each, activations by blocks of a row (MatMulNBits).
`dynamic`  activations by a scale of the run, which all its rows share (`quantize` makes them).
`float`    as it was.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from onnxpipe.arrays import Floats
from onnxpipe_export.generation.graphs import MICROSOFT, add_constant, array, insert, is_constant, owner, put_in_place
from onnxpipe_export.generation.weights import exchange_embeddings, exchange_product, make_blocks, product_weight

Form = Literal["float", "dynamic", "static", "smooth", "split", "weights8", "weights4"]

# Signed weights in seven of their eight bits, for the reason that `quantize` states.
_WEIGHT_LEVELS = 64
_BLOCK_SIZE = 32  # weights that share a scale, where nothing else is said
_ACTIVATION_LEVELS = 255
_BITS: Mapping[Form, int] = {"weights8": 8, "weights4": 4}


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a site's 8 bits reach over, the factors (K,) taken out of its channels, if any, and the channels
    that stay in float.
    """

    low: float
    high: float
    factors: Floats | None = None
    apart: NDArray[np.int64] | None = None

    @property
    def scale(self) -> np.float32:
        """What one level is worth."""
        return np.float32(max(self.high - self.low, 1e-12) / _ACTIVATION_LEVELS)

    @property
    def zero(self) -> np.uint8:
        """The level of 0, which is always exact."""
        return np.uint8(round(-self.low / float(self.scale)))


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How weights are put into blocks: numbers that share a scale (None: what suits), and whether zero lies in the
    middle.
    """

    size: int | None = None
    symmetric: bool = True

    @property
    def width(self) -> int:
        """The size, 32 where nothing is chosen."""
        return self.size or _BLOCK_SIZE


@dataclasses.dataclass(frozen=True)
class Site:
    """A value and the products that read it, which get one form: `queries`, `keys` and `values` of an attention."""

    value: ir.Value
    products: tuple[ir.Node, ...]

    @property
    def name(self) -> str:
        """The name of its first product."""
        return str(self.products[0].name)

    @property
    def weights(self) -> list[Floats]:
        """The matrices (K, N) of its products."""
        return [matrix(node) for node in self.products]


def open_graph(source: Path) -> ir.Model:
    """A graph as the functions here take it: constants as initializers, Gemm as MatMul and Add, each node with a name
    of its own.
    """
    model = ir.load(source)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    names: set[str] = set()
    for number, node in enumerate(model.graph):
        if not node.name or node.name in names:
            node.name = f"{node.op_type}_{number}"
        names.add(node.name)
    for node in list(model.graph):
        if node.op_type == "Gemm":
            _split_gemm(node)
    model.opset_imports[MICROSOFT] = 1
    return model


def find_sites(model: ir.Model) -> dict[str, Site]:
    """Where products read, by the name of the first, in the order they run in."""
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in model.graph:
        if product_weight(node) is not None and node.inputs[0] is not None:
            found.setdefault(node.inputs[0], []).append(node)
    sites = [Site(value, tuple(nodes)) for value, nodes in found.items()]
    return {site.name: site for site in sites}


def matrix(product: ir.Node) -> Floats:
    """The weights (K, N) of a product."""
    weight = product_weight(product)
    assert weight is not None  # noqa: S101  # only products get here
    numbers: Floats = array(weight)
    return numbers if weight is product.inputs[1] else numbers.T


def put_forms(
    model: ir.Model, forms: Mapping[str, Form], ranges: Mapping[tuple[str, Form], Range], blocks: Blocks
) -> int:
    """Give sites, by name, their forms; how many products are in integers then. Embeddings stay as they are."""
    count = 0
    for name, site in find_sites(model).items():
        form = forms.get(name, "float")
        if form in _BITS:
            for node in site.products:
                _put_blocks(node, _BITS[form], blocks)
        elif form != "float":
            _put_static(site, ranges[name, form])
        count += len(site.products) if form != "float" else 0
    common.RemoveUnusedNodesPass()(model)
    return count


def put_embeddings(model: ir.Model, bits: int, blocks: Blocks) -> int:
    """Store tables that the graph's inputs are looked up in, in blocks; how many those were."""
    count = exchange_embeddings(model, bits, blocks.width)
    common.RemoveUnusedNodesPass()(model)
    return count


def quantize_weights(weights: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Integers (K, N) and their scales (N,)."""
    scales = np.maximum(np.abs(weights).max(axis=0) / _WEIGHT_LEVELS, np.float32(1e-12)).astype(np.float32)
    return np.clip(np.round(weights / scales), -_WEIGHT_LEVELS, _WEIGHT_LEVELS).astype(np.int8), scales


def simulate(values: Floats, weights: Sequence[Floats], reach: Range) -> Floats:
    """What products of `values` (R, K) come to in the static form, side by side."""
    factors = np.ones(values.shape[1], np.float32) if reach.factors is None else reach.factors
    levels = np.clip(np.round(values / factors / reach.scale) + float(reach.zero), 0, _ACTIVATION_LEVELS)
    whole = (levels - float(reach.zero)).astype(np.float32) * reach.scale
    joined = np.concatenate(weights, axis=1)
    rest, beside = joined * factors[:, None], np.zeros(1, np.float32)
    if reach.apart is not None:
        rest[reach.apart] = 0
        beside = values[:, reach.apart] @ joined[reach.apart]
    result: Floats = whole @ np.multiply(*quantize_weights(rest), dtype=np.float32) + beside
    return result


def _put_blocks(node: ir.Node, bits: int, blocks: Blocks) -> None:
    weight, graph = product_weight(node), owner(node)
    assert weight is not None  # noqa: S101  # only products get here
    turned = weight is not node.inputs[1]
    made = make_blocks(graph, weight, bits, blocks.width, outputs_first=turned, symmetric=blocks.symmetric)
    exchange_product(node, made, bits, blocks.width)


def _put_static(site: Site, reach: Range) -> None:
    """One quantisation for all products of a site, which become one, cut behind it: each has its price to hand out to
    threads.
    """
    first = site.products[0]
    value = first.inputs[0]  # not the site's, for which another may stand by now
    graph = owner(first)
    if reach.factors is not None:
        inverse = add_constant(graph, f"{first.name}.smooth", (1 / reach.factors).astype(np.float32))
        value = insert(first, "Mul", [value, inverse]).outputs[0]
    scale = add_constant(graph, f"{first.name}.scale", np.array(reach.scale))
    zero = add_constant(graph, f"{first.name}.zero", np.array(reach.zero))
    levels = insert(first, "QuantizeLinear", [value, scale, zero]).outputs[0]
    weights = np.concatenate(site.weights, axis=1)
    rest = weights if reach.factors is None else weights * reach.factors[:, None]
    if reach.apart is not None:
        rest = rest.copy()
        rest[reach.apart] = 0  # so that it does not matter how far their levels are cut off
    integers, scales = quantize_weights(rest)
    ends = [_bias(node) for node in site.products]
    biases = None
    if all(end is not None for end in ends):
        biases = np.concatenate([array(end[1]) for end in ends if end is not None])
    constants: dict[str, NDArray[Any]] = {"weights": integers, "scales": scales}
    if biases is not None:
        constants["bias"] = biases
    made: dict[str, ir.Value] = {
        part: add_constant(graph, f"{first.name}.{part}", numbers) for part, numbers in constants.items()
    }
    inputs = [levels, made["weights"], scale, made["scales"], zero, None, made.get("bias")]
    # without a bias the list ends with the zero point
    whole = insert(first, "MatMulIntegerToFloat", inputs if biases is not None else inputs[:5], domain=MICROSOFT)
    lasts = [node if biases is None or end is None else end[0] for node, end in zip(site.products, ends, strict=True)]
    if reach.apart is not None:
        channels = add_constant(graph, f"{first.name}.apart", reach.apart)
        few = insert(first, "Gather", [value, channels], {"axis": -1}).outputs[0]
        beside = insert(first, "MatMul", [few, add_constant(graph, f"{first.name}.float", weights[reach.apart])])
        whole = insert(first, "Add", [whole.outputs[0], beside.outputs[0]])
    parts: Iterable[ir.Value] = whole.outputs
    if len(site.products) > 1:
        widths = np.array([weight.shape[1] for weight in site.weights])
        cut = [whole.outputs[0], add_constant(graph, f"{first.name}.widths", widths)]
        parts = insert(first, "Split", cut, {"axis": -1}, outputs=len(widths)).outputs
    for node, last, part in zip(site.products, lasts, parts, strict=True):
        put_in_place(last, part)
        if last is not node:
            graph.remove(node, safe=True)


def _bias(product: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    """The Add behind a product and the bias (N,) that it adds; None where there is none."""
    uses = list(product.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or product.outputs[0].is_graph_output():
        return None
    add = uses[0].node
    other = add.inputs[1 - uses[0].idx]
    if other is None or not is_constant(other) or array(other).shape != matrix(product).shape[1:]:
        return None
    return add, other


def _split_gemm(node: ir.Node) -> None:
    """A Gemm of a constant matrix and nothing unusual becomes MatMul and Add."""
    settings = {name: attribute.value for name, attribute in node.attributes.items()}
    weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    usual = settings.get("alpha", 1.0) == 1.0 == settings.get("beta", 1.0) and not settings.get("transA", 0)
    if not usual or weight is None or not is_constant(weight) or (bias is not None and not is_constant(bias)):
        return
    graph = owner(node)
    if settings.get("transB", 0):
        weight = add_constant(graph, f"{weight.name}.transposed", np.ascontiguousarray(array(weight).T))
    made = insert(node, "MatMul", [node.inputs[0], weight])
    if bias is not None:
        made = insert(node, "Add", [made.outputs[0], bias])
    put_in_place(node, made.outputs[0])
