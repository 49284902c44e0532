"""Attributes exchanged for the time of a trace, and put back."""

import contextlib
from typing import Any


def replace(stack: contextlib.ExitStack, owner: Any, name: str, value: object) -> None:
    """Set an attribute of anything, a torch module or a module of code, until `stack` closes."""
    own = vars(owner)
    if name in own:
        stack.callback(setattr, owner, name, own[name])
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, value)
