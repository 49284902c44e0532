"""The graphs of segmentation models: sizes to trace at, and what of Mask2Former a trace would take for constants."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from onnxpipe_export.classifier_patches import only_size
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.segmentation import HEADS

# Height and width that models are traced at where their processor makes several sizes. A trace keeps the padding of
# Swin's windows only where there is some: an odd multiple of 32 has it at every stage that can ever need it, with
# windows of 7 and 12, as released, and of any size that does not divide both 5 and 11.
_OPEN_SIZE = (160, 352)

_SEMANTIC = "ForSemanticSegmentation"
_MASKED = "ForSegmentation"  # these take a mask beside the pixels, which the exporter leaves out


@contextlib.contextmanager
def segmentation_options(loaded: Loaded) -> Iterator[dict[str, Any]]:  # keywords of onnx_export_from_model
    """What the exporter needs beside a model that segments images, patched while it does; nothing for other models.

    Where the processor makes pictures of one size only, the graph takes that: size arithmetic becomes constants.
    """
    model = loaded.model
    head = next((head for head in (*HEADS, _SEMANTIC) if type(model).__name__.endswith(head)), None)
    if loaded.image_processor is None or head is None:
        yield {}
        return
    size = only_size(loaded.image_processor)
    settings = copy.copy(model.config)
    settings.image_size = size or _OPEN_SIZE  # of what is traced; the model itself was built with its own
    outputs = HEADS[head].outputs if head in HEADS else ("logits",)
    config = _config(settings, outputs, open_size=size is None, masked=head == _MASKED)
    with _open_points() if model.config.model_type == "mask2former" else contextlib.nullcontext():
        yield {"custom_onnx_configs": {"model": config}}


def _config(settings: Any, names: tuple[str, ...], *, open_size: bool, masked: bool) -> Any:  # optimum is untyped here
    from optimum.exporters.onnx.model_configs import ViTOnnxConfig

    size = ("height", "width") if open_size else ()

    class Segmenter(ViTOnnxConfig):  # type: ignore[misc]  # as above
        """Inputs and outputs with their axes."""

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """Pixels (B, C, H, W), and maybe a mask (B, H, W) with ones where they are a picture's."""
            pixels = {"pixel_values": {0: "batch_size", **dict(enumerate(size, 2))}}
            return pixels | ({"pixel_mask": {0: "batch_size", **dict(enumerate(size, 1))}} if masked else {})

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            """Logits of queries (B, Q, C), and last the masks of queries or of labels (B, Q or C, h, w)."""
            axes = {name: {0: "batch_size"} for name in names}
            return axes | {names[-1]: {0: "batch_size", 2: "mask_height", 3: "mask_width"}}

    return Segmenter(settings, task="image-segmentation")


@contextlib.contextmanager
def _open_points() -> Iterator[None]:
    """Mask2Former's deformable attention with a grid of points that follows the size of the picture.

    Its own makes fractions of offsets with a constant tensor of the traced sizes, and a range that has no step where a
    level is one pixel high. Points that have a size of their own, as those of boxes, take it instead of that tensor.
    """
    from transformers.models.mask2former import modeling_mask2former as module

    encoder = module.Mask2FormerPixelDecoderEncoderOnly
    own = vars(encoder)["get_reference_points"]
    encoder.get_reference_points = staticmethod(_reference_points)
    try:
        yield
    finally:
        encoder.get_reference_points = own


# points of each head, query and level; the attention halves sizes and divides them by this
_POINTS = 4


def _reference_points(sizes: list[tuple[Any, Any]], ratios: Any, device: Any) -> Any:  # sizes of the levels L, tensors
    """Centres and sizes (B, T, L, 4) of the T pixels of all levels, in fractions of the picture.

    `ratios` (B, L, 2) say how much of a level is no padding; here there is none, they are all 1.
    """
    import torch

    centers, extents = [], []
    for height, width in sizes:
        rows = (torch.arange(height, device=device) + 0.5) / height
        columns = (torch.arange(width, device=device) + 0.5) / width
        down, across = torch.meshgrid(rows, columns, indexing="ij")
        centers.append(torch.stack([across, down], dim=-1).flatten(0, 1))
        # tensors in a trace, and numbers otherwise
        extents.append(torch.stack([torch.as_tensor(2.0 * _POINTS / edge) for edge in (width, height)]))
    points = torch.cat(centers)[None, :, None].expand(ratios.shape[0], -1, len(sizes), -1)
    return torch.cat([points, torch.stack(extents).expand(points.shape)], dim=-1)
