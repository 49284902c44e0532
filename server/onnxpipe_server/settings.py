"""What an operator may set, read once at the start."""

import dataclasses

from onnxpipe.records import Record, parameter
from onnxpipe_server.urls import read_rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Record):
    """Limits of the server. Raises InvalidInput naming the field that is out of range."""

    max_body_bytes: int = parameter(2_000_000, ge=1, description="Largest request body; a larger one is answered 413.")
    max_media_bytes: int = parameter(
        32_000_000, ge=1, description="The same for models that take files, such as images."
    )
    max_audio_seconds: int = parameter(14_400, ge=1, description="Longest sound; a longer one is answered 400.")
    max_running: int = parameter(
        64, ge=1, description="Requests worked on at once, each in a thread of its own; most wait there for the model."
    )
    max_large: int = parameter(4, ge=1, description="The same for requests that bring files or long texts.")
    max_waiting: int = parameter(256, ge=0, description="Requests that wait for a thread; more are answered 429.")
    max_rows: int = parameter(
        4096, ge=1, description="Inputs, or pieces of long ones, that wait for models; more are answered 429."
    )
    max_rows_bytes: int = parameter(2**28, ge=1, description="Memory of the inputs that wait for models.")
    max_batch_tokens: int = parameter(1024, ge=1, description="Tokens of several inputs in one run of a model.")
    request_timeout: int = parameter(
        120, ge=1, description="Seconds for one answer, less where x-request-timeout says so; then it is 504."
    )
    cache_bytes: int = parameter(
        32 * 2**20, ge=0, description="Memory of answers that are kept for equal requests; 0 keeps none."
    )
    cache_seconds: int = parameter(3600, ge=1, description="How long an answer is kept at most.")
    max_connections: int = parameter(1000, ge=1, description="Connections at once; more are answered 503.")
    max_header_bytes: int = parameter(
        32_768, ge=256, description="Longest head of a request, its address included; a longer one is answered 431."
    )
    max_headers: int = parameter(100, ge=1, description="Most headers of a request; more are answered 431.")
    header_timeout: int = parameter(
        10, ge=1, description="Seconds in which the head of a request has to come; then it is 408."
    )
    body_timeout: int = parameter(
        30,
        ge=1,
        description="Seconds that a body may pause, and longer than 16 kB/s would take it at most; then it is 408.",
    )
    send_timeout: int = parameter(30, ge=1, description="Seconds that a client may leave its answer unread.")
    open_docs: bool = parameter(True, description="Whether /docs needs no token.")
    open_metrics: bool = parameter(True, description="Whether /metrics needs no token; else one of the scope admin.")
    traces: bool = parameter(
        False, description="Whether requests are told to OpenTelemetry, as the variables OTEL_... say; the extra otel."
    )
    load_wait: int = parameter(
        30, ge=0, description="Seconds that a request waits for a model to load before it is answered 503."
    )
    idle_unload: int = parameter(0, ge=0, description="Seconds after which an unused model is unloaded; 0: never.")
    memory: int = parameter(0, ge=0, description="Bytes planned for models in memory; 0: no limit.")
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
    max_client_batch_size: int = parameter(
        32, ge=1, description="Most inputs of one request on /embed, /rerank and their like."
    )
    max_labels: int = parameter(1000, ge=1, le=1000, description="Most `candidate_labels` of a request.")
    default_models: tuple[str, ...] = parameter(
        (), description="Models that answer where a request names none: the first of those that can."
    )
    url_timeout: int = parameter(
        10, ge=1, description="Seconds for the files at addresses that a request names, where that is allowed."
    )
    allow_urls: tuple[str, ...] = parameter(
        (), description="Hosts whose files requests may name by their address; without any no address is opened."
    )
    cors_origins: tuple[str, ...] = parameter(("*",), description="Origins whose pages may call; '*' allows any.")

    def __post_init__(self) -> None:
        super().__post_init__()
        read_rules(self.allow_urls)
