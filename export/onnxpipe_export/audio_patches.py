"""The graphs of models that read sound: with a mask where sounds of different lengths may share a run."""

from typing import Any

from onnxpipe_export.loaded import Loaded


def takes_mask(loaded: Loaded) -> bool:
    """Whether a model was trained with a mask, and with it answers padded sound as it does the sound alone.

    Those that normalise each channel over time do not, for there the padding counts; nor data2vec's, whose convolutions
    for positions carry it back into the sound (a random one's logits move by 7 %).
    """
    extractor, config = loaded.feature_extractor, loaded.model.config
    return (
        type(extractor).__name__ == "Wav2Vec2FeatureExtractor"
        and extractor.return_attention_mask
        and getattr(config, "feat_extract_norm", None) == "layer"
    )


def audio_options(loaded: Loaded) -> dict[str, Any]:
    """The exporter's options for a graph with a mask; none for models without."""
    if loaded.feature_extractor is None or not takes_mask(loaded):
        return {}
    return {"custom_onnx_configs": {"model": _masked_config(loaded.model)}}


def _masked_config(model: Any) -> Any:  # a torch module, and an OnnxConfig: optimum is untyped here
    from optimum.exporters.tasks import TasksManager
    from optimum.utils import DummyAudioInputGenerator

    task = "automatic-speech-recognition" if type(model).__name__.endswith("ForCTC") else "audio-classification"
    known = TasksManager.get_exporter_config_constructor("onnx", model=model, task=task, library_name="transformers")

    class MaskedInputs(DummyAudioInputGenerator):  # type: ignore[misc]  # as above
        """What a trace is fed: sound, and a mask that leaves the ends of rows out."""

        SUPPORTED_INPUT_NAMES = ("input_values", "attention_mask")

        def generate(
            self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
        ) -> Any:  # a tensor or an array
            """One input's values."""
            if input_name != "attention_mask":
                return super().generate(input_name, framework, int_dtype, float_dtype)
            shape = [self.batch_size, self.sequence_length]
            return self.random_mask_tensor(shape, padding_side="right", framework=framework, dtype=int_dtype)

    class MaskedConfig(known.func):  # type: ignore[misc, name-defined]  # as above
        """Inputs with their axes."""

        DUMMY_INPUT_GENERATOR_CLASSES = (MaskedInputs,)

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            """Sound (B, N), and a mask (B, N) with ones where it is not padded."""
            axes = {0: "batch_size", 1: "sequence_length"}
            return {"input_values": axes, "attention_mask": axes}

    return MaskedConfig(model.config, task=task)
