import pytest

from onnxpipe import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InvalidInput, ValueError),
        (errors.UnprocessableInput, errors.InvalidInput),
        (errors.UnsupportedModel, ValueError),
        (errors.BundleError, ValueError),
        (errors.ProviderUnavailable, RuntimeError),
        (errors.Overloaded, RuntimeError),
        (errors.DeadlineExceeded, TimeoutError),
        (errors.Cancelled, RuntimeError),
    ],
)
def test_each_error_is_an_onnxpipe_error_and_the_builtin_it_resembles(error, builtin):
    assert issubclass(error, errors.OnnxpipeError)
    assert issubclass(error, builtin)


def test_the_drawing_in_the_docstring_names_every_error():
    named = [name for name, member in vars(errors).items() if isinstance(member, type)]
    assert [name for name in named if name not in (errors.__doc__ or "")] == []
