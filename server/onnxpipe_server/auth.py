"""Who may call: bearer tokens, known by their hashes alone, what each may do and how much of it."""

import contextlib
import dataclasses
import hashlib
import hmac
import mmap
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onnxpipe.errors import InvalidInput, OnnxpipeError
from onnxpipe_server.explain import current_account
from onnxpipe_server.processes import SHARED_MEMORY
from onnxpipe_server.status import Forbidden, RateLimited, Unauthorized, dialect_of, refuse

SCOPES = ("infer", "admin")
ENVIRONMENT = "ONNXPIPE_TOKENS"
_PREFIX = "op_"
# A hash hides a token only when nobody can guess it.
_LEAST_CHARACTERS = 20
_LINE = "expected lines of NAME SCOPES SHA256 [TOKENS_PER_MINUTE], as `onnxpipe token` writes them"
# What probes ask, and what tells nothing but that the server answers.
_PROBES = re.compile(r"/|/ping|/health(/live|/ready)?|/v2/health/(live|ready)")
_DOCS = re.compile(r"/docs(/assets/.*)?|/openapi\.json|/api-doc/openapi\.json")
_ADMIN = re.compile(r"/admin(/.*)?|/v2/repository/.*")
# How much of the mean cost of a token's requests the earlier ones make up.
_MEMORY = 0.9


@dataclasses.dataclass(frozen=True)
class Credential:
    """A token by its hash: what it is called, what it may do, and tokens of work a minute."""

    name: str
    digest: bytes
    scopes: frozenset[str]
    tokens_per_minute: int | None = None


class Keyring:
    """The tokens that are let in. Raises InvalidInput for two of one name, or without any."""

    def __init__(self, credentials: Iterable[Credential]) -> None:
        self._credentials = tuple(credentials)
        names = [one.name for one in self._credentials]
        if not names:
            raise InvalidInput("no tokens are given; `onnxpipe token` makes one")
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidInput(f"two tokens have the same name: {', '.join(doubled)}")
        self._buckets = {one.name: Bucket(one.tokens_per_minute) for one in self._credentials if one.tokens_per_minute}

    def find(self, authorization: str) -> Credential | None:
        """The one whose token a header gives, None when there is none. Takes as long for any wrong token."""
        scheme, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode("latin-1", "replace")).digest()
        found = None
        for credential in self._credentials:
            if hmac.compare_digest(credential.digest, digest):
                found = credential
        return found if scheme.lower() == "bearer" else None

    def bucket(self, credential: Credential) -> "Bucket | None":
        """What limits its work."""
        return self._buckets.get(credential.name)

    def share(self) -> None:
        """Count the work together with the processes that are forked from this one from now on."""
        import fcntl  # where there is a fork

        if not self._buckets:
            return
        state = memoryview(mmap.mmap(-1, len(self._buckets) * 3 * 8)).cast("d")
        file, name = tempfile.mkstemp(dir=SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None)
        Path(name).unlink()

        @contextlib.contextmanager
        def lock() -> Iterator[None]:
            # of the system: it goes with a process that is killed
            fcntl.lockf(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(file, fcntl.LOCK_UN)

        for index, bucket in enumerate(self._buckets.values()):
            bucket.move(state[3 * index : 3 * index + 3], lock)


class Bucket:
    """Tokens of work: a minute's worth at most, refilled all the time.

    What a request costs is known when it has been answered: until then it counts as much as those before it did on the
    average, and one may cost more than is left, at the expense of those that come later.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = per_minute
        self._clock = clock
        # what is left, when that was so, and what a request costs on the average
        self._state: list[float] | memoryview[float] = [float(per_minute), clock(), 1.0]
        self._lock: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext

    def move(self, state: "memoryview[float]", lock: Callable[[], AbstractContextManager[None]]) -> None:
        """Keep its three numbers there from now on, in memory that other processes change under that lock."""
        for index, value in enumerate(self._state):
            state[index] = value
        self._state, self._lock = state, lock

    @property
    def left(self) -> int:
        """Whole tokens that are left."""
        with self._lock():
            return max(int(self._refill()), 0)

    def take(self) -> float:
        """What a request is taken to cost. Raises RateLimited when nothing is left."""
        with self._lock():
            left, usual = self._refill(), self._state[2]
            if left < 1:
                wait_s = (1 - left) * 60 / self.limit
                raise RateLimited(
                    f"Rate limit reached: {self.limit} tokens of work a minute; try again later", retry_after_s=wait_s
                )
            self._state[0] = left - usual
        return usual

    def settle(self, taken: float, cost: float) -> None:
        """Take note of what it has cost."""
        with self._lock():
            self._state[0] += taken - cost
            self._state[2] = self._state[2] * _MEMORY + cost * (1 - _MEMORY)

    def _refill(self) -> float:
        left, at, now = self._state[0], self._state[1], self._clock()
        self._state[0] = left = min(left + (now - at) * self.limit / 60, self.limit)
        self._state[1] = now
        return left


class TokenGate:
    """Lets requests through that bring a token which may do what they ask for; others are answered 401, 403 or 429.

    Probes are always open; the documents and the metrics are where a setting says so.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, *, open_docs: bool, open_metrics: bool) -> None:
        self._app = app
        self._keyring = keyring
        self._open_docs = open_docs
        self._open_metrics = open_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request, or refuse it before its body is read."""
        needed = self._needed(scope) if scope["type"] == "http" else None
        if needed is None:
            await self._app(scope, receive, send)
            return
        try:
            credential = self._admit(Headers(scope=scope), needed)
            bucket = self._keyring.bucket(credential) if scope["method"] == "POST" else None
            taken = bucket.take() if bucket else 0.0
        except OnnxpipeError as error:
            await _refuse(error, scope, receive, send)
            return
        if bucket is None:
            await self._app(scope, receive, send)
            return

        async def send_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-ratelimit-limit-tokens"] = str(bucket.limit)
                headers["x-ratelimit-remaining-tokens"] = str(bucket.left)
            await send(message)

        try:
            await self._app(scope, receive, send_limits)
        finally:
            bucket.settle(taken, current_account().work)

    def _needed(self, scope: Scope) -> str | None:
        """The scope that a request needs, None for an open route."""
        path = scope["path"]
        if scope["method"] in ("GET", "HEAD"):
            if _PROBES.fullmatch(path):
                return None
            if _DOCS.fullmatch(path):
                return None if self._open_docs else "infer"
            if path == "/metrics":
                return None if self._open_metrics else "admin"
        return "admin" if _ADMIN.fullmatch(path) else "infer"

    def _admit(self, headers: Headers, needed: str) -> Credential:
        authorization = headers.get("authorization", "")
        if not authorization:
            raise Unauthorized("a token is needed; send it as: Authorization: Bearer TOKEN")
        credential = self._keyring.find(authorization)
        if credential is None:
            raise Unauthorized("Invalid credentials in Authorization header; expected: Bearer TOKEN")
        if needed not in credential.scopes:
            raise Forbidden(f"this token may not do that: it needs the scope {needed}")
        return credential


async def _refuse(error: OnnxpipeError, scope: Scope, receive: Receive, send: Send) -> None:
    refusal = refuse(error, scope.get("state", {}).get("request_id", ""))
    headers = {"x-error-message": str(error)}
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = "Bearer"
    await dialect_of(scope).respond(refusal, headers)(scope, receive, send)


def read_keyring(file: Path | None, environment: Mapping[str, str] = os.environ) -> Keyring | None:
    """The tokens in a file of hashes, and those in the environment, which may infer; None when neither is there.

    Raises InvalidInput naming the line that is wrong.
    """
    given = environment.get(ENVIRONMENT, "").split()
    if file is None and not given:
        return None
    credentials = [_of_environment(number, token) for number, token in enumerate(given, 1)]
    return Keyring(credentials + ([] if file is None else read_credentials(file)))


def make_token(name: str, scopes: Iterable[str], tokens_per_minute: int | None = None) -> tuple[str, str]:
    """A new token, which nobody sees again, and the line of a file that lets it in. Raises InvalidInput."""
    token = _PREFIX + secrets.token_urlsafe(32)
    limit = "" if tokens_per_minute is None else f" {tokens_per_minute}"
    line = f"{name} {','.join(scopes)} {hashlib.sha256(token.encode()).hexdigest()}{limit}"
    read_line(line)
    return token, line


def _of_environment(number: int, token: str) -> Credential:
    if len(token) < _LEAST_CHARACTERS:
        raise InvalidInput(
            f"{ENVIRONMENT}: token {number} is too short: expected at least {_LEAST_CHARACTERS} random characters, "
            f"given {len(token)}"
        )
    digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
    return Credential(f"environment-{number}", digest, frozenset({"infer"}))


def read_credentials(file: Path) -> list[Credential]:
    """The tokens in a file of hashes. Raises InvalidInput naming the line that is wrong."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: the tokens cannot be read: {error}") from None
    credentials = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                credentials.append(read_line(line))
            except InvalidInput as error:
                # never the line itself: it may hold a token where its hash should be
                raise InvalidInput(f"{file}, line {number}: {error}") from None
    return credentials


def read_line(line: str) -> Credential:
    """The token in a line of such a file. Raises InvalidInput."""
    fields = line.split()
    if len(fields) not in (3, 4):
        raise InvalidInput(f"{_LINE}; given {len(fields)} words")
    name, scopes, digest, *limit = fields
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise InvalidInput("expected a name of letters, digits, '.', '_' and '-'")
    if unknown := [scope for scope in scopes.split(",") if scope not in SCOPES]:
        raise InvalidInput(f"expected scopes of {', '.join(SCOPES)} with commas between them, given {unknown[0]!r}")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise InvalidInput("expected the SHA-256 of a token as 64 hexadecimal digits")
    if limit and not (limit[0].isdecimal() and int(limit[0]) > 0):
        raise InvalidInput(f"expected tokens of work a minute as a number above 0, given {limit[0]!r}")
    return Credential(name, bytes.fromhex(digest), frozenset(scopes.split(",")), int(limit[0]) if limit else None)
