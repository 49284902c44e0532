import dataclasses
from pathlib import Path

import numpy as np
import pytest

from onnxpipe.audio.waveform import Audio as Sound
from onnxpipe.bundle import Graph, Tensor, open_bundle
from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Audio, Mel

pytest.importorskip("optimum", reason="needs the export extra")
import transformers

from audio_zoo import AUDIO_HEAD, AUDIO_ZOO
from onnxpipe.verification.sounds import SOUNDS
from onnxpipe_export.audio import audio_section, check_sound, load_feature_extractor
from onnxpipe_export.export import export
from onnxpipe_export.recipes import choose_recipe
from onnxpipe_export.source import SourceModel, find_model

pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")


SOURCE = SourceModel(Path(), "acme/ears", None, {})


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    return SourceModel(tmp_path, "acme/ears", None, {})


def waveform_section(**config: object) -> Audio:
    return audio_section(SOURCE, transformers.Wav2Vec2FeatureExtractor(), transformers.Wav2Vec2Config(**config))


def test_samples_of_wav2vec2_are_normalised_and_enough_for_one_frame():
    section = waveform_section()
    assert (section.sampling_rate, section.normalize, section.min_samples, section.mel) == (16_000, True, 400, None)
    # a gigabyte of attention: 12 heads of 4729 frames, 320 samples each
    assert section.max_samples == 4729 * 320


def test_fewer_convolutions_need_fewer_samples():
    section = waveform_section(
        conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2), num_attention_heads=1, hidden_size=8
    )
    assert section.min_samples == (3 - 1) * 5 + 10
    assert section.max_samples == 16_384 * 10


def test_an_extractors_settings_are_kept():
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False, sampling_rate=8_000)
    section = audio_section(SOURCE, extractor, transformers.Wav2Vec2Config())
    assert (section.sampling_rate, section.normalize) == (8_000, False)


def test_spectra_of_ast_have_kaldis_filters_and_half_its_deviation():
    section = audio_section(SOURCE, transformers.ASTFeatureExtractor(), transformers.ASTConfig())
    assert section.mel == Mel(
        bins=128,
        fft_length=512,
        remove_offset=True,
        preemphasis=0.97,
        periodic=False,
        scale="kaldi",
        min_frequency=20.0,
        max_frequency=8000.0,
        triangles="mel",
        floor=1.192092955078125e-07,
    )
    assert (section.frames, section.mean, section.std) == (1024, -4.2677393, 2 * 4.5689974)
    plain = audio_section(SOURCE, transformers.ASTFeatureExtractor(do_normalize=False), transformers.ASTConfig())
    assert (plain.mean, plain.std) == (0.0, 1.0)


def test_spectra_of_whisper_last_half_a_minute():
    extractor = transformers.WhisperFeatureExtractor(feature_size=128)
    section = audio_section(SOURCE, extractor, transformers.WhisperConfig())
    assert (section.samples, section.dynamic_range, section.bins_first, section.drop_last) == (480_000, 8.0, True, True)
    assert section.mel == Mel(bins=128, centered=True, equal_areas=True, log="log10")


def test_an_extractor_that_does_not_fit_its_model_is_unsupported(source: SourceModel):
    config = transformers.ASTConfig(max_length=512)
    with pytest.raises(UnsupportedModel, match="1024 frames of 128 bins, where the model takes 512 of 128"):
        audio_section(source, transformers.ASTFeatureExtractor(), config)


def test_an_unknown_extractor_is_unsupported_and_the_known_are_named(source: SourceModel):
    with pytest.raises(
        UnsupportedModel, match="SeamlessM4TFeatureExtractor is not supported; supported are: AST, Wav2"
    ):
        audio_section(source, transformers.SeamlessM4TFeatureExtractor(), transformers.WhisperConfig())


def test_a_model_without_an_extractor_is_unsupported(source: SourceModel):
    with pytest.raises(UnsupportedModel, match="transformers cannot load its feature extractor"):
        load_feature_extractor(source)


def test_the_sounds_are_of_several_kinds_and_mono_after_reading():
    lengths = {len(Sound.read(sound).samples(16_000)) for sound in SOUNDS}
    assert len(lengths) == 5
    assert max(map(len, SOUNDS[:1])) < 40_000  # it goes into the manifest


GRAPH = Graph(
    inputs=(Tensor(name="input_features", dtype="float32", shape=("batch", 80, 3000)),),
    outputs=(Tensor(name="logits", dtype="float32", shape=("batch", 2)),),
)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"drop_last": False, "frames": 3000}, None),
        ({"dynamic_range": 7.0}, "the features of sound 0 are off by"),
        ({"mel": Mel(bins=80, centered=True, equal_areas=True, log="ln")}, "the features of sound 0 are off by"),
    ],
)
def test_features_that_are_not_the_references_are_not_written(change: dict[str, object], problem: str | None):
    extractor = transformers.WhisperFeatureExtractor()
    section = dataclasses.replace(audio_section(SOURCE, extractor, transformers.WhisperConfig()), **change)
    if problem is None:
        check_sound(section, GRAPH, extractor, SOUNDS, "acme/whisper")
        return
    with pytest.raises(UnsupportedModel, match=f"acme/whisper: {problem}"):
        check_sound(section, GRAPH, extractor, SOUNDS, "acme/whisper")


def test_sound_that_is_not_librosas_is_not_written(monkeypatch: pytest.MonkeyPatch):
    import onnxpipe_export.audio

    extractor = transformers.WhisperFeatureExtractor()
    section = audio_section(SOURCE, extractor, transformers.WhisperConfig())
    monkeypatch.setattr(onnxpipe_export.audio, "_load_by_librosa", lambda *_: np.zeros(5, np.float32))
    with pytest.raises(UnsupportedModel, match="sound 0 is decoded differently from librosa"):
        check_sound(section, GRAPH, extractor, SOUNDS, "acme/whisper")
    monkeypatch.setattr(onnxpipe_export.audio, "_librosa_filters", lambda *_: np.zeros((80, 201)))
    with pytest.raises(UnsupportedModel, match="the mel filters differ from librosa's"):
        check_sound(section, GRAPH, extractor, SOUNDS, "acme/whisper")


@pytest.mark.parametrize("family", AUDIO_ZOO)
def test_classifiers_of_sound_are_told_from_those_of_texts(family: str, tiny_model):
    source = find_model(str(tiny_model(family, AUDIO_HEAD)), None)
    assert choose_recipe(source, None).task == "audio-classification"


MASKED = {"wav2vec2-stable-classifier", "wavlm-stable-classifier"}


@pytest.mark.parametrize("family", AUDIO_ZOO)
def test_only_models_that_a_mask_keeps_apart_from_padding_have_one(family: str, tiny_bundle):
    manifest = open_bundle(tiny_bundle(family, AUDIO_HEAD)).manifest
    inputs = {tensor.name: tensor for tensor in manifest.graphs["model"].inputs}
    assert ("attention_mask" in inputs) == (family in MASKED)
    assert manifest.variants["fp32"].batch_invariant
    if "input_values" in inputs:
        assert inputs["input_values"].pad == (0 if family in MASKED else None)
    assert (tiny_bundle(family, AUDIO_HEAD) / "preprocessor_config.json").is_file()


@pytest.mark.parametrize("family", ["wav2vec2-classifier", "ast"])
def test_int8_keeps_convolutions_in_float(family: str, tiny_model, tmp_path: Path):
    import onnx

    report = export(tiny_model(family, AUDIO_HEAD), tmp_path / "bundle", precisions=["fp32", "int8"])
    assert [outcome.precision for outcome in report.outcomes if not outcome.problems] == ["fp32", "int8"]
    nodes = [node.op_type for node in onnx.load(tmp_path / "bundle/onnx/model_int8.onnx").graph.node]
    assert "MatMulInteger" in nodes
    assert "Conv" in nodes
    assert "ConvInteger" not in nodes
