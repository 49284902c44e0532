import itertools

import pytest

import onnxpipe
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.sections import Chat
from onnxpipe.tasks.conversational import Continued
from onnxpipe.tasks.summarization import Summary
from onnxpipe.tasks.text_generation import Generated
from onnxpipe.tasks.translation import Translated

# the model says "two three four" after "one", then ends


@pytest.fixture
def load(writing_bundle):
    return lambda *tasks, **bundle: onnxpipe.load(writing_bundle(list(tasks), **bundle))


def test_a_text_goes_on_until_its_end(load):
    assert load("text-generation")("four one") == [Generated(" two three four")]


def test_several_texts_are_written_together(load):
    assert load("text-generation")(["one", "two", "three"]) == [
        [Generated(text)] for text in (" two three four", " three four", " four")
    ]


def test_the_whole_text_begins_with_the_input(load):
    assert load("text-generation")("one", return_full_text=True, max_new_tokens=1) == [Generated("one two")]


@pytest.mark.parametrize(
    ("parameters", "text", "reason"),
    [
        ({"max_new_tokens": 2}, " two three", "length"),
        ({}, " two three four", "eos_token"),
        ({"stop": "thr"}, " two thr", "stop_sequence"),
    ],
)
def test_details_say_why_a_text_ends(load, parameters, text, reason):
    (answer,) = load("text-generation")("one", details=True, **parameters)
    assert (answer.generated_text, answer.details.finish_reason) == (text, reason)
    assert "".join(token.text for token in answer.details.tokens if not token.special).startswith(text)
    assert answer.details.generated_tokens == len(answer.details.tokens)


def test_details_tell_tokens_the_input_and_the_likeliest(load):
    (answer,) = load("text-generation")(
        "one two", details=True, decoder_input_details=True, top_n_tokens=2, max_new_tokens=1
    )
    details = answer.details
    assert [(token.text, token.logprob is None) for token in details.prefill] == [(" one", True), (" two", False)]
    assert [(token.text, token.special) for token in details.tokens] == [(" three", False)]
    assert details.top_tokens[0][0].id == details.tokens[0].id
    assert len(details.top_tokens[0]) == 2


def test_several_texts_of_one_input(load):
    answers = load("text-generation")("one", do_sample=True, seed=3, num_return_sequences=3, max_new_tokens=4)
    assert len(answers) == 3
    again = load("text-generation")("one", do_sample=True, seed=3, num_return_sequences=3, max_new_tokens=4)
    assert answers == again


def test_the_best_of_several_comes_with_the_losers(load):
    (answer,) = load("text-generation")("one", do_sample=True, seed=3, best_of=3, max_new_tokens=4, details=True)
    assert len(answer.details.best_of_sequences) == 2


def test_only_the_last_tokens_of_a_long_input_are_read(load):
    answer = load("text-generation")
    assert answer("two " * 40 + "one") == [Generated(" two three four")]
    assert answer("one two three one", truncate=1) == [Generated(" two three four")]


def test_tokens_stream_as_they_come(load):
    tokens = [token for _, token in load("text-generation").stream("one")]
    assert "".join(token.text for token in tokens) == " two three four"
    assert [token.finish_reason for token in tokens] == [None, None, None, "eos_token"]
    assert [token.special for token in tokens][:3] == [False] * 3


def test_a_stream_may_be_left(load):
    pipeline = load("text-generation")
    stream = pipeline.stream("one")
    assert list(itertools.islice(stream, 1))
    stream.close()
    assert pipeline("one") == [Generated(" two three four")]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_new_tokens": 0}, "`max_new_tokens`: expected a number >= 1"),
        ({"num_return_sequences": 2}, "without sampling or beams"),
        ({"adapter_id": "lora"}, "`adapter_id`: no adapters are served here"),
        ({"suppress_tokens": [99]}, "`suppress_tokens`: expected token ids below 9"),
        ({"max_length": 1}, "`max_length`: expected more than the 1 tokens of the prompt"),
        ({"temprature": 1}, "`temprature`: unknown name"),
    ],
)
def test_wrong_parameters_are_named(load, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        load("text-generation")("one", **parameters)


def test_a_text_without_tokens_is_refused(load):
    with pytest.raises(InvalidInput, match="the text has no tokens"):
        load("text-generation")("  ")


def test_a_summary_is_written_about_a_text(load):
    assert load("summarization", encoder=True)("one two") == [Summary("two three four")]
    assert load("summarization", encoder=True)(["one", "two"]) == [[Summary("two three four")]] * 2


def test_beams_give_as_many_texts_as_were_asked_for(load):
    answers = load("summarization", encoder=True)("one", num_beams=3, num_return_sequences=2)
    assert len(answers) == 2
    assert answers[0] == Summary("two three four")


def test_generate_parameters_lie_over_those_beside_them(load):
    pipeline = load("summarization", encoder=True)
    assert pipeline("one", max_new_tokens=3, generate_kwargs={"max_new_tokens": 1}) == [Summary("two")]


def test_what_needs_an_encoder_says_so(load):
    with pytest.raises(UnsupportedModel, match="counter continues texts and cannot do summarization"):
        load("summarization")


def test_text_generation_with_an_encoder_writes_about_the_text(load):
    pipeline = load("text-generation", encoder=True)
    (answer,) = pipeline("one two", return_full_text=True, details=True, decoder_input_details=True)
    assert answer.generated_text == "two three four"
    assert [token.logprob for token in answer.details.prefill] == [None]
    assert len(answer.details.tokens) == answer.details.generated_tokens == 4


def test_a_translation_of_a_single_pair_takes_any_names(load):
    pipeline = load("translation", encoder=True)
    assert pipeline("one", src_lang="en", tgt_lang="de") == [Translated("two three four")]


def test_a_conversation_goes_on(load):
    reply = load("conversational")({"text": "one", "past_user_inputs": ["four"], "generated_responses": ["three"]})
    assert reply.generated_text == "two three four"
    assert reply.conversation.past_user_inputs == ["four", "one"]
    assert reply.conversation.generated_responses == ["three", "two three four"]


def test_messages_come_back_with_the_answer(load):
    pytest.importorskip("jinja2")
    chat = Chat(templates={"default": "{% for message in messages %}{{ message.content }} {% endfor %}"})
    messages = [{"role": "user", "content": "two"}, {"role": "user", "content": "one"}]
    assert load("conversational", chat=chat)(messages) == [
        Continued([*messages, {"role": "assistant", "content": "two three four"}])
    ]


def test_turns_that_do_not_match_are_refused(load):
    with pytest.raises(InvalidInput, match=r"`inputs\.generated_responses`: expected one for each of the 1"):
        load("conversational")({"text": "one", "past_user_inputs": ["four"]})
