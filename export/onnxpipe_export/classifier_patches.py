"""Image classifiers are exported at the one size that their image processor makes; only the batch varies."""

import copy
from typing import Any

from PIL import Image

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.loaded import Loaded

_TASK = "image-classification"
_CLASSES = ("ForImageClassification", "ForImageClassificationWithTeacher")

# (width, height): wide, tall, square, larger than most models' own size and smaller
_PROBES = ((97, 61), (61, 97), (80, 80), (900, 700), (12, 12))


def classifier_options(loaded: Loaded) -> dict[str, Any]:  # keywords of onnx_export_from_model, which has no types
    """What the exporter needs beside the model when it classifies images; nothing for other models.

    A trace takes for constants whatever a model works out in Python from its input's size: the padding that MobileNet
    has from TensorFlow, the windows of Swin, the patches of MobileViT. At the processor's own size they are right. It
    also lets onnxruntime join that padding with the convolutions behind it, without which these gain nothing from
    integers. Where the processor makes several sizes the axes stay open, as the exporter has them, and verification
    finds what is wrong with that. Raises UnsupportedModel where the exporter has them closed.
    """
    model = loaded.model
    if loaded.image_processor is None or not type(model).__name__.endswith(_CLASSES):
        return {}
    known = _known_config(model)
    if known is None:
        return {}
    size = only_size(loaded.image_processor)
    if size is None:
        if len(known(model.config, task=_TASK).inputs["pixel_values"]) == 1:
            raise UnsupportedModel(
                f"{loaded.source.name}: its image processor makes pictures of several sizes, but "
                f"{type(model).__name__} can only be exported for one: give it do_center_crop and crop_size in "
                "preprocessor_config.json"
            )
        return {}
    settings = copy.copy(model.config)
    settings.image_size = size  # that of what is traced; the model itself was built with its own
    return {"custom_onnx_configs": {"model": _with_one_open_axis(known)(settings, task=_TASK)}}


def only_size(processor: Any) -> tuple[int, int] | None:  # a slow image processor of transformers
    """The (height, width) of every picture that a processor makes, or None when they differ."""
    sizes = {processor(Image.new("RGB", probe), return_tensors="np")["pixel_values"].shape[-2:] for probe in _PROBES}
    return sizes.pop() if len(sizes) == 1 else None


def _known_config(model: Any) -> Any:  # a class of optimum, which is untyped here
    """The exporter's configuration class for an architecture; None when it has none, which it then says itself."""
    import optimum.exporters.onnx.model_configs  # noqa: F401  # fills the table
    from optimum.exporters.tasks import TasksManager

    try:
        return TasksManager.get_exporter_config_constructor(
            "onnx", model=model, task=_TASK, library_name="transformers"
        ).func
    except (KeyError, ValueError):
        return None


def _with_one_open_axis(known: Any) -> Any:  # as above
    class FixedSize(known):  # type: ignore[misc]  # as above
        """The architecture's configuration with a batch of any size, and pictures of one."""

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """Each input's open axes."""
            return {name: {0: axes[0]} for name, axes in super().inputs.items()}

    return FixedSize
