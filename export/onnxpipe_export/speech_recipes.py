"""The models that write down what they hear."""

from onnxpipe.verification.sounds import SOUNDS
from onnxpipe_export.recipe import TOKENS, Recipe

SPEECH_RECIPES = (
    Recipe(
        task="automatic-speech-recognition",
        architectures=("WhisperForConditionalGeneration",),
        sections=("text", "audio", "generation", "transcription"),
        auto_class="AutoModelForSpeechSeq2Seq",
        exporter_task="automatic-speech-recognition",
        exporter="generation",
        judge="tokens",
        samples=SOUNDS,
        # greedy, and few: what was verified before is only recognised by them
        golden_parameters={"generation_parameters": {"temperature": 0, "num_beams": 1, "max_new_tokens": 5}},
        tolerance=TOKENS,
        # texts are the same or not
        golden_tolerance=dict.fromkeys(TOKENS, 0.0),
    ),
)
