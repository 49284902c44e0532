"""Contract, section 7: tokens. Where there are none, any Authorization is ignored."""

import hashlib
import os

import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe_server import auth
from onnxpipe_server.app import create_app
from onnxpipe_server.auth import (
    Bucket,
    Credential,
    Keyring,
    make_token,
    read_credentials,
    read_keyring,
    read_line,
)
from onnxpipe_server.models import Models
from onnxpipe_server.settings import Settings
from onnxpipe_server.status import RateLimited

INFER, ADMIN, LIMITED = "op_infer-0123456789abcdef", "op_admin-0123456789abcdef", "op_limited-0123456789abcdef"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def credential(name, token, *scopes, limit=None):
    return Credential(name, hashlib.sha256(token.encode()).digest(), frozenset(scopes), limit)


@pytest.fixture
def locked(served, labels, runner):
    """Builds a server that wants tokens; keywords are its settings."""

    def build(**settings):
        credentials = [
            credential("ci", INFER, "infer"),
            credential("root", ADMIN, "infer", "admin"),
            credential("small", LIMITED, "infer", limit=12),
        ]
        models = Models([served("acme/labels", "labels")])
        return type(labels)(create_app(models, Settings(**settings), Keyring(credentials)), runner)

    return build


def bearer(token):
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),
        ("POST", "/models/acme/labels"),
        ("POST", "/v1/embeddings"),
        ("POST", "/health"),
        ("GET", "/info"),
        ("GET", "/v1/models"),
        ("GET", "/status/acme/labels"),
        ("GET", "/models"),
        ("GET", "/models/acme/labels/health"),
        ("GET", "/nowhere"),
        ("PUT", "/ping"),
    ],
)
def test_all_posts_and_whatever_tells_of_models_need_a_token(locked, method, path):
    client = locked()

    response = client.request(method, path)

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["x-error-message"] == "a token is needed; send it as: Authorization: Bearer TOKEN"
    assert response.headers["x-request-id"]
    assert client.request(method, path, headers=bearer(INFER)).status_code != 401


@pytest.mark.parametrize(
    "path", ["/health", "/health/", "/health/ready", "/ping", "/", "/metrics", "/docs", "/openapi.json"]
)
def test_probes_metrics_and_documents_are_open(locked, path):
    assert locked().get(path).status_code == 200


def test_every_hash_is_compared_in_constant_time_whatever_the_token(monkeypatch):
    compared = []
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda one, other: compared.append(one) or one == other)
    keyring = Keyring([credential(name, name, "infer") for name in ("a", "b", "c")])

    for token in ("a", "c", "wrong"):
        compared.clear()
        keyring.find(f"Bearer {token}")
        assert len(compared) == 3


def test_documents_are_closed_by_a_setting(locked):
    client = locked(open_docs=False)

    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 401
    assert client.get("/docs", headers=bearer(INFER)).status_code == 200


def test_metrics_want_the_scope_admin_by_a_setting(locked):
    client = locked(open_metrics=False)

    assert client.get("/metrics").status_code == 401
    refused = client.get("/metrics", headers=bearer(INFER))
    assert refused.status_code == 403
    assert refused.json() == {
        "error": "this token may not do that: it needs the scope admin",
        "error_type": "forbidden",
    }
    assert refused.headers["x-error-message"] == refused.json()["error"]
    assert client.get("/metrics", headers=bearer(ADMIN)).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(locked, scheme):
    assert locked().post("/", json="so", headers={"authorization": f"{scheme} {INFER}"}).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [f"Bearer {INFER}x", f"Bearer {INFER[:-1]}", "Bearer", "Bearer ", f"Basic {INFER}", INFER, "Bearer ü"],
)
def test_a_wrong_token_is_refused_in_json(locked, authorization):
    response = locked().post("/", json="so", headers={"authorization": authorization.encode()})

    assert response.status_code == 401
    assert response.json() == {
        "error": "Invalid credentials in Authorization header; expected: Bearer TOKEN",
        "error_type": "unauthorized",
    }


def test_openai_routes_refuse_as_openai_does(locked):
    for path in ("/v1/chat/completions", "/models/acme/labels/v1/completions"):
        error = locked().post(path, json={}).json()["error"]
        assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")


def test_a_browser_can_read_a_refusal_and_ask_beforehand(locked):
    origin = {"origin": "https://example.org"}
    asked = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}

    refused = locked().post("/", json="so", headers=origin)

    assert refused.headers["access-control-allow-origin"] == "*"
    assert "x-error-message" in refused.headers["access-control-expose-headers"]
    assert locked().request("OPTIONS", "/", headers=asked).status_code == 200


def test_without_tokens_any_authorization_is_accepted_and_ignored(labels):
    for authorization in ("Bearer whatever", "Basic eDp5", "nonsense"):
        assert labels.post("/", json="so", headers={"authorization": authorization}).status_code == 200


def test_a_body_is_not_read_before_the_token_is_known(locked):
    async def body():
        pytest.fail("the body was read")
        yield b""

    assert locked().post("/", content=body()).status_code == 401


def test_a_token_has_so_much_work_a_minute(locked):
    client = locked()
    texts = ["ten chars " + str(number) for number in range(3)]

    first = client.post("/", json=texts[0], headers=bearer(LIMITED))
    second = client.post("/", json=texts[1], headers=bearer(LIMITED))
    refused = client.post("/", json=texts[2], headers=bearer(LIMITED))

    # 11 tokens each: the second may cost more than is left
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.headers["x-ratelimit-limit-tokens"] == "12"
    assert refused.status_code == 429
    assert refused.json()["error_type"] == "overloaded"
    assert "Rate limit reached: 12 tokens of work a minute" in refused.json()["error"]
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert client.post("/", json=texts[2], headers=bearer(INFER)).status_code == 200
    assert client.get("/models", headers=bearer(LIMITED)).status_code == 200


class TestBucket:
    def test_it_is_refilled_all_the_time_up_to_a_minutes_worth(self):
        clock = Clock()
        bucket = Bucket(60, clock)
        bucket.settle(bucket.take(), 61)
        with pytest.raises(RateLimited) as refused:
            bucket.take()
        assert refused.value.retry_after_s == pytest.approx(2)

        clock.now = 2.0
        bucket.take()
        clock.now = 1000.0
        assert bucket.left == 60

    def test_requests_that_are_not_answered_yet_count_as_much_as_those_before_them(self):
        clock = Clock()
        bucket = Bucket(100, clock)
        for _ in range(100):
            clock.now += 60
            bucket.settle(bucket.take(), 20)
        clock.now += 60

        assert [round(bucket.take()) for _ in range(5)] == [20] * 5
        with pytest.raises(RateLimited):
            bucket.take()


class TestFiles:
    def test_a_token_that_was_made_is_let_in_and_only_its_hash_is_kept(self, tmp_path):
        token, line = make_token("ci", ("infer", "admin"), 1000)
        (tmp_path / "tokens").write_text(f"# mine\n\n{line}\n")

        found = read_keyring(tmp_path / "tokens", {}).find(f"Bearer {token}")

        assert (found.name, found.scopes, found.tokens_per_minute) == ("ci", {"infer", "admin"}, 1000)
        assert token not in line
        assert len(token) >= 43

    def test_tokens_of_the_environment_may_infer(self):
        keyring = read_keyring(None, {"ONNXPIPE_TOKENS": f"{INFER}\n {ADMIN}"})

        assert keyring.find(f"Bearer {ADMIN}").scopes == {"infer"}
        assert keyring.find(f"Bearer {LIMITED}") is None

    def test_without_any_everybody_may(self):
        assert read_keyring(None, {}) is None
        assert read_keyring(None, {"ONNXPIPE_TOKENS": " "}) is None

    def test_a_short_token_is_refused_and_not_shown(self):
        with pytest.raises(InvalidInput, match="token 1 is too short: expected at least 20") as error:
            read_keyring(None, {"ONNXPIPE_TOKENS": "hunter2"})
        assert "hunter2" not in str(error.value)

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("ci infer", "given 2 words"),
            (f"ci infer {INFER}", "expected the SHA-256 of a token"),
            (f"ci everything {'0' * 64}", "expected scopes of infer, admin .* given 'everything'"),
            (f"c/i infer {'0' * 64}", "expected a name"),
            (f"ci infer {'0' * 64} 0", "expected tokens of work a minute"),
        ],
    )
    def test_a_wrong_line_is_told_of_by_its_number_and_not_shown(self, tmp_path, line, problem):
        (tmp_path / "tokens").write_text(f"# mine\n{line}\n")

        with pytest.raises(InvalidInput, match=f"tokens, line 2: .*{problem}") as error:
            read_credentials(tmp_path / "tokens")
        assert INFER not in str(error.value)

    def test_a_file_without_tokens_locks_nobody_in_by_mistake(self, tmp_path):
        (tmp_path / "tokens").write_text("# none yet\n")

        with pytest.raises(InvalidInput, match="no tokens are given"):
            read_keyring(tmp_path / "tokens", {})

    def test_a_file_that_is_not_there_is_told_of(self, tmp_path):
        with pytest.raises(InvalidInput, match="the tokens cannot be read"):
            read_keyring(tmp_path / "tokens", {})

    def test_two_tokens_of_one_name_are_refused(self, tmp_path):
        (tmp_path / "tokens").write_text(f"ci infer {'0' * 64}\nci infer {'1' * 64}\n")

        with pytest.raises(InvalidInput, match="two tokens have the same name: ci"):
            read_keyring(tmp_path / "tokens", {})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are made by fork")
def test_forked_processes_spend_the_same_tokens():
    _, line = make_token("ci", ("infer",), 1_000_000)
    credential = read_line(line)
    ring = Keyring([credential])
    ring.share()
    # the clock stands still: nothing is refilled
    bucket = ring.bucket(credential)
    now = bucket._clock()
    bucket._clock = lambda: now
    numbers = []
    for _ in range(4):
        number = os.fork()
        if number == 0:
            for _ in range(500):
                bucket.settle(bucket.take(), 7)
            os._exit(0)
        numbers.append(number)
    assert [os.waitpid(number, 0)[1] for number in numbers] == [0] * 4

    assert bucket.left == pytest.approx(1_000_000 - 4 * 500 * 7, abs=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are made by fork")
def test_a_process_that_is_killed_leaves_the_tokens_to_the_others():
    _, line = make_token("ci", ("infer",), 100)
    credential = read_line(line)
    ring = Keyring([credential])
    ring.share()
    bucket = ring.bucket(credential)
    number = os.fork()
    if number == 0:
        with bucket._lock():
            os._exit(9)
    os.waitpid(number, 0)

    assert bucket.take() == 1
    assert bucket.left <= 99
