import numpy as np
import pytest

from onnxpipe.verification.figures import problems, relative_error


def test_errors_are_in_units_of_the_magnitude_but_at_least_of_one():
    assert relative_error(np.array([0.5, -0.25]), np.array([0.5, -0.5])) == pytest.approx(0.25)
    assert relative_error(np.array([10.0, -20.0]), np.array([10.0, -15.0])) == pytest.approx(0.25)


def test_figures_within_the_tolerance_have_no_problems():
    assert problems({"error": 1e-6, "cosine_mean": 0.98}, {"error": 1e-4, "cosine_mean": 0.97}) == []


def test_each_missed_bound_is_named_with_both_numbers():
    found = problems({"error": 0.5, "cosine_mean": 0.9}, {"error": 1e-4, "cosine_mean": 0.97})
    assert found == ["error is 0.5, at most 0.0001 is allowed", "cosine_mean is 0.9, at least 0.97 is allowed"]


def test_a_figure_that_is_not_a_number_is_a_problem():
    assert problems({"error": float("nan")}, {"error": 1e-4}) == ["error is nan, at most 0.0001 is allowed"]
