"""What single architectures need beside what optimum-onnx 0.1.0 knows of them: one row each, with its reason."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from onnxpipe_export.audio_patches import audio_options
from onnxpipe_export.classifier_patches import classifier_options
from onnxpipe_export.detection_patches import detection_options
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.segmentation_patches import segmentation_options

# Tasks whose heads came into transformers after the exporter's table was written; inputs are those of the other tasks.
_MISSING_TASKS = {"modernbert": ("question-answering",)}


def _pool_at_last_end(model: Any) -> Callable[..., Any]:  # a torch module and its forward: torch is untyped here
    """A forward that takes each row's hidden state at its own last end token.

    transformers' own selects all end tokens of a batch and reshapes, which needs equally many in every row: it checks
    that and raises, but the check is lost in a graph, and a text beside a pair would silently get a mix of both.
    """
    import torch
    from transformers.modeling_outputs import Seq2SeqSequenceClassifierOutput

    def forward(input_ids: Any, attention_mask: Any) -> Any:  # (B, T) -> logits (B, C)
        hidden = model.model(input_ids, attention_mask=attention_mask, use_cache=False)[0]
        rows, positions = (torch.arange(size, device=input_ids.device) for size in input_ids.shape)
        last = (input_ids.eq(model.config.eos_token_id) * positions).amax(dim=1)
        return Seq2SeqSequenceClassifierOutput(logits=model.classification_head(hidden[rows, last]))

    return forward


def _reduce_segments(values: Any, index: Any, how: str, _: str) -> tuple[Any, Any]:  # tensors and indices of TAPAS
    """Values (B, T) reduced to those of their segments (B, S), and an index of these, for batches of any size.

    transformers' own lays the batch out in one row, whose length the trace takes for a constant, and leaves the start
    out of the reduction, which ONNX cannot. Here the start changes nothing, and is what empty segments get.
    """
    import torch
    from transformers.models.tapas.modeling_tapas import IndexMap

    segments, shape = index.indices.long(), (values.shape[0], int(index.num_segments))
    if how in ("amin", "amax"):
        start = values.amax(dim=1, keepdim=True) if how == "amin" else values.amin(dim=1, keepdim=True)
        reduced = start.repeat(1, shape[1]).scatter_reduce(1, segments, values, how)
    else:
        reduced = values.new_zeros(shape).scatter_add(1, segments, values)
        if how == "mean":
            counts = values.new_zeros(shape).scatter_add(1, segments, torch.ones_like(values))
            reduced = reduced / counts.clamp(min=1)
    return reduced, IndexMap(torch.arange(shape[1]).repeat(shape[0], 1), shape[1], batch_dims=1)


_FORWARDS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "BartForSequenceClassification": _pool_at_last_end,
    "MBartForSequenceClassification": _pool_at_last_end,
}

# Functions of a module that are replaced while its classes are traced.
_FUNCTIONS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "TapasForQuestionAnswering": ("transformers.models.tapas.modeling_tapas", "_segment_reduce", _reduce_segments),
}


@contextlib.contextmanager
def patched(loaded: Loaded) -> Iterator[dict[str, Any]]:
    """The model as it is to be traced, and options the exporter needs for it; as it was afterwards."""
    _register_missing_tasks()
    _register_tables()
    model = loaded.model
    name = type(model).__name__
    with contextlib.ExitStack() as undo:
        if name in _FORWARDS:
            model.forward = _FORWARDS[name](model)
            undo.callback(delattr, model, "forward")
        if name in _FUNCTIONS:
            module_name, function, replacement = _FUNCTIONS[name]
            module = importlib.import_module(module_name)
            undo.callback(setattr, module, function, getattr(module, function))
            setattr(module, function, replacement)
        options = undo.enter_context(segmentation_options(loaded))
        yield {**options, **detection_options(model), **classifier_options(loaded), **audio_options(loaded)}


def _register_missing_tasks() -> None:
    import optimum.exporters.onnx.model_configs  # noqa: F401  # fills the table
    from optimum.exporters.tasks import TasksManager

    for model_type, tasks in _MISSING_TASKS.items():
        known = TasksManager.get_exporter_config_constructor("onnx", model_type=model_type, library_name="transformers")
        TasksManager.create_register("onnx")(model_type, *tasks)(known.func)


def _register_tables() -> None:
    """TAPAS, which the exporter does not know: seven type ids for each token, and aggregations in some models."""
    from optimum.exporters.onnx.model_configs import BertOnnxConfig
    from optimum.exporters.tasks import TasksManager
    from optimum.utils import DummyTextInputGenerator

    class TableInputs(DummyTextInputGenerator):  # type: ignore[misc]  # optimum is untyped here
        """What a trace is fed: as for other texts, but with a last axis for the type ids."""

        def generate(
            self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
        ) -> Any:  # a tensor or an array
            """One input's values."""
            if input_name != "token_type_ids":
                return super().generate(input_name, framework, int_dtype, float_dtype)
            shape = [self.batch_size, self.sequence_length, len(self.normalized_config.config.type_vocab_sizes)]
            return self.random_int_tensor(shape, 2, framework=framework, dtype=int_dtype)

    @TasksManager.create_register("onnx")("tapas", "token-classification")
    class TableConfig(BertOnnxConfig):  # type: ignore[misc]  # as above
        """Inputs and outputs with their axes."""

        DUMMY_INPUT_GENERATOR_CLASSES = (TableInputs,)

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            """Scores of tokens, and of aggregations where the model has any."""
            outputs = {"logits": {0: "batch_size", 1: "sequence_length"}}
            if self._config.num_aggregation_labels:
                outputs["logits_aggregation"] = {0: "batch_size"}
            return outputs
