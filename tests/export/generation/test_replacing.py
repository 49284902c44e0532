import contextlib
import types

from onnxpipe_export.generation.replacing import replace


def test_an_attribute_is_back_when_the_stack_closes():
    owner = types.SimpleNamespace(kept=1)
    with contextlib.ExitStack() as stack:
        replace(stack, owner, "kept", 2)
        replace(stack, owner, "new", 3)
        assert vars(owner) == {"kept": 2, "new": 3}
    assert vars(owner) == {"kept": 1}


def test_a_method_of_the_class_shows_again():
    class Owner:
        def name(self):
            return "own"

    owner = Owner()
    with contextlib.ExitStack() as stack:
        replace(stack, owner, "name", lambda: "other")
        assert owner.name() == "other"
    assert owner.name() == "own"
