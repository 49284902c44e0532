"""The manifest's sections that a row asks for, each from the files of its kind."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onnxpipe.bundle import Graph
from onnxpipe.errors import OnnxpipeError, UnsupportedModel
from onnxpipe.hub.audio import audio_section, ctc_section
from onnxpipe.hub.graphs import fixed_size
from onnxpipe.hub.labels import classification_section
from onnxpipe.hub.rows import Section
from onnxpipe.hub.source import SourceModel
from onnxpipe.hub.text import embedding_section, text_section
from onnxpipe.hub.vision import detection_section, image_section, segmentation_section
from onnxpipe.records import Record


def make_sections(source: SourceModel, names: Sequence[Section], graph: Graph) -> dict[str, Any]:  # manifest fields
    """The manifest's sections of these names. Raises UnsupportedModel when the files do not tell."""
    made: Mapping[Section, Any] = {
        "text": lambda: text_section(source),
        "embedding": lambda: embedding_section(source),
        "classification": lambda: classification_section(source.config, of_sound="audio" in names),
        "image": lambda: image_section(source, fixed_size=fixed_size(graph)),
        "detection": lambda: detection_section(source),
        "segmentation": lambda: segmentation_section(source, [tensor.name for tensor in graph.outputs]),
        "audio": lambda: audio_section(source),
        "ctc": lambda: ctc_section(source),
    }
    sections: dict[str, Record] = {name: made[name]() for name in names}
    return sections


@contextlib.contextmanager
def following(name: str) -> Iterator[None]:
    """What reads a model's settings: files of other shapes than usual are UnsupportedModel too."""
    try:
        yield
    except OnnxpipeError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise UnsupportedModel(
            f"{name}: its settings cannot be followed ({type(error).__name__}: {error}); from the weights, "
            f"`onnxpipe export {name} OUT` may know more"
        ) from error
