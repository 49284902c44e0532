import numpy as np
import pytest

from fake_writer import writer_of
from onnxpipe.tasks.text_generation import Parameters
from onnxpipe_server.writing import interleave, write


@pytest.fixture
def compose(letters_model):
    pipeline = letters_model.generator

    def make(text, **given):
        parameters = Parameters(**given)
        return pipeline.compose(np.frombuffer(text.encode(), np.uint8), parameters, pipeline.options(parameters))

    return make


def test_texts_are_written_in_turn(compose):
    steps = list(interleave([compose("w"), compose("y")]))

    assert [(number, token.shown) for step in steps for number, _, token in step] == [
        (0, "x"),
        (1, "z"),
        (0, "y"),
        (1, "</s>"),
        (0, "z"),
        (0, "</s>"),
    ]


def test_beams_are_steps_too_though_they_say_nothing_before_the_end(compose):
    steps = list(interleave([compose("w", num_beams=2)]))

    assert [bool(step) for step in steps] == [False] * (len(steps) - 1) + [True]
    assert len(steps) > 3


def test_no_more_than_so_many_are_written_at_once(compose, letters_model):
    numbers = [number for step in interleave([compose("u") for _ in range(40)]) for number, _, _ in step]

    assert set(numbers) == set(range(40))
    assert numbers.index(39) > len(numbers) / 2


def test_leaving_ends_all_of_them(compose, letters_model):
    steps = interleave([compose("0"), compose("1")])
    for _ in range(6):
        next(steps)
    steps.close()

    assert writer_of(letters_model).idle


def test_the_answer_is_that_of_the_pipeline(letters_model):
    pipeline, parameters = letters_model.generator, Parameters(max_new_tokens=5, details=True)
    steps = write(pipeline, ["w", "0"], parameters)
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            answer = end.value
            break
        count += 1
    expected = pipeline.run(["w", "0"], parameters)

    assert count >= 9
    assert answer.results == expected.results
    assert (answer.elements, answer.truncated_tokens) == (expected.elements, expected.truncated_tokens)
