"""What an operator may set, read once at the start."""

import dataclasses

from onnxpipe.records import Record, parameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Record):
    """Limits of the server. Raises InvalidInput naming the field that is out of range."""

    max_body_bytes: int = parameter(2_000_000, ge=1, description="Largest request body; a larger one is answered 413.")
    max_running: int = parameter(4, ge=1, description="Requests worked on at once, each in a thread of its own.")
    max_waiting: int = parameter(256, ge=0, description="Requests that wait for a thread; more are answered 429.")
    cors_origins: tuple[str, ...] = parameter(("*",), description="Origins whose pages may call; '*' allows any.")
