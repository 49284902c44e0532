import dataclasses
import math

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

import onnxpipe
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.records import plain
from onnxpipe.tasks.question_answering import Answer, Inputs, Parameters, QuestionAnswering

# token -> how likely it is the first and the last of an answer; all others are neither. "[UNK]" stands for any text
# that is not in this vocabulary
WEIGHTS = {
    "[PAD]": (1e9, 1e9),
    "[CLS]": (4, 4),
    "[SEP]": (1e9, 1e9),
    "[UNK]": (0, 0),
    "who": (1e9, 1e9),
    "anna": (8, 4),
    "fri": (4, 2),
    "##day": (0, 6),
    "🙂": (8, 8),
}
PAD, CLS, SEP, UNK, WHO, ANNA, FRI, DAY, SMILE = range(len(WEIGHTS))
QUESTION = "who"
# 4 + 8 + 4 = 16 for the start and 4 + 4 + 2 + 6 = 16 for the end: scores are in 256ths
CONTEXT = "Anna wrote it on Friday"
WHOLE, FIRST, LAST = (CONTEXT, 0, 23), ("Anna", 0, 4), ("Friday", 17, 23)


def word_pieces():
    """Words and their pieces in lower case; [CLS] question [SEP] context [SEP] around them."""
    vocabulary = {token: index for index, token in enumerate(WEIGHTS)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    return tokenizer


@pytest.fixture
def load(answering_bundle):
    """A pipeline over WEIGHTS; keywords change some of them, their logits, the tokenizer, or fields of Text."""

    def make(*, weights=None, scale=1.0, dtype="float32", tokenizer=None, **text):
        with np.errstate(divide="ignore"):  # the logit of 0
            logits = np.log(list((WEIGHTS | (weights or {})).values())) * scale
        text = {"special_tokens": {"cls_token": "[CLS]"}, **text}
        bundle = answering_bundle(logits=logits.astype(dtype), tokenizer=tokenizer or word_pieces(), **text)
        return onnxpipe.load(bundle, threads=1)

    return make


@pytest.fixture
def answer(load):
    """A call with the question "who" of a pipeline over WEIGHTS."""
    return asker(load())


def asker(pipeline):
    return lambda context, **parameters: pipeline({"question": QUESTION, "context": context}, **parameters)


def found(text, score):
    return Answer(text[0], pytest.approx(score), *text[1:])


def windows(pipeline, context, question=QUESTION, **parameters):
    """The tokens of each window."""
    work = pipeline.preprocess(Inputs(question=question, context=context), Parameters(**parameters))
    return [row["input_ids"].tolist() for row in work.rows]


def test_one_answer_is_an_answer_with_its_place_in_the_context(answer):
    given = answer("Anna")  # 8 of 12 and 4 of 8
    assert given == Answer("Anna", pytest.approx(8 / 12 * 4 / 8), 0, 4)
    assert [type(value) for value in dataclasses.astuple(given)] == [str, float, int, int]


def test_spans_that_touch_the_same_words_are_one_answer_with_the_sum_of_their_scores(answer):
    # Anna..day 48, Anna 32, Fri..day 24, Anna..Fri 16, Fri 8
    assert answer(CONTEXT) == found(WHOLE, (48 + 16) / 256)


def test_several_answers_are_a_list_by_falling_score_and_of_equals_the_likelier_span_first(answer):
    assert answer(CONTEXT, top_k=3) == [found(WHOLE, 64 / 256), found(FIRST, 32 / 256), found(LAST, 32 / 256)]


def test_without_word_alignment_the_pieces_of_a_word_stand_alone(answer):
    assert answer(CONTEXT, align_to_words=False) == found(WHOLE, 48 / 256)
    assert answer(CONTEXT, align_to_words=False, top_k=5) == [
        found(WHOLE, 48 / 256),
        found(FIRST, 32 / 256),
        found(LAST, 24 / 256),
        found(("Anna wrote it on Fri", 0, 20), 16 / 256),
        found(("Fri", 17, 20), 8 / 256),
    ]


@pytest.mark.parametrize(
    ("max_answer_len", "text", "score"),
    # from "Anna" to "Fri" are five tokens, to the end of "Friday" six
    [(1, FIRST, 32 / 256), (5, FIRST, 32 / 256), (6, WHOLE, 64 / 256), (10**400, WHOLE, 64 / 256)],
)
def test_an_answer_has_at_most_max_answer_len_tokens(answer, max_answer_len, text, score):
    assert answer(CONTEXT, max_answer_len=max_answer_len) == found(text, score)


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (3, 3), (10**400, 3)])
def test_top_k_is_how_many_answers_come_back_at_most(answer, top_k, count):
    given = answer(CONTEXT, top_k=top_k)
    assert len(given if isinstance(given, list) else [given]) == count


def test_one_answer_is_no_list_however_many_were_asked_for(answer):
    assert answer("Anna", top_k=9) == answer("Anna")


def test_answers_that_differ_in_case_are_one_at_the_first_place(answer):
    # 8 of 20 and 4 of 12 for each: Anna, ANNA, and from the one to the other
    assert answer("Anna , ANNA", top_k=2) == [
        found(("Anna", 0, 4), 2 * 32 / 240),
        found(("Anna , ANNA", 0, 11), 32 / 240),
    ]


def test_scores_are_probabilities_over_the_context_and_the_classification_token_alone(answer):
    # the question and the separators weigh a billion
    assert answer("Anna").score == pytest.approx(1 / 3)


def test_a_classification_token_in_the_question_takes_its_share_but_is_no_answer(load):
    pipeline = load()
    given = pipeline({"question": "who [CLS] who", "context": "Anna"}, top_k=5)
    assert given == found(("Anna", 0, 4), 8 / 16 * 4 / 12)


def test_an_impossible_answer_is_empty_with_the_chance_of_the_first_token(answer):
    assert answer(CONTEXT, handle_impossible_answer=True) == found(WHOLE, 64 / 256)
    given = answer("Anna", handle_impossible_answer=True, top_k=2)
    assert given == [found(("Anna", 0, 4), 4 / 12), found(("", 0, 0), 4 / 12 * 4 / 8)]


def test_an_impossible_answer_comes_first_when_it_is_the_likeliest(load):
    ask = asker(load(weights={"[CLS]": (99, 99)}))
    assert ask("Anna", handle_impossible_answer=True) == found(("", 0, 0), 99 / 107 * 99 / 103)
    assert ask("Anna") == found(("Anna", 0, 4), 8 / 107 * 4 / 103)


def test_the_chance_of_no_answer_is_that_of_the_window_where_it_is_smallest(load):
    given = load(max_tokens=6)(
        {"question": QUESTION, "context": "x x Anna"}, handle_impossible_answer=True, doc_stride=0, top_k=2
    )
    assert given[1] == found(("", 0, 0), 4 / 12 * 4 / 8)


@pytest.mark.parametrize("context", [" ", "\n\t ", "x", "x y z"])
@pytest.mark.parametrize("top_k", [1, 3])
def test_a_context_without_any_answer_gives_an_empty_one_of_score_zero(answer, context, top_k):
    assert answer(context, top_k=top_k) == Answer("", 0.0, 0, 0)


def test_a_blank_question_is_a_question(load):
    assert load()({"question": " ", "context": "Anna"}) == found(("Anna", 0, 4), 1 / 3)


def test_offsets_count_characters_in_any_script(answer):
    assert answer("Ωμέγα 🤗 🙂 事") == found(("🙂", 8, 9), 8 / 12 * 8 / 12)


def test_a_long_context_is_read_in_windows_that_share_doc_stride_tokens(load):
    # room for 4 tokens beside [CLS] who [SEP] [SEP]
    assert windows(load(max_tokens=8), "Anna x x x x x Friday", doc_stride=2) == [
        [CLS, WHO, SEP, ANNA, UNK, UNK, UNK, SEP],
        [CLS, WHO, SEP, UNK, UNK, UNK, UNK, SEP],
        [CLS, WHO, SEP, UNK, UNK, FRI, DAY, SEP],
    ]


def test_a_span_lies_within_one_window_and_a_word_ends_with_its_window(load):
    # windows of two tokens: Anna x | x Fri | ##day
    given = asker(load(max_tokens=6))("Anna x x Friday", doc_stride=0, top_k=5)
    assert given == [
        found(("Anna", 0, 4), 8 / 12 * 4 / 8),
        found(("Fri", 9, 12), 4 / 8 * 2 / 6),
    ]


def test_scores_of_an_answer_in_several_windows_are_added_up_to_one(load):
    pipeline = load(weights={"[CLS]": (0, 0)}, max_tokens=7)
    context = "x x Anna x x x"
    assert sum(ANNA in window for window in windows(pipeline, context, doc_stride=2)) == 3
    assert asker(pipeline)(context, doc_stride=2) == Answer("Anna", 1.0, 4, 8)


def test_the_first_place_of_an_answer_is_that_of_the_first_window(load):
    ask = asker(load(max_tokens=6))
    assert ask("x Anna x Anna", doc_stride=0) == found(("Anna", 2, 6), 2 * 1 / 3)


@pytest.mark.parametrize(
    ("limit", "max_seq_len", "longest"),
    [(None, None, 384), (None, 500, 500), (64, None, 64), (64, 500, 64), (64, 40, 40)],
)
def test_windows_have_max_seq_len_tokens_but_never_more_than_the_model_takes(load, limit, max_seq_len, longest):
    assert max(map(len, windows(load(max_tokens=limit), "x " * 650, max_seq_len=max_seq_len))) == longest


@pytest.mark.parametrize(("max_seq_len", "stride"), [(64, 32), (300, 128)])
def test_doc_stride_is_half_a_window_up_to_128_when_absent(load, max_seq_len, stride):
    pipeline, context = load(), "x " * 1000
    given = windows(pipeline, context, max_seq_len=max_seq_len)
    assert given == windows(pipeline, context, max_seq_len=max_seq_len, doc_stride=stride)
    assert len(given) == math.ceil((1000 - stride) / (max_seq_len - 4 - stride))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"doc_stride": 8}, "`doc_stride`: expected fewer tokens than the 8 of a window, given 8"),
        ({"doc_stride": 7, "max_seq_len": 5}, "`doc_stride`: expected fewer tokens than the 5 of a window, given 7"),
        ({"doc_stride": 4}, "a window of 8 tokens has room for 4 beside 4 fixed ones; expected a stride below"),
        ({"doc_stride": 0, "max_seq_len": 4}, "a window of 4 tokens has room for 0 beside 4 fixed ones"),
    ],
)
def test_windows_that_cannot_move_on_are_refused(load, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        asker(load(max_tokens=8))("Anna x x x x", **parameters)


def test_a_question_that_fills_the_window_is_refused_unless_it_is_cut(load):
    pipeline = load(max_tokens=8)
    long = {"question": "who " * 9, "context": "Anna"}
    with pytest.raises(InvalidInput, match="a window of 8 tokens has room for 0 beside 12 fixed ones"):
        pipeline(long)
    with pytest.raises(InvalidInput, match="a window of 8 tokens has room for 0 beside 12 fixed ones"):
        pipeline(long, max_question_len=8)
    assert pipeline(long, max_question_len=1) == found(("Anna", 0, 4), 1 / 3)


@pytest.mark.parametrize(
    ("length", "question", "cut"),
    [
        (None, [WHO, UNK, FRI, DAY], 0),
        (10**400, [WHO, UNK, FRI, DAY], 0),
        (4, [WHO, UNK, FRI, DAY], 0),
        (3, [WHO, UNK, FRI], 1),
        (1, [WHO], 3),
    ],
)
def test_a_question_is_cut_to_max_question_len_tokens_only_when_asked(load, length, question, cut):
    pipeline = load()
    inputs = Inputs(question="Who ate Friday", context="Anna")
    assert windows(pipeline, inputs.context, inputs.question, max_question_len=length) == [
        [CLS, *question, SEP, ANNA, SEP]
    ]
    assert pipeline.run([inputs], Parameters(max_question_len=length)).truncated_tokens == cut


def test_windows_of_a_long_context_are_not_counted_as_truncated(load):
    answered = load(max_tokens=8).run([Inputs(question=QUESTION, context="x " * 50)], Parameters(doc_stride=1))
    assert answered.truncated_tokens == 0


def test_a_list_gives_one_result_per_item_in_their_order(load):
    contexts = [CONTEXT, "x", "Anna " * 100, "Anna"]
    pipeline = load(max_tokens=40)
    items = [{"question": QUESTION, "context": context} for context in contexts]
    assert pipeline(items) == [pipeline(item) for item in items]


def test_a_list_of_one_gives_a_list_of_one(load):
    item = {"question": QUESTION, "context": CONTEXT}
    assert load()([item]) == [found(WHOLE, 64 / 256)]
    assert load()([item], top_k=2) == [[found(WHOLE, 64 / 256), found(FIRST, 32 / 256)]]


def test_padding_and_batching_change_nothing(load):
    rng = np.random.default_rng(7)
    words = ["anna", "friday", "🙂", "x"]
    items = [
        {"question": QUESTION, "context": " ".join(rng.choice(words, size=size))} for size in rng.integers(1, 90, 60)
    ]
    pipeline = load(max_tokens=32)
    parameters = {"top_k": 4, "handle_impossible_answer": True, "doc_stride": 5}
    together = pipeline(items, **parameters)
    assert together == [pipeline(item, **parameters) for item in items]
    for item, answers in zip(items, together, strict=True):
        for one in answers if isinstance(answers, list) else [answers]:
            assert item["context"][one.start : one.end] == one.answer
            assert 0 <= one.score <= 1


def test_on_the_wire_one_answer_is_an_object_and_several_are_a_list(answer):
    assert plain(answer("Anna")) == {"answer": "Anna", "score": pytest.approx(1 / 3), "start": 0, "end": 4}
    assert [list(item) for item in plain(answer(CONTEXT, top_k=2))] == [["answer", "score", "start", "end"]] * 2


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_tiny_and_huge_logits_stay_finite(load, scale):
    given = asker(load(scale=scale))("Anna x")
    assert given.answer.startswith("Anna")
    assert 0 < given.score <= 1


def test_logits_far_below_zero_are_scored_as_any_others(load):
    # the reference's mask of -10000 would be the likeliest token
    weights = {token: (1e-300 * start, 1e-300 * end) for token, (start, end) in WEIGHTS.items()}
    assert asker(load(weights=weights, scale=100))("Anna") == found(("Anna", 0, 4), 1 / 2)


def test_half_precision_logits_are_scored_in_single_precision(load):
    score = asker(load(dtype="float16"))(CONTEXT).score
    assert score == pytest.approx(64 / 256, rel=1e-2)
    assert score != float(np.float16(score))


def test_nan_is_not_hidden(load):
    assert math.isnan(asker(load(weights={"anna": (math.nan, 1)}))("Anna").score)


def test_a_language_without_spaces_is_one_word_unless_words_do_not_count(load):
    tokenizer = word_pieces()
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = None
    tokenizer.model = models.BPE(
        {**{token: index for index, token in enumerate(WEIGHTS)}, "事": 9}, [], unk_token="[UNK]"
    )
    ask = asker(load(tokenizer=tokenizer, weights={"事": (0, 0)}))
    assert ask("事事🙂事").answer == "事事🙂事"
    assert ask("事事🙂事", align_to_words=False) == found(("🙂", 2, 3), 8 / 12 * 8 / 12)


def test_a_model_without_a_classification_token_scores_the_context_alone(load):
    assert asker(load(special_tokens={}))("Anna") == found(("Anna", 0, 4), 1)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("Anna", "`inputs`: expected an object with `question`, `context`, given 'Anna'"),
        (None, "`inputs`: expected an object with `question`, `context`, given None"),
        ({"question": "who"}, "`inputs.context`: required, but missing"),
        ({"context": "Anna"}, "`inputs.question`: required, but missing"),
        ({"question": "who", "context": ""}, "`inputs.context`: expected a text, given an empty string"),
        ({"question": "", "context": "Anna"}, "`inputs.question`: expected a text, given an empty string"),
        ({"question": None, "context": "Anna"}, "`inputs.question`: expected a string, given None"),
        ({"question": ["who"], "context": "Anna"}, "`inputs.question`: expected a string, given "),
        ({"question": "who", "context": "Anna", "id": 1}, "`inputs.id`: unknown name; expected `question`, `context`"),
        ([], "`inputs`: expected at least one input, given an empty list"),
        ([{"question": "who", "context": "Anna"}, 3], r"`inputs\[1\]`: expected an object"),
        ({"question": "who", "context": "a\ud800"}, "not valid Unicode"),
    ],
)
def test_anything_but_a_question_with_a_context_is_refused_and_named(load, inputs, message):
    with pytest.raises(InvalidInput, match=message):
        load()(inputs)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top_k": 0}, "`top_k`: expected a number >= 1, given 0"),
        ({"top_k": None}, "`top_k`: expected an integer, given None"),
        ({"top_k": 1.5}, "`top_k`: expected an integer, given 1.5"),
        ({"doc_stride": -1}, "`doc_stride`: expected a number >= 0, given -1"),
        ({"max_answer_len": 0}, "`max_answer_len`: expected a number >= 1, given 0"),
        ({"max_seq_len": 0}, "`max_seq_len`: expected a number >= 1, given 0"),
        ({"max_question_len": 0}, "`max_question_len`: expected a number >= 1, given 0"),
        ({"handle_impossible_answer": "yes"}, "`handle_impossible_answer`: expected true or false, given 'yes'"),
        ({"align_to_words": 1}, "`align_to_words`: expected true or false, given 1"),
        ({"topk": 1}, "`topk`: unknown name; expected `top_k`, `doc_stride`, "),
    ],
)
def test_a_wrong_parameter_is_refused_and_named(answer, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        answer("Anna", **parameters)


def test_a_model_without_start_and_end_logits_is_unsupported(classification_bundle):
    model = onnxpipe.load(classification_bundle(), threads=1).model
    with pytest.raises(UnsupportedModel, match="tiny finds no answers in texts; it serves: text-classification"):
        QuestionAnswering(model)
