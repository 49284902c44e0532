import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

LABELS = [[{"label": "so", "score": 0.5}, {"label": "it", "score": 0.5}, {"label": "is", "score": 0.5}]]
SIMILARITY = {"source_sentence": "a", "sentences": ["a", "b"]}


@pytest.mark.parametrize(
    "path",
    [
        "/models/acme/labels",
        "/models/acme%2Flabels",
        "/models/acme%2flabels/",
        "/models/labels",
        "/models/acme/labels/",
        "/models/acme/labels?unknown=1&x",
        "/models/acme/labels/pipeline/text-classification",
        "/models/acme%2Flabels/pipeline/text-classification/",
        "/pipeline/text-classification/acme/labels",
        "/pipeline/text-classification/acme%2Flabels",
        "/pipeline/text-classification/labels/",
    ],
)
def test_a_model_answers_under_each_of_its_routes(client, path):
    response = client.post(path, json={"inputs": "so it is"})

    assert response.status_code == 200
    assert response.json() == LABELS


@pytest.mark.parametrize("path", ["/", "/predict", "/invocations", "/predict/"])
def test_the_only_model_needs_no_id(labels, path):
    assert labels.post(path, json={"inputs": "so it is"}).json() == LABELS


@pytest.mark.parametrize("path", ["/", "/predict", "/invocations"])
def test_with_several_models_one_must_be_chosen(client, path):
    response = client.post(path, json={"inputs": "so it is"})

    assert response.status_code == 400
    assert "acme/labels, acme/embedder" in response.json()["error"]


def test_an_unknown_model_is_a_404(client):
    response = client.post("/models/acme/unknown", json={"inputs": "a"})

    assert response.status_code == 404
    assert response.json() == {"error": "Model acme/unknown does not exist", "error_type": "not_found"}


@pytest.mark.parametrize("path", ["/models/embedder/pipeline/fill-mask", "/pipeline/fill-mask/acme/embedder"])
def test_a_task_that_is_not_served_is_a_400_with_the_choices(client, path):
    response = client.post(path, json={"inputs": "a"})

    assert response.status_code == 400
    assert "sentence-similarity, feature-extraction" in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"inputs": "abc"}, [0.0, 0.5, 1.0]),
        ({"inputs": ["abc"]}, [[0.0, 0.5, 1.0]]),
        ({"inputs": SIMILARITY}, [1.0, 0.0]),
        (SIMILARITY, [1.0, 0.0]),
    ],
)
def test_the_inputs_choose_among_the_tasks_of_a_model(embedder, body, expected):
    assert embedder.post("/", json=body).json() == expected


def test_a_named_task_takes_its_own_inputs_only(embedder):
    response = embedder.post("/models/embedder/pipeline/sentence-similarity", json={"inputs": "abc"})

    assert response.status_code == 400
    assert "`source_sentence`, `sentences`" in response.json()["error"]


@pytest.mark.parametrize(
    "body", [{"inputs": "abc", "parameters": {"dimensions": 2}}, {"inputs": "abc", "dimensions": 2}]
)
def test_parameters_are_taken_from_either_place(embedder, body):
    assert embedder.post("/", json=body).json() == [0.0, 0.5]


def test_a_parameter_beside_the_inputs_is_taken_too(embedder):
    assert embedder.post("/", json={**SIMILARITY, "truncate": False}).json()["error"] == "too long"


def test_unknown_fields_and_parameters_are_ignored(labels):
    body = {
        "inputs": "so it is",
        "parameters": {"top_p": 1, "multi_label": False},
        "options": {"use_cache": "perhaps", "wait_for_model": True},
        "model": "acme/labels",
    }

    assert labels.post("/", json=body, headers={"x-use-cache": "0", "x-wait-for-model": "1"}).json() == LABELS


def test_an_encoding_of_vectors_is_ignored_where_clients_read_numbers(embedder):
    for body in ({"inputs": "abc", "encoding_format": "base64"}, {"inputs": ["abc"], "encoding_format": "base64"}):
        assert embedder.post("/models/embedder/pipeline/feature-extraction", json=body).json() in (
            [0.0, 0.5, 1.0],
            [[0.0, 0.5, 1.0]],
        )


def test_a_body_without_content_type_is_read(labels):
    response = labels.post("/", content=json.dumps({"inputs": "so it is"}))

    assert "content-type" not in response.request.headers
    assert response.json() == LABELS


def test_a_server_may_take_fewer_labels_than_a_thousand(make_client, served):
    chooser = served("acme/chooser", "chooser")
    body = {"inputs": "a", "parameters": {"candidate_labels": ["b", "c", "d"]}}

    assert make_client(chooser).post("/", json=body).json() == {"labels": ["b", "c", "d"]}
    refused = make_client(chooser, max_labels=2).post("/", json=body)

    assert refused.status_code == 400
    assert refused.json()["error"] == "`parameters.candidate_labels`: expected at most 2, given 3"


def test_a_body_of_another_charset_is_a_400_that_names_utf_8(labels):
    response = labels.post("/", content="año".encode("latin-1"))

    assert response.status_code == 400
    assert "utf-8" in response.json()["error"]


def test_the_answer_says_how_it_was_made(client):
    response = client.post("/models/labels", json={"inputs": ["so it is", "añ"]})

    headers = response.headers
    assert headers["content-type"] == "application/json"
    assert headers["x-compute-type"] == "cpu"
    assert headers["x-compute-characters"] == "10"
    assert headers["x-compute-tokens"] == "10"
    assert headers["x-sha"] == "abc123"
    assert len(headers["x-compute-time"].partition(".")[2]) == 3
    for name in ("x-total-time", "x-tokenization-time", "x-queue-time", "x-inference-time"):
        assert headers[name].isdecimal(), name
    assert "x-truncated" not in headers
    assert "x-warnings" not in headers


def test_a_model_on_a_gpu_says_so(client):
    assert client.post("/models/embedder", json={"inputs": "abc"}).headers["x-compute-type"] == "gpu"


def test_what_was_cut_or_noticed_is_said_in_ascii_headers(labels):
    headers = labels.post("/", json={"inputs": "long"}).headers

    assert headers["x-truncated"] == "3"
    assert headers["x-warnings"].isascii()
    assert json.loads(headers["x-warnings"]) == ["größer\nthan expected"]


def test_a_long_answer_is_compressed_for_those_who_read_that(labels):
    words = " ".join(["word"] * 60)
    packed = labels.post("/", json={"inputs": words}, headers={"accept-encoding": "gzip, deflate"})
    plain = labels.post("/", json={"inputs": words}, headers={"accept-encoding": "identity"})

    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert "content-encoding" not in plain.headers
    assert "accept-encoding" in packed.headers["vary"].lower()
    assert "accept-encoding" in plain.headers["vary"].lower()
    assert packed.json() == plain.json()


def test_a_short_answer_is_not_compressed(labels):
    response = labels.post("/", json={"inputs": "word"}, headers={"accept-encoding": "gzip"})

    assert "content-encoding" not in response.headers


CLASSIC = {"labels": ["so", "it"]}
TASKS = [{"label": "so", "score": 0.5}, {"label": "it", "score": 0.5}]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, CLASSIC),
        ({"user-agent": ""}, CLASSIC),
        ({"user-agent": "unknown/None; hf_hub/0.36.2; python/3.11.7"}, CLASSIC),
        ({"user-agent": "unknown/None; hf_hub/1.1.4; python/3.11.7"}, CLASSIC),
        ({"user-agent": "unknown/None; hf_hub/1.1.5; python/3.11.7"}, TASKS),
        ({"user-agent": "unknown/None; hf_hub/1.1.5.dev0; python/3.11.7"}, TASKS),
        ({"user-agent": "unknown/None; hf_hub/1.10; python/3.11.7"}, TASKS),
        ({"user-agent": "unknown/None; hf_hub/2.4.0; python/3.11.7"}, TASKS),
        ({"user-agent": "hf_hub/2"}, TASKS),
        ({"user-agent": "not_hf_hub/2.4.0"}, CLASSIC),
        ({"user-agent": "hf_hub/x"}, CLASSIC),
        ({"user-agent": "hf_hub/" + "9" * 5000}, TASKS),
        ({"user-agent": "acme/client/1.9"}, CLASSIC),
        ({"user-agent": "acme/client/2.0"}, TASKS),
        ({"x-output-format": "tasks"}, TASKS),
        ({"x-output-format": "Legacy", "user-agent": "hf_hub/2.4.0"}, CLASSIC),
        ({"x-output-format": "tasks", "user-agent": "hf_hub/0.36.2"}, TASKS),
    ],
)
def test_a_result_comes_in_the_form_that_the_client_knows(ranker, headers, expected):
    assert ranker.post("/", json={"inputs": "so it"}, headers=headers).json() == expected
    assert ranker.post("/", json={"inputs": ["so it"] * 2}, headers=headers).json() == [expected] * 2


def test_an_unknown_form_is_a_400_that_names_the_header(ranker):
    response = ranker.post("/", json={"inputs": "so it"}, headers={"x-output-format": "xml"})

    assert response.status_code == 400
    assert response.json()["error"] == "`x-output-format`: expected 'legacy' or 'tasks', given 'xml'"


def test_a_task_with_one_form_does_not_look_at_the_header(labels):
    assert labels.post("/", json={"inputs": "so it is"}, headers={"x-output-format": "xml"}).json() == LABELS


def test_caches_are_told_what_the_form_hangs_on(ranker, labels):
    short, long = (ranker.post("/", json={"inputs": words}).headers["vary"] for words in ("so", "so " * 500))

    # the CORS middleware adds an origin
    assert short.startswith("user-agent, x-output-format")
    assert long.startswith("user-agent, x-output-format, accept-encoding")
    assert "user-agent" not in labels.post("/", json={"inputs": "so"}).headers.get("vary", "")


SENSIBLE = {200, 400, 404, 413, 422}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["inputs", "parameters"]), inner),
    max_leaves=10,
)
PATHS = st.sampled_from(
    ["/", "/models/steady", "/models/nobody", "/models/steady/pipeline/sentence-similarity", "/pipeline/other/steady"]
)
TYPES = st.sampled_from(
    ["", "application/json", "application/x-www-form-urlencoded", "text/plain", "application/octet-stream"]
)


@pytest.fixture(scope="module")
def steady(served, make_client):
    return make_client(served("acme/steady", "steady"))


@given(path=PATHS, content_type=TYPES, body=st.binary())
@settings(deadline=None, max_examples=200)
def test_any_bytes_get_a_sensible_answer(steady, path, content_type, body):
    response = steady.post(path, content=body, headers={"content-type": content_type})

    assert response.status_code in SENSIBLE
    assert isinstance(response.json(), dict | list)


@given(path=PATHS, content_type=TYPES, body=JSON, inputs=JSON, parameters=JSON)
@settings(deadline=None, max_examples=200)
def test_any_json_gets_a_sensible_answer(steady, path, content_type, body, inputs, parameters):
    for content in (body, {"inputs": inputs, "parameters": parameters}):
        response = steady.post(path, content=json.dumps(content), headers={"content-type": content_type})

        assert response.status_code in SENSIBLE
        assert isinstance(response.json(), dict | list)
        assert response.status_code == 200 or isinstance(response.json()["error"], str)


HEADERS = st.sampled_from(
    [
        "accept",
        "accept-encoding",
        "authorization",
        "content-type",
        "expect",
        "origin",
        "user-agent",
        "x-load-model",
        "x-onnxpipe-explain",
        "x-output-format",
        "x-request-id",
        "x-request-timeout",
        "x-use-cache",
        "x-wait-for-model",
    ]
)
VALUES = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"])) | st.sampled_from(
    [
        "0",
        "1",
        "-1",
        "1e999",
        "nan",
        "true",
        "gzip;q=x",
        "hf_hub/9.9",
        "hf_hub/" + "9" * 99,
        "application/json;charset=x",
    ]
)


@given(path=PATHS, headers=st.dictionaries(HEADERS, VALUES))
@settings(deadline=None, max_examples=200)
def test_any_headers_get_a_sensible_answer(ranker, path, headers):
    coded = {name: value.encode("latin-1") for name, value in headers.items()}
    response = ranker.post(path.replace("steady", "ranker"), json={"inputs": "so it is"}, headers=coded)

    assert response.status_code in SENSIBLE | {429, 504}
    assert isinstance(response.json(), dict | list)


@given(path=st.text(max_size=20).filter(lambda path: not path.startswith("//")))
@settings(deadline=None, max_examples=200)
def test_any_path_gets_a_sensible_answer(steady, path):
    response = steady.post(f"/models/{quote(path)}", json={"inputs": "a"})

    assert response.status_code in SENSIBLE | {405}
    assert isinstance(response.json(), dict | list)
