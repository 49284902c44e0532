import dataclasses
import itertools
import shutil

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

import onnxpipe
from onnxpipe.bundle import FileEntry, Graph, Tensor, open_bundle, sha256, write_manifest
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.tasks.token_classification import Entity, Parameters, Token, TokenClassification

# the tiny model gives each token these probabilities, wherever it stands
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TOKENS = {
    "[PAD]": (0.0, 0.0, 1.0, 0.0, 0.0),
    "[UNK]": (0.1, 0.1, 0.1, 0.6, 0.1),
    "[CLS]": (0.0, 0.0, 1.0, 0.0, 0.0),
    "[SEP]": (0.0, 0.0, 1.0, 0.0, 0.0),
    "in": (0.9, 0.1, 0.0, 0.0, 0.0),
    ",": (0.6, 0.0, 0.4, 0.0, 0.0),
    "anna": (0.2, 0.8, 0.0, 0.0, 0.0),
    "smith": (0.3, 0.1, 0.6, 0.0, 0.0),
    "new": (0.2, 0.0, 0.0, 0.7, 0.1),
    "york": (0.1, 0.0, 0.0, 0.0, 0.9),
    "ra": (0.0, 0.55, 0.0, 0.45, 0.0),
    "##ma": (0.0, 0.2, 0.0, 0.0, 0.8),
    "##z": (0.0, 0.1, 0.3, 0.6, 0.0),
    "##s": (0.5, 0.2, 0.1, 0.1, 0.1),
}
TEXT = "Anna Smith in New York, Ramaz"


def make_tokenizer(*, marked):
    """Lower-case WordPiece; without `marked` one token per word or sign, and nothing that marks what goes on."""
    ids = {token: index for index, token in enumerate(TOKENS)}
    model = models.WordPiece(ids, unk_token="[UNK]") if marked else models.WordLevel(ids, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece() if marked else None
    special = [(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


@pytest.fixture
def load(classification_bundle, write_model, port, node):
    """Loads the tiny model; keywords are fields of the manifest's Text."""

    def make(*, labels=LABELS, marked=True, dtype="float32", **text):
        text = {"special_tokens": {"unk_token": "[UNK]"}, **text}
        folder = classification_bundle(labels=labels, tasks=["token-classification"], text=text)
        manifest = open_bundle(folder).manifest
        ids, logits = port("input_ids", "int64", ("batch", "sequence")), port("logits", dtype, ("batch", "sequence", 5))
        table = np.log(np.maximum(list(TOKENS.values()), 1e-30)).astype(dtype)
        file = write_model([node("Gather", ("table", "input_ids"), "logits")], [ids], [logits], table=table)
        shutil.copy(file, folder / "onnx/model.onnx")
        make_tokenizer(marked=marked).save(str(folder / "tokenizer.json"))
        tensors = [Tensor(name=item.name, dtype=item.dtype, shape=item.shape) for item in (ids, logits)]
        paths = {name: folder / name for name in manifest.files}
        files = {name: FileEntry(size_bytes=path.stat().st_size, sha256=sha256(path)) for name, path in paths.items()}
        graphs = {"model": Graph(inputs=tuple(tensors[:1]), outputs=tuple(tensors[1:]))}
        write_manifest(folder, dataclasses.replace(manifest, graphs=graphs, files=files))
        return onnxpipe.load(folder, threads=1)

    return make


def entity(group, score, word, start, end):
    return Entity(group, pytest.approx(score, abs=1e-6), word, start, end)


def test_neighbours_with_one_tag_are_an_entity_by_default(load):
    entities = load()(TEXT)
    assert entities == [
        entity("PER", 0.7, "anna smith", 0, 10),
        entity("LOC", 0.8, "new york", 14, 22),
        entity("PER", 0.55, "ra", 24, 26),
        entity("LOC", 0.8, "##ma", 26, 28),
        entity("LOC", 0.6, "##z", 28, 29),
    ]
    assert [type(value) for value in vars(entities[0]).values()] == [str, float, str, int, int]


@pytest.mark.parametrize(
    ("strategy", "last"),
    [
        ("first", entity("PER", 0.55, "ramaz", 24, 29)),
        ("average", entity("LOC", 0.35, "ramaz", 24, 29)),
        ("max", entity("LOC", 0.8, "ramaz", 24, 29)),
        ("MAX", entity("LOC", 0.8, "ramaz", 24, 29)),
    ],
)
def test_the_tokens_of_a_word_agree_as_the_strategy_says(load, strategy, last):
    assert load()(TEXT, aggregation_strategy=strategy) == [
        entity("PER", 0.7, "anna smith", 0, 10),
        entity("LOC", 0.8, "new york", 14, 22),
        last,
    ]


def test_strategy_none_gives_every_token_with_its_place(load):
    tokens = load()("In New York, Annas", aggregation_strategy="none")
    assert tokens == [
        Token("B-LOC", pytest.approx(0.7), 2, "new", 3, 6),
        Token("I-LOC", pytest.approx(0.9), 3, "york", 7, 11),
        Token("B-PER", pytest.approx(0.8), 5, "anna", 13, 17),
    ]
    assert [type(value) for value in vars(tokens[0]).values()] == [str, float, int, str, int, int]


def test_ignored_are_labels_under_none_and_tags_in_groups(load):
    classify = load()
    tokens = classify("in anna smith", aggregation_strategy="none", ignore_labels=["B-PER", "PER"])
    assert [(token.entity, token.word) for token in tokens] == [("O", "in"), ("I-PER", "smith")]
    for strategy in ("simple", "first", "average", "max"):
        entities = classify("in anna smith", aggregation_strategy=strategy, ignore_labels=["B-PER", "I-PER", "O"])
        assert entities == [entity("PER", 0.7, "anna smith", 3, 13)]
        assert classify("in anna smith", aggregation_strategy=strategy, ignore_labels=("PER", "O")) == []


def test_with_nothing_ignored_every_token_is_in_an_entity(load):
    entities = load()("in in anna", ignore_labels=[])
    assert entities == [entity("O", 0.9, "in in", 0, 5), entity("PER", 0.8, "anna", 6, 10)]


def test_plain_labels_make_entities_too(load):
    entities = load(labels=("O", "PERSON", "NAME", "LOC", "PLACE"))("Anna Anna York New")
    assert [(item.entity_group, item.word) for item in entities] == [
        ("PERSON", "anna anna"),
        ("PLACE", "york"),
        ("LOC", "new"),
    ]


def test_unknown_words_are_spelled_as_in_the_text(load):
    classify = load()
    assert classify("in Łódź, 😀") == [entity("LOC", 0.6, "Łódź", 3, 7), entity("LOC", 0.6, "😀", 9, 10)]
    assert classify("in Łódź", aggregation_strategy="none")[0] == Token("B-LOC", pytest.approx(0.6), 2, "Łódź", 3, 7)
    # and begin a word, wherever they stand
    assert classify("in Łódź", aggregation_strategy="first") == [entity("LOC", 0.6, "Łódź", 3, 7)]
    words = load(marked=False)("Anna?", aggregation_strategy="first")
    assert words == [entity("PER", 0.8, "anna", 0, 4), entity("LOC", 0.6, "?", 4, 5)]


def test_without_a_named_unknown_token_it_is_spelled_as_in_the_vocabulary(load):
    assert load(special_tokens={})("Łódź") == [entity("LOC", 0.6, "[UNK]", 0, 4)]


def test_where_nothing_marks_subwords_a_space_begins_a_word(load):
    text = "in Anna,Smith New"
    assert load(marked=False)(text, aggregation_strategy="first") == [
        entity("PER", 0.8, "anna , smith", 3, 13),
        entity("LOC", 0.7, "new", 14, 17),
    ]
    assert load(marked=True)(text, aggregation_strategy="first") == [
        entity("PER", 0.8, "anna", 3, 7),
        entity("PER", 0.6, "smith", 8, 13),
        entity("LOC", 0.7, "new", 14, 17),
    ]


def test_special_tokens_are_in_no_entity_unless_the_text_spells_them(load):
    assert load()("") == load()(" \t\n") == load()("", stride=2) == []
    assert load()("[SEP]") == [entity("PER", 1.0, "[SEP]", 0, 5)]


def test_half_precision_logits_are_scored_in_single_precision(load):
    yes, no = np.exp(np.log([0.8, 0.2]).astype(np.float16).astype(np.float64))  # "anna", as the graph rounds it
    assert load(dtype="float16")("Anna") == [entity("PER", yes / (yes + no), "anna", 0, 4)]
    assert np.float16(yes / (yes + no)) != pytest.approx(yes / (yes + no), abs=1e-5)


@pytest.mark.parametrize(("side", "words"), [("right", ["anna"]), ("left", ["york"])])
def test_a_long_text_is_cut_on_the_models_side_and_counted(load, side, words):
    classify = load(max_tokens=4, truncation_side=side)
    answer = classify.run(["Anna in York", "in in New York"], Parameters())
    assert [item.word for item in answer.results[0]] == words
    assert answer.truncated_tokens == 3


def test_with_a_stride_a_long_text_is_read_whole(load):
    classify = load(max_tokens=5)
    # in anna smith | smith in new | new york
    text = "in Anna Smith in New York"
    whole = [entity("PER", 0.7, "anna smith", 3, 13), entity("LOC", 0.8, "new york", 17, 25)]
    answer = classify.run([text], Parameters(stride=1))
    assert answer.results == [whole]
    assert answer.truncated_tokens == 0
    assert load()(text) == load()(text, stride=2) == whole


def test_what_two_windows_share_comes_once(load):
    # anna in new | in new york | new york in: "new" goes, and of "new york" one stays
    assert load(max_tokens=5)("Anna in New York in", stride=2) == [
        entity("PER", 0.8, "anna", 0, 4),
        entity("LOC", 0.8, "new york", 8, 16),
    ]


def test_without_a_shared_token_entities_end_with_their_window(load):
    assert [item.word for item in load(max_tokens=5)("in in Anna Smith", stride=0)] == ["anna", "smith"]


@pytest.mark.parametrize("text", ["Anna", "in Anna Smith in New York"])
@pytest.mark.parametrize("stride", [3, 4, 10**30])
def test_a_stride_without_room_to_move_on_is_refused_for_any_text(load, text, stride):
    with pytest.raises(InvalidInput, match=r"`stride`: expected an integer < 3, this model's room for text, given \d+"):
        load(max_tokens=5)(text, stride=stride)


def test_without_a_limit_any_stride_will_do(load):
    assert [item.word for item in load()("Anna", stride=10**30)] == ["anna"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"aggregation_strategy": "last"}, "`aggregation_strategy`: expected one of 'none', 'simple', .*'last'"),
        ({"aggregation_strategy": None}, "`aggregation_strategy`: expected one of"),
        ({"ignore_labels": "O"}, "`ignore_labels`: expected a list, each item a string, given 'O'"),
        ({"ignore_labels": ["O", 1]}, r"`ignore_labels\[1\]`: expected a string, given 1"),
        ({"stride": -1}, "`stride`: expected a number >= 0, given -1"),
        ({"stride": 1.5}, "`stride`: expected an integer or null, given 1.5"),
        ({"stride": True}, "`stride`: expected an integer or null, given True"),
        ({"stride": 0, "aggregation_strategy": "none"}, "`stride`: expected an aggregation_strategy other than 'none'"),
        ({"grouped_entities": True}, "`grouped_entities`: unknown name; expected `aggregation_strategy`, `ignore_l"),
    ],
)
def test_a_wrong_parameter_is_refused_and_named(load, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        load()("anna", **parameters)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (3, "`inputs`: expected a string, given 3"),
        (None, "`inputs`: expected a string, given None"),
        (["anna", None], r"`inputs\[1\]`: expected a string, given None"),
        ([["anna"]], "`inputs`: expected a string, given"),
        ({"text": "anna"}, "`inputs`: expected a string, given"),
        ([], "`inputs`: expected at least one input, given an empty list"),
        ("a\ud800", "not valid Unicode"),
    ],
)
def test_anything_but_texts_is_refused_and_named(load, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        load()(inputs)


def test_a_list_gives_one_answer_per_text_in_their_order(load):
    classify = load()
    answers = classify(["in New York", "", "Anna"])
    assert [[item.word for item in answer] for answer in answers] == [["new york"], [], ["anna"]]
    assert classify(["Anna"]) == [classify("Anna")]


def test_the_http_answer_to_one_text_is_flat():
    assert not TokenClassification.nested


def test_a_model_without_labels_is_unsupported(embedding_bundle):
    model = onnxpipe.load(embedding_bundle(), threads=1).model
    with pytest.raises(UnsupportedModel, match="tiny has no labels; it serves: sentence-similarity"):
        TokenClassification(model)


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("marked", [True, False])
def test_spans_lie_in_the_text_and_in_order_whatever_else_is_in_the_list(load, strategy, marked):
    rng = np.random.default_rng(7)
    pieces = [
        "Anna",
        "smith",
        "NEW",
        "york",
        "ramaz",
        "anna",
        ",",
        "in",
        "Łódź",
        "e\u0301",
        " ",
        "  ",
        "\n",
        "😀",
        "[SEP]",
    ]
    texts = ["".join(rng.choice(pieces, size=size)) for size in rng.integers(0, 30, 60)]
    classify = load(max_tokens=12, marked=marked)
    parameters = {"aggregation_strategy": strategy, "ignore_labels": []}
    for stride in (None, 3) if strategy != "none" else (None,):
        answers = classify(texts, stride=stride, **parameters)
        for text, answer in zip(texts, answers, strict=True):
            assert answer == classify(text, stride=stride, **parameters)
            assert all(0 <= item.start < item.end <= len(text) for item in answer)
            starts = [item.start for item in answer]
            assert starts == sorted(starts)
            assert all(left.end <= right.start for left, right in itertools.pairwise(answer))
            assert not any(text[item.start : item.end].isspace() for item in answer)
