"""The tasks on sound: one row each."""

from onnxpipe.hub.rows import SOUND_CLASSIFIERS
from onnxpipe.verification.sounds import SOUNDS
from onnxpipe_export.recipe import CHOICES, SCORES, Recipe

AUDIO_RECIPES = (
    Recipe(
        task="audio-classification",
        architectures=SOUND_CLASSIFIERS,
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
