"""Which graphs a repository has in which precisions, as optimum and transformers.js lay them out.

onnx/model.onnx  onnx/model_fp16.onnx  onnx/model_quantized.onnx ...   or the same without the folder
onnx/model.onnx_data                                                   weights beyond what a graph file may hold
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from onnxpipe.bundle import SUFFIXES
from onnxpipe.errors import UnsupportedModel

# precision -> the suffix of its files
_SUFFIXES = {**SUFFIXES, "uint8": "_uint8", "q4f16": "_q4f16", "bnb4": "_bnb4"}
_PRECISIONS = {suffix: precision for precision, suffix in _SUFFIXES.items()}
# graphs of models that write text, and of those with two towers; all others have one, `model`
_PARTS = (
    "decoder_model_merged",
    "decoder_with_past_model",
    "decoder_model",
    "encoder_model",
    "text_model",
    "vision_model",
)
_MODEL = "model"
_NAME = re.compile(rf"({'|'.join((*_PARTS, _MODEL))})(_\w+)?\.onnx")
# the precisions that answers are measured by, the best first; of others the first by name
_RANK = ("fp32", "o1", "o2", "o3", "fp16", "o4", "q8", "int8", "uint8", "q4", "q4f16", "int4", "bnb4")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of each precision, by graph, the best precision first; `data` are files of weights beside a graph.

    `sizes` are bytes of all files by path.
    """

    graphs: Mapping[str, Mapping[str, str]]
    data: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int]

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all graphs there are."""
        return tuple(dict.fromkeys(name for files in self.graphs.values() for name in files))

    def files(self, precision: str) -> tuple[str, ...]:
        """The paths of a precision's graphs and their weights."""
        graphs = self.graphs[precision].values()
        return (*graphs, *(part for graph in graphs for part in self.data[graph]))

    def size_bytes(self, precision: str) -> int:
        """What a precision takes on disk."""
        return sum(self.sizes[file] for file in self.files(precision))

    def choose(self, precisions: Iterable[str] | None) -> tuple[str, ...]:
        """Those of the precisions that were asked for, the best first; when None, the best and 8 bits where there are.

        Raises UnsupportedModel for one that is not there.
        """
        if precisions is None:
            best = next(iter(self.graphs))
            eight = next((name for name in ("q8", "int8", "uint8") if name in self.graphs), best)
            return tuple(dict.fromkeys((best, eight)))
        wanted = list(precisions)
        if unknown := [name for name in wanted if name not in self.graphs]:
            raise UnsupportedModel(f"there is no precision {unknown[0]!r}; there are: {', '.join(self.graphs)}")
        return tuple(name for name in self.graphs if name in wanted)


def read_layout(sizes: Mapping[str, int], name: str) -> Layout:
    """The layout of a repository from the sizes of its files by path.

    Files in `onnx/` go before those beside it. Raises UnsupportedModel when there are no graphs.
    """
    found: dict[str, dict[str, str]] = {}
    for path in sorted(sizes, key=lambda path: (not path.startswith("onnx/"), path)):
        matched = _NAME.fullmatch(PurePosixPath(path).name)
        if matched is None or str(PurePosixPath(path).parent) not in ("onnx", "."):
            continue
        part, suffix = matched.group(1), matched.group(2) or ""
        precision = _PRECISIONS.get(suffix, suffix.removeprefix("_").lower())
        found.setdefault(precision, {}).setdefault(part, path)
    if not found:
        raise UnsupportedModel(
            f"{name}: no ONNX graphs; expected onnx/model.onnx, or model.onnx. From its weights, "
            f"`onnxpipe export {name} OUT` makes them"
        )
    ranked = sorted(found, key=lambda name: (_RANK.index(name) if name in _RANK else len(_RANK), name))
    graphs = {precision: found[precision] for precision in ranked}
    data = {
        file: tuple(sorted(path for path in sizes if path.startswith((f"{file}_", f"{file}."))))
        for files in graphs.values()
        for file in files.values()
    }
    return Layout(graphs=graphs, data=data, sizes=dict(sizes))
