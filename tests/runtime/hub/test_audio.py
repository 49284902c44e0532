import json

import pytest

pytest.importorskip("transformers", reason="the reference needs the export extra")
import transformers

from audio_zoo import AUDIO_HEAD, AUDIO_ZOO
from ctc_zoo import CTC_HEAD, CTC_ZOO
from onnxpipe.errors import UnsupportedModel
from onnxpipe.hub.audio import audio_section, ctc_section, takes_mask
from onnxpipe.hub.source import SourceModel
from onnxpipe_export import audio, audio_patches, ctc
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.source import find_model

pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")


def loaded(source):
    config = transformers.AutoConfig.from_pretrained(source.folder)
    model = type("Model", (), {"config": config})
    return Loaded(source, model, feature_extractor=audio.load_feature_extractor(source))


@pytest.mark.parametrize(
    ("family", "head"), [(name, AUDIO_HEAD) for name in AUDIO_ZOO] + [(name, CTC_HEAD) for name in CTC_ZOO]
)
def test_every_familys_sound_is_made_as_at_export(family, head, tiny_model):
    source = find_model(str(tiny_model(family, head)))
    parts = loaded(source)
    assert audio_section(source) == audio.audio_section(source, parts.feature_extractor, parts.model.config)
    assert takes_mask(source) == audio_patches.takes_mask(parts)


@pytest.mark.parametrize("family", CTC_ZOO)
def test_every_familys_letters_are_read_as_at_export(family, tiny_model):
    source = find_model(str(tiny_model(family, CTC_HEAD)))
    assert ctc_section(source) == ctc.ctc_section(source, loaded(source).model)


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer": {"do_lower_case": True, "word_delimiter_token": " ", "replace_word_delimiter_char": "_"}},
        {"vocabulary": {"[PAD]": 0, "[UNK]": 1, "|": 2, "a": 3}, "vocab_size": 6}
        | {"tokenizer": {"pad_token": "[PAD]", "unk_token": "[UNK]", "clean_up_tokenization_spaces": True}},
    ],
)
def test_a_tokenizers_settings_are_kept(settings, tiny_model):
    source = find_model(str(tiny_model("wav2vec2", CTC_HEAD, **settings)))
    assert ctc_section(source) == ctc.ctc_section(source, loaded(source).model)


@pytest.fixture
def write(tmp_path):
    """Writes files; returns the source."""

    def make(config=None, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return SourceModel(tmp_path, "org/model", None, config or {})

    return make


@pytest.mark.parametrize(
    ("kind", "config"),
    [("Wav2Vec2", "Wav2Vec2Config"), ("AST", "ASTConfig"), ("Whisper", "WhisperConfig")],
)
def test_what_the_files_do_not_say_is_the_extractors_own(kind, config, write):
    source = write(preprocessor_config={"feature_extractor_type": f"{kind}FeatureExtractor"})
    extractor = getattr(transformers, f"{kind}FeatureExtractor")()
    assert audio_section(source) == audio.audio_section(source, extractor, getattr(transformers, config)())


def test_an_extractor_that_does_not_fit_its_model_is_unsupported(write):
    source = write({"max_length": 512}, preprocessor_config={"feature_extractor_type": "ASTFeatureExtractor"})
    with pytest.raises(UnsupportedModel, match="1024 frames of 128 bins, where the model takes 512 of 128"):
        audio_section(source)


def test_an_unknown_extractor_is_unsupported_and_the_known_are_named(write):
    source = write(preprocessor_config={"feature_extractor_type": "SeamlessM4TFeatureExtractor"})
    with pytest.raises(UnsupportedModel, match="SeamlessM4TFeatureExtractor is not supported; supported are: AST"):
        audio_section(source)


@pytest.mark.parametrize(
    ("config", "files", "problem"),
    [
        ({}, {}, "no vocab.json"),
        ({}, {"vocab": {"eng": {"a": 0}}}, "a vocabulary for each language is not supported"),
        (
            {},
            {"vocab": {"a": 0}, "tokenizer_config": {"target_lang": "eng"}},
            "a vocabulary for each language is not supported",
        ),
        ({"add_adapter": True}, {"vocab": {"a": 0}}, "an adapter behind the encoder is not supported"),
    ],
)
def test_models_that_spell_in_other_ways_are_told(config, files, problem, write):
    with pytest.raises(UnsupportedModel, match=problem):
        ctc_section(write(config, **files))
