"""What tests share: the real test data, and bundles made once per run.

The export environment makes every bundle in ONNXPIPE_TEST_BUNDLES; the lean one, which has no torch, then finds them
there. A test whose data or bundle cannot be had is skipped with the reason.
"""

import importlib.util
import json
import os
import platform
from collections.abc import Callable
from pathlib import Path

# before torch is imported: threads that wait for each other cost tiny models more than they gain
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy
import onnxruntime
import pytest
import tokenizers

# the same examples in every run, and no clock: a slow machine is no failure
hypothesis.settings.register_profile("onnxpipe", derandomize=True, deadline=None)
hypothesis.settings.load_profile("onnxpipe")

ROOT = Path(__file__).resolve().parents[1]
CAN_EXPORT = importlib.util.find_spec("optimum") is not None


def pytest_report_header() -> str:
    return (
        f"onnxruntime {onnxruntime.__version__}, tokenizers {tokenizers.__version__}, numpy {numpy.__version__}, "
        f"{platform.machine()}, {'with' if CAN_EXPORT else 'without'} the export extra"
    )


@pytest.fixture(scope="session")
def test_data() -> Path:
    folder = Path(os.environ.get("ONNXPIPE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set ONNXPIPE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def texts(test_data: Path) -> list[str]:
    """Hard texts: the list of naughty strings, and a line in each of 87 scripts and languages."""
    naughty = json.loads((test_data / "text/naughty/blns.json").read_text(encoding="utf-8"))
    udhr = []
    for file in sorted((test_data / "text/udhr").glob("*.txt")):
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if len(line) > 40]
        udhr.append(lines[len(lines) // 2])
    return [
        *naughty,
        *udhr,
        "",
        " ",
        "\N{ZERO WIDTH JOINER}",
        "👩‍👩‍👧‍👦 👍🏽",
        "مرحبا بالعالم",
        "a" * 5000,
        "long text " * 2000,
    ]


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("ONNXPIPE_TEST_BUNDLES") or tmp_path_factory.mktemp("bundles"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def minilm_source() -> Path:
    """The folder of sentence-transformers/all-MiniLM-L6-v2, as on the hub."""
    given = os.environ.get("ONNXPIPE_MINILM")
    if given is None:
        pytest.skip("no MiniLM weights: `make test` brings them, or set ONNXPIPE_MINILM to the model's folder")
    return Path(given)


@pytest.fixture(scope="session")
def minilm_bundle(bundle_folder: Path, request: pytest.FixtureRequest) -> Path:
    """The real model as a bundle in fp32 and int8, made afresh where that is possible."""
    path = bundle_folder / "minilm"
    if CAN_EXPORT:
        from onnxpipe_export.export import export

        source = request.getfixturevalue("minilm_source")
        export(source, path, bundle_id="sentence-transformers/all-MiniLM-L6-v2", force=True)
    elif not path.is_dir():
        pytest.skip(f"no bundle at {path}: run the tests in the export environment first")
    return path


@pytest.fixture(scope="session")
def corpus(test_data: Path) -> list[str]:
    """Text in many scripts for training tiny tokenizers."""
    return [file.read_text(encoding="utf-8") for file in sorted((test_data / "text/udhr").glob("*.txt"))[::4]]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, corpus: list[str], test_data: Path) -> Callable[..., Path]:
    """Folders of tiny random models by family and head, each made once."""
    zoo = pytest.importorskip("zoo", reason="tiny models need the export extra")
    vision_zoo = pytest.importorskip("vision_zoo", reason="tiny models need the export extra")
    writer_zoo = pytest.importorskip("writer_zoo", reason="tiny models need the export extra")
    audio_zoo = pytest.importorskip("audio_zoo", reason="tiny models need the export extra")
    ctc_zoo = pytest.importorskip("ctc_zoo", reason="tiny models need the export extra")
    speech_zoo = pytest.importorskip("speech_zoo", reason="tiny models need the export extra")
    made: dict[str, Path] = {}

    def build(family: str, head: str, **config: object) -> Path:
        key = f"{family}-{head}-{json.dumps(config, sort_keys=True)}"
        if key not in made:
            folder = tmp_path_factory.mktemp(family) / "model"
            if head == audio_zoo.AUDIO_HEAD:
                made[key] = audio_zoo.build_audio_classifier(family, folder, **config)
            elif head == ctc_zoo.CTC_HEAD:
                made[key] = ctc_zoo.build_ctc_model(family, folder, **config)
            elif head == speech_zoo.SPEECH_HEAD:
                made[key] = speech_zoo.write_whisper(family, folder, test_data / "audio/whisper", **config)
            elif head in writer_zoo.WRITER_HEADS:
                made[key] = writer_zoo.build_writer(family, folder, corpus, **config)
            elif family in vision_zoo.VISION_ZOO:
                made[key] = vision_zoo.build_vision_model(family, head, folder, **config)
            else:
                made[key] = zoo.build_model(family, head, folder, corpus, **config)
        return made[key]

    return build


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model: Callable[..., Path]) -> Callable[..., Path]:
    """Their fp32 bundles."""

    def build(family: str, head: str, **config: object) -> Path:
        from onnxpipe_export.export import export

        source = tiny_model(family, head, **config)
        path = source.parent / "bundle"
        if not path.exists():
            export(source, path, precisions=["fp32"], bundle_id=f"tiny/{family}")
        return path

    return build


# task -> family, head and config of a tiny model that serves it
TASK_MODELS: dict[str, tuple[str, str, dict[str, object]]] = {
    "audio-classification": ("hubert-classifier", "ForAudioClassification", {}),
    "automatic-speech-recognition": ("wav2vec2", "ForCTC", {}),
    "feature-extraction": ("roberta", "", {}),
    "fill-mask": ("bert", "ForMaskedLM", {}),
    "image-classification": ("vit", "ForImageClassification", {}),
    "image-segmentation": ("detr-panoptic", "ForImageSegmentation", {}),
    "object-detection": ("yolos", "ForObjectDetection", {}),
    "question-answering": ("distilbert", "ForQuestionAnswering", {}),
    "table-question-answering": ("tapas", "ForTableQuestionAnswering", {}),
    "summarization": ("pegasus", "ForSeq2SeqLM", {}),
    "text-classification": ("xlm-roberta", "ForSequenceClassification", {}),
    "text-generation": ("llama", "ForCausalLM", {}),
    "token-classification": ("bert-cased", "ForTokenClassification", {}),
    "translation": ("m2m_100", "ForSeq2SeqLM", {}),
    "zero-shot-classification": (
        "bart",
        "ForSequenceClassification",
        {"id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"}, "num_labels": 3},
    ),
}


@pytest.fixture(scope="session")
def task_bundles(bundle_folder: Path, request: pytest.FixtureRequest) -> dict[str, Path]:
    """A tiny bundle for each task, served as "tiny/TASK", made afresh where that is possible."""
    bundles = {task: bundle_folder / "tasks" / task for task in TASK_MODELS}
    for task, (family, head, config) in TASK_MODELS.items():
        if CAN_EXPORT:
            from onnxpipe_export.export import export

            source = request.getfixturevalue("tiny_model")(family, head, **config)
            export(source, bundles[task], task=task, precisions=["fp32"], bundle_id=f"tiny/{task}", force=True)
        elif not bundles[task].is_dir():
            pytest.skip(f"no bundle at {bundles[task]}: run the tests in the export environment first")
    return bundles
