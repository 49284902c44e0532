"""What an operator may set, read once at the start."""

import dataclasses

from onnxpipe.records import Record, parameter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Record):
    """Limits of the server. Raises InvalidInput naming the field that is out of range."""

    max_body_bytes: int = parameter(2_000_000, ge=1, description="Largest request body; a larger one is answered 413.")
    max_media_bytes: int = parameter(
        32_000_000, ge=1, description="The same for models that take files, such as images."
    )
    max_running: int = parameter(4, ge=1, description="Requests worked on at once, each in a thread of its own.")
    max_waiting: int = parameter(256, ge=0, description="Requests that wait for a thread; more are answered 429.")
    max_writing: int = parameter(
        32, ge=1, description="Requests that write text at once; they share the model's steps."
    )
    max_new_tokens: int = parameter(
        512, ge=1, description="Longest text on /generate and /v1 where the request does not say how long."
    )
    max_best_of: int = parameter(2, ge=1, description="Most texts that `best_of` may draw.")
    max_choices: int = parameter(4, ge=1, description="Most answers that `n` may ask for.")
    max_beams: int = parameter(16, ge=1, description="Most beams of a search.")
    max_stop_sequences: int = parameter(4, ge=0, description="Most stop strings of a request.")
    cors_origins: tuple[str, ...] = parameter(("*",), description="Origins whose pages may call; '*' allows any.")
