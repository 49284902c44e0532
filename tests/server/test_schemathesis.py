"""Requests that schemathesis makes of our own document, most of them wrong: each gets an answer of the contract.

ONNXPIPE_FUZZ_REQUESTS says how many wrong ones there are; half as many right ones come with them. They are others in
each run then, else the same.
"""

import os
import time
from collections import Counter

import hypothesis
import pytest

from onnxpipe_server.app import create_app
from onnxpipe_server.models import Models
from onnxpipe_server.settings import Settings
from serving import serving, serving_app

schemathesis = pytest.importorskip("schemathesis", reason="random requests need the dev extra")
from schemathesis.specs.openapi import checks  # noqa: E402

requests = pytest.importorskip("requests")

ASKED = os.environ.get("ONNXPIPE_FUZZ_REQUESTS")
WRONG = int(ASKED or "300")
PATIENCE_S = 60
# what no request may bring about: a bug, a model that does not come, work without an end
NEVER = {500, 503, 504}


class Asking:
    """A client that holds every answer against the document; `statuses` counts them."""

    def __init__(self, address):
        self._address = address
        self._session = requests.Session()
        document = self._session.get(f"{address}/openapi.json", timeout=PATIENCE_S).json()
        self._operations = [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]
        self.statuses = Counter()

    def wait(self):
        """Until the models are there: no answer to come back later is expected."""
        end = time.monotonic() + PATIENCE_S
        while self._session.get(f"{self._address}/health/ready", timeout=PATIENCE_S).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)

    def ask(self, wrong, model_id):
        """So many wrong requests, to all routes alike. Those whose path names a model have also this one in it."""
        ways = [
            (one, mode, path)
            for one in self._operations
            for mode in schemathesis.GenerationMode
            if one.method == "post" or mode.is_positive  # no path is wrong
            for path in ({}, {"path_parameters": {"model_id": model_id}})
            if "{" in one.path or not path
        ]
        each = -(-wrong // sum(mode.is_negative for _, mode, _ in ways))
        for one, mode, path in ways:
            count = each if mode.is_negative else -(-each // 2)
            self._send(one.as_strategy(generation_mode=mode, **path), count)

    def _send(self, strategy, count):
        @hypothesis.settings(
            max_examples=count,
            derandomize=ASKED is None,
            database=None,
            phases=[hypothesis.Phase.generate],  # the first failure is told as it came
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategy)
        def send(case):
            response = case.call(base_url=self._address, session=self._session, timeout=PATIENCE_S)
            self.statuses[response.status_code] += 1
            case.validate_response(response, checks=[check_answer])

        send()


def check_answer(context, response, case):
    """Documented status and content; an object for an error, and no status that only we can be to blame for."""
    checks.status_code_conformance(context, response, case)
    checks.content_type_conformance(context, response, case)
    if response.headers["content-type"][0].startswith("application/json"):
        checks.response_schema_conformance(context, response, case)
    if response.status_code >= 400:
        assert response.json()["error"]
    assert response.status_code not in NEVER


def test_every_request_to_models_of_all_kinds_is_answered_as_documented(writing, served, letters_model):
    pytest.importorskip("jinja2", reason="chat templates need the chat extra")
    pytest.importorskip("llguidance", reason="grammars need the chat extra")
    kinds = [served(f"acme/{kind}", kind) for kind in ("steady", "ranker", "ears")]
    echo = writing("acme/echoes", "summarization", "translation", encoder=True)

    with serving_app(create_app(Models([*kinds, letters_model, echo]), Settings())) as address:
        asking = Asking(address)
        asking.ask(WRONG // 2, "acme/letters")

    assert asking.statuses.total() >= WRONG // 2
    assert asking.statuses[200] > 0
    assert asking.statuses[400] + asking.statuses[422] > asking.statuses.total() / 3


def test_every_request_to_real_models_is_answered_as_documented(minilm_bundle, task_bundles):
    with serving(str(minilm_bundle), *map(str, task_bundles.values())) as (address, _):
        asking = Asking(address)
        asking.wait()
        asking.ask(WRONG // 2, "tiny/text-classification")

    assert asking.statuses.total() >= WRONG // 2
    assert asking.statuses[200] > 0
    assert asking.statuses[400] + asking.statuses[422] > asking.statuses.total() / 3
