"""What the products of a graph read on typical inputs, and the ranges of 8 bits that suit it.

MinMax reaches over all that was seen. The other two cut off what is rare, so that the rest gets finer levels: a
percentile of all numbers, or the range whose levels lose the least information (Kullback-Leibler divergence, as
TensorRT chooses it). What transformers have rarely, they need: cut at the 99.99th percentile, MiniLM's cosine falls
from 0.993 to 0.930, by least divergence to 0.909.
"""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx_ir as ir

from onnxpipe.arrays import Floats
from onnxpipe.batching import Row
from onnxpipe.session import Array, Session
from onnxpipe_export.generation.graphs import save
from onnxpipe_export.products import Form, Range, Site, find_sites, simulate

Method = Literal["minmax", "percentile", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)

# Rows of numbers kept of each site; and those that factors are tried on.
_KEPT = 2048
_TRIED = 256
_PERCENTILE = 99.99
# How much of the difference between channels is taken out of the activations: the rest stays for the weights.
_STRENGTHS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# channels that stay in float beside the others
_APART = 8
_BINS = 1024
_LEVELS = 128


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a site read: some rows (R, K) of it, and the smallest and largest number of each channel in all (K,)."""

    values: Floats
    low: Floats
    high: Floats


def observe(model: ir.Model, rows: Sequence[Row]) -> dict[str, Seen]:
    """What each site reads, by its name."""
    sites = find_sites(model)
    share = max(8, _KEPT // max(1, len(rows)))
    found: dict[str, list[Seen]] = {name: [] for name in sites}
    with probed(model, [site.value for site in sites.values()]) as ask:
        for row in rows:
            values = ask(row)
            for name, site in sites.items():
                numbers = values[str(site.value.name)]
                flat = numbers.reshape(-1, numbers.shape[-1])
                found[name].append(Seen(_choose(flat, share), flat.min(axis=0), flat.max(axis=0)))
    return {
        name: Seen(
            np.concatenate([part.values for part in parts]),
            np.min([part.low for part in parts], axis=0),
            np.max([part.high for part in parts], axis=0),
        )
        for name, parts in found.items()
    }


def find_ranges(sites: Mapping[str, Site], seen: Mapping[str, Seen], method: Method) -> dict[tuple[str, Form], Range]:
    """The range of each site, as it is and behind factors."""
    ranges: dict[tuple[str, Form], Range] = {}
    for name, site in sites.items():
        ranges[name, "static"] = _range(seen[name], method)
        ranges[name, "smooth"] = _smooth(seen[name], site.weights, method)
        ranges[name, "split"] = _split(seen[name], method)
    return ranges


def error(values: Floats, weights: Sequence[Floats], reach: Range) -> float:
    """How far integers are off in the products of `values`, in squares."""
    exact = values @ np.concatenate(weights, axis=1)
    return float(np.square(simulate(values, weights, reach) - exact, dtype=np.float64).sum())


class probed:  # noqa: N801  # a context manager, as those of contextlib are named
    """A function from a row to the numbers of some values of a graph, by name."""

    def __init__(self, model: ir.Model, values: Sequence[ir.Value]) -> None:
        self._model, self._values = model, values
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Callable[[Row], Mapping[str, Array]]:
        outputs, names = self._model.graph.outputs, [str(value.name) for value in self._values]
        own = list(outputs)
        added = [value for value in dict.fromkeys(self._values) if value not in own and not value.is_graph_input()]
        outputs.extend(added)
        file = Path(self._folder.name) / "probed.onnx"
        try:
            save(self._model, file)
        finally:
            for _ in added:
                outputs.pop()
        session = Session(file)

        def ask(row: Row) -> Mapping[str, Array]:
            feeds = {name: array[None] for name, array in row.items()}
            found = session.run(feeds) | feeds
            return {name: found[name] for name in names}

        return ask

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def _choose(values: Floats, count: int) -> Floats:
    """Evenly chosen rows, the first and the last among them."""
    if len(values) > count:
        values = values[np.linspace(0, len(values) - 1, count).astype(int)]
    return values.astype(np.float32)


def _range(seen: Seen, method: Method, factors: Floats | None = None) -> Range:
    by = np.ones_like(seen.low) if factors is None else factors
    low, high = float((seen.low / by).min()), float((seen.high / by).max())
    if method == "percentile":
        low, high = (float(np.percentile(seen.values / by, share)) for share in (100 - _PERCENTILE, _PERCENTILE))
    elif method == "entropy":
        bound = _least_divergent(np.abs(seen.values / by))
        low, high = max(low, -bound), min(high, bound)
    return Range(min(low, 0.0), max(high, 0.0), factors)


def _smooth(seen: Seen, weights: Sequence[Floats], method: Method) -> Range:
    """The range behind those factors that lose the least, on some of the values."""
    channels = np.maximum(np.maximum(-seen.low, seen.high), 1e-5)
    rows = np.maximum(np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0), 1e-5)
    tried = _choose(seen.values, _TRIED)
    found: list[tuple[float, Range]] = []
    for strength in _STRENGTHS:
        factors = channels**strength / rows ** (1 - strength)
        factors = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
        reach = _range(seen, method, factors)
        found.append((error(tried, weights, reach), reach))
    return min(found, key=lambda pair: pair[0])[1]


def _split(seen: Seen, method: Method) -> Range:
    """The range of all channels but the few that reach furthest."""
    reach = np.maximum(-seen.low, seen.high)
    apart = np.sort(np.argsort(-reach)[: min(_APART, len(reach) // 4)])
    rest = np.setdiff1d(np.arange(len(reach)), apart)
    within = _range(Seen(seen.values[:, rest], seen.low[rest], seen.high[rest]), method)
    return dataclasses.replace(within, apart=apart.astype(np.int64))


def _least_divergent(magnitudes: Floats) -> float:
    """Where to cut magnitudes off so that their distribution, in levels, stays nearest to itself."""
    counts, edges = np.histogram(magnitudes, bins=_BINS, range=(0, max(float(magnitudes.max()), 1e-12)))
    best = min(range(_LEVELS, _BINS + 1, 16), key=lambda kept: _divergence(counts, kept))
    return float(edges[best])


def _divergence(counts: Array, kept: int) -> float:
    expected = counts[:kept].astype(np.float64)
    expected[-1] += counts[kept:].sum()
    given = np.zeros(kept)
    for part in _parts(kept):
        filled = counts[part] > 0
        if filled.any():
            given[part] = np.where(filled, counts[part].sum() / filled.sum(), 0)
    expected, given = expected / expected.sum(), np.maximum(given, 1e-9) / max(given.sum(), 1e-9)
    mass = expected > 0
    return float((expected[mass] * np.log(expected[mass] / given[mass])).sum())


def _parts(kept: int) -> Iterator[slice]:
    edges = np.linspace(0, kept, _LEVELS + 1).astype(int)
    return (slice(first, last) for first, last in itertools.pairwise(edges))
