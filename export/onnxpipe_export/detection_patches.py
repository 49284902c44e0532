"""The graphs of detectors that the exporter does not know, or would give no mask."""

from typing import Any

# Models that take a mask beside the pixels. The exporter knows DETR and the table transformer, but leaves the mask out:
# a graph without it takes the filling of a padded picture for a part of it, and says nothing.
_MASKED = (
    "ConditionalDetrForObjectDetection",
    "DabDetrForObjectDetection",
    "DetrForObjectDetection",
    "TableTransformerForObjectDetection",
)


def detection_options(model: Any) -> dict[str, Any]:  # a torch module: torch is untyped here
    """The exporter's options for a detector's graph with a mask; none for other models."""
    return {"custom_onnx_configs": {"model": _masked_config(model)}} if type(model).__name__ in _MASKED else {}


def _masked_config(model: Any) -> Any:  # optimum is untyped here
    from optimum.exporters.onnx.model_configs import DetrOnnxConfig

    class MaskedDetector(DetrOnnxConfig):  # type: ignore[misc]  # as above
        """Inputs and outputs with their axes."""

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """Pixels (B, C, H, W), and a mask (B, H, W) with ones where they are a picture's."""
            return {
                "pixel_values": {0: "batch_size", 2: "height", 3: "width"},
                "pixel_mask": {0: "batch_size", 1: "height", 2: "width"},
            }

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            """Logits (B, Q, C) and boxes (B, Q, 4) of as many queries as the weights have."""
            return {"logits": {0: "batch_size"}, "pred_boxes": {0: "batch_size"}}

    return MaskedDetector(model.config, task="object-detection")
