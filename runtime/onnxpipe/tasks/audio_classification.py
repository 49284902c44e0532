"""audio-classification: labels with scores for a sound.

Models: Wav2Vec2, HuBERT, WavLM, data2vec-audio and their kin, which read samples; AST and Whisper, which read spectra.
Reference: transformers 4.57.6 AudioClassificationPipeline given what librosa 0.11 decodes. Differences: five labels by
default; regressions and single labels are not put through a softmax; a sound that lasts longer than attention has
memory for is cut, with a warning.
"""

import dataclasses
import functools

from onnxpipe.audio.features import FeatureReader, require_audio
from onnxpipe.audio.waveform import Audio
from onnxpipe.labels import FUNCTION_DESCRIPTION, Function, Label, require_labels, scored_labels
from onnxpipe.pipeline import Model, Pipeline, Work
from onnxpipe.records import Record, parameter
from onnxpipe.session import Arrays


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    """How many labels come back, and what turns logits into scores."""

    top_k: int | None = parameter(5, ge=1, description="How many labels come back; null means all.")
    function_to_apply: Function | None = parameter(None, description=FUNCTION_DESCRIPTION)


class AudioClassification(Pipeline[Audio, Parameters, list[Label]]):
    """Labels by falling score; scores are in [0, 1] except for regressions and `function_to_apply="none"`.

    >>> onnxpipe.load("classifier")("stop.wav", top_k=2)
    [Label(label='stop', score=0.9993288516998291), Label(label='two', score=0.0003749597235582769)]
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._classification = require_labels(model.bundle.manifest)
        self._section = require_audio(model.bundle.manifest)
        self._reader = FeatureReader(self._section, model.graph())
        self._output = model.graph().outputs[0].name

    def preprocess(self, inputs: Audio, parameters: Parameters) -> Work[list[Label]]:
        """One row: the sound's samples or energies."""
        samples, cut = self._reader.read(inputs)
        rate = self._section.sampling_rate
        warning = f"only the first {len(samples) / rate:.0f} s were read: this model takes no more at once"
        return Work(
            [self._reader.row(samples)],
            functools.partial(self.postprocess, parameters=parameters),
            warnings=(warning,) if cut else (),
        )

    def postprocess(self, outputs: list[Arrays], parameters: Parameters) -> list[Label]:
        """Logits (C,) to scored labels."""
        logits = outputs[0][self._output]
        return scored_labels(logits, self._classification, parameters.function_to_apply, parameters.top_k)
