"""What a ready-made graph takes and gives, in the manifest's words."""

import dataclasses
from collections.abc import Mapping

from onnxpipe.bundle import Convolved, Dim, Graph, Tensor
from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.audio import convolutions, takes_mask
from onnxpipe.hub.rows import Row
from onnxpipe.hub.source import SourceModel
from onnxpipe.hub.text import pads
from onnxpipe.session import Port, Session

# the exporters' axis names in the manifest's words
_AXES = {"batch_size": "batch", "sequence_length": "sequence"}


def describe_graph(session: Session, source: SourceModel, row: Row) -> Graph:
    """What a graph takes, and of what it gives the outputs the runtime reads. Raises UnsupportedModel without them.

    Pictures are never padded to share a run, nor sound that a model was not trained to see padded.
    """
    outputs = {port.name: port for port in session.outputs}
    names = next((names for names in row.outputs if outputs.keys() >= set(names)), None)
    if names is None:
        expected = ", or ".join(" and ".join(names) for names in row.outputs)
        raise UnsupportedModel(
            f"{source.name}: its graph gives {', '.join(outputs)}; for {row.task} expected are {expected}"
        )
    fills: dict[str, int | None] = {"pixel_values": None, "pixel_mask": None}
    if "text" in row.sections:
        fills |= pads(source)
    masked = any(port.name == "attention_mask" for port in session.inputs)
    if "audio" in row.sections and not (masked and takes_mask(source)):
        fills["input_values"] = None
    graph = Graph(
        inputs=tuple(_tensor(port, fills.get(port.name, 0)) for port in session.inputs),
        outputs=tuple(_tensor(outputs[name]) for name in names),
    )
    if "ctc" in row.sections:
        return _name_frames(graph, source.config)
    return _name_tokens(graph) if row.per_token else graph


def difference(graph: Graph, session: Session) -> str | None:
    """Why another precision's graph cannot stand for the described one; None when it can."""
    for kind, tensors, ports in (("takes", graph.inputs, session.inputs), ("gives", graph.outputs, session.outputs)):
        found = {port.name: port.dtype for port in ports}
        wanted = {tensor.name: tensor.dtype for tensor in tensors}
        missing = [name for name in wanted if name not in found]
        more = [name for name in found if name not in wanted] if kind == "takes" else []
        if missing or more:
            return f"it {kind} {', '.join(found)}, not {', '.join(wanted)}"
        # what is given is widened where it is read
        if kind == "takes" and (other := [name for name in wanted if found[name] != wanted[name]]):
            return f"it {kind} {other[0]} as {found[other[0]]}, not as {wanted[other[0]]}"
    return None


def fixed_size(graph: Graph) -> tuple[int, int] | None:
    """The only (height, width) of pictures a graph takes, when it takes but one."""
    shapes = [tensor.shape for tensor in graph.inputs if tensor.name == "pixel_values"]
    if not shapes:
        return None
    height, width = shapes[0][-2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def takes_batches(graph: Graph) -> bool:
    """Whether rows can share a run: every input and output has an axis of any size first."""
    return all(tensor.shape and isinstance(tensor.shape[0], str) for tensor in (*graph.inputs, *graph.outputs))


def _name_tokens(graph: Graph) -> Graph:
    """The graph, its outputs' second axis known as the inputs' own: not every exporter gives it a name."""
    batch, tokens = graph.inputs[0].shape
    named = (dataclasses.replace(tensor, shape=(batch, tokens, *tensor.shape[2:])) for tensor in graph.outputs)
    return dataclasses.replace(graph, outputs=tuple(named))


def _name_frames(graph: Graph, config: Mapping[str, object]) -> Graph:
    """The graph, its output's second axis known as what convolutions make of the samples."""
    (output,) = graph.outputs
    batch, _, *others = output.shape
    samples = next(tensor for tensor in graph.inputs if tensor.name == "input_values").shape[1]
    kernels, strides = convolutions(config)
    return Graph(
        inputs=graph.inputs,
        outputs=(dataclasses.replace(output, shape=(batch, "frames", *others)),),
        convolved={"frames": Convolved(of=str(samples), kernels=kernels, strides=strides)},
    )


def _tensor(port: Port, pad: int | None = 0) -> Tensor:
    shape: list[Dim] = [_AXES.get(axis, axis) if isinstance(axis, str) else axis for axis in port.shape]
    return Tensor(name=port.name, dtype=port.dtype, shape=tuple(shape), pad=pad)
