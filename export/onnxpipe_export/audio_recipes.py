"""The tasks on sound: one row each."""

from onnxpipe.verification.sounds import SOUNDS
from onnxpipe_export.recipe import CHOICES, SCORES, Recipe

# Classifiers of text have the end of these names too.
_CLASSIFIERS = (
    "ASTForAudioClassification",
    "Data2VecAudioForSequenceClassification",
    "HubertForSequenceClassification",
    "SEWForSequenceClassification",
    "UniSpeechForSequenceClassification",
    "UniSpeechSatForSequenceClassification",
    "Wav2Vec2ForSequenceClassification",
    "WavLMForSequenceClassification",
    "WhisperForAudioClassification",
)

AUDIO_RECIPES = (
    Recipe(
        task="audio-classification",
        architectures=_CLASSIFIERS,
        sections=("audio", "classification"),
        auto_class="AutoModelForAudioClassification",
        exporter_task="audio-classification",
        judge="scores",
        samples=SOUNDS,
        tolerance=SCORES,
    ),
    Recipe(
        task="automatic-speech-recognition",
        architectures=("ForCTC",),
        sections=("audio", "ctc"),
        auto_class="AutoModelForCTC",
        exporter_task="automatic-speech-recognition",
        judge="choices",
        samples=SOUNDS,
        tolerance=CHOICES,
    ),
)
