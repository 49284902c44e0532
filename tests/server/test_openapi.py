import re

import pytest

from onnxpipe_server.status import STATUSES


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


def parts(value):
    """Every object inside a JSON value, with itself."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(item)


def operation(document, path):
    return document["paths"][path]["post"]


def schema(document, content):
    return content["content"]["application/json"]["schema"]


def test_the_version_is_one_that_the_bundled_swagger_ui_reads(document):
    assert document["openapi"] == "3.0.3"


def test_every_reference_leads_somewhere(document):
    references = {part["$ref"] for part in parts(document) if "$ref" in part}

    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(
        document["components"]["schemas"]
    )


def test_no_schema_uses_words_that_version_3_0_does_not_have(document):
    for part in parts([document["components"], document["paths"]]):
        assert part.get("type") != "null"
        assert not {"const", "prefixItems", "$defs", "examples"} & part.keys()
        assert isinstance(part.get("exclusiveMinimum", True), bool)
        assert part.get("default", "") is not None


def test_operation_ids_are_unique_and_every_operation_has_a_response(document):
    operations = [item for path in document["paths"].values() for item in path.values()]

    assert len({item["operationId"] for item in operations}) == len(operations)
    assert all(response["description"] for item in operations for response in item["responses"].values())


def test_every_parameter_of_a_path_is_declared(document):
    for path, item in document["paths"].items():
        for described in item.values():
            declared = {parameter["name"] for parameter in described.get("parameters", [])}
            assert declared == set(re.findall(r"{(\w+)}", path))


def test_every_served_task_is_one_operation(document):
    posts = {path: item["post"]["summary"] for path, item in document["paths"].items() if "post" in item}

    assert posts == {
        "/models/acme/labels": "text-classification",
        "/models/acme/embedder": "sentence-similarity",
        "/models/acme/embedder/pipeline/feature-extraction": "feature-extraction",
        "/v2/models/{model_id}/infer": "Run the graph of a model on tensors",
    }


def test_parameters_carry_descriptions_ranges_and_choices(document):
    schemas = document["components"]["schemas"]

    assert schemas["VectorParameters"]["properties"]["dimensions"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 8,
        "description": "Keep only the first.",
        "title": "Dimensions",
    }
    temperature = schemas["VectorParameters"]["properties"]["temperature"]
    assert (temperature["minimum"], temperature["exclusiveMinimum"]) == (0, True)
    mode = schemas["LabelParameters"]["properties"]["mode"]
    assert (mode["enum"], mode["default"]) == (["plain", "loud"], "plain")
    assert schemas["PairInputs"]["required"] == ["source_sentence", "sentences"]


def test_a_request_takes_one_input_or_a_list(document):
    request = schema(document, operation(document, "/models/acme/labels")["requestBody"])

    assert request["required"] == ["inputs"]
    assert request["properties"]["inputs"]["anyOf"] == [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
    ]
    assert request["properties"]["parameters"] == {"$ref": "#/components/schemas/LabelParameters"}


def test_both_forms_of_a_result_are_documented(ranker):
    document = ranker.get("/openapi.json").json()
    response = operation(document, "/models/acme/ranker")["responses"]["200"]
    classic, labels = {"$ref": "#/components/schemas/Ranked"}, {"$ref": "#/components/schemas/Label"}
    tasks = {"type": "array", "items": labels}

    assert schema(document, response)["anyOf"] == [
        classic,
        tasks,
        {"type": "array", "items": classic},
        {"type": "array", "items": tasks},
    ]


def test_an_array_is_documented_as_numbers(document):
    response = operation(document, "/models/acme/embedder/pipeline/feature-extraction")["responses"]["200"]

    assert schema(document, response)["anyOf"][0] == {"$ref": "#/components/schemas/Numbers"}
    assert document["components"]["schemas"]["Numbers"]["items"]["anyOf"] == [
        {"type": "number"},
        {"$ref": "#/components/schemas/Numbers"},
    ]


def test_the_golden_request_is_the_example_and_gives_the_example(client, document):
    described = operation(document, "/models/acme/labels")
    request = described["requestBody"]["content"]["application/json"]["example"]
    response = described["responses"]["200"]["content"]["application/json"]["example"]

    assert request == {"inputs": "so it is", "parameters": {"top_k": 1}}
    assert client.post("/models/acme/labels", json=request).json() == response


def test_an_error_is_documented_as_it_is_sent(client, document):
    refused = operation(document, "/models/acme/labels")["responses"]["400"]
    sent = client.post("/models/acme/labels", content=b"").json()

    assert schema(document, refused) == {"$ref": "#/components/schemas/Error"}
    assert set(document["components"]["schemas"]["Error"]["required"]) == set(sent)


def test_a_server_with_a_model_that_writes_documents_the_other_dialects(letters):
    document = letters.get("/openapi.json").json()
    posts = {path for path, item in document["paths"].items() if "post" in item}

    assert posts == {
        "/models/acme/letters",
        "/generate",
        "/generate_stream",
        "/tokenize",
        "/decode",
        "/v1/chat/completions",
        "/v1/completions",
        "/models/{model_id}/v1/chat/completions",
        "/models/{model_id}/v1/completions",
    }
    for test in (
        test_every_reference_leads_somewhere,
        test_no_schema_uses_words_that_version_3_0_does_not_have,
        test_operation_ids_are_unique_and_every_operation_has_a_response,
        test_every_parameter_of_a_path_is_declared,
    ):
        test(document)


def test_requests_and_answers_of_the_other_dialects_are_documented(letters):
    document = letters.get("/openapi.json").json()
    chat, stream = operation(document, "/v1/chat/completions"), operation(document, "/generate_stream")

    assert schema(document, chat["requestBody"]) == {"$ref": "#/components/schemas/ChatRequest"}
    assert document["components"]["schemas"]["ChatRequest"]["required"] == ["messages"]
    assert set(chat["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    assert set(stream["responses"]["200"]["content"]) == {"text/event-stream"}
    assert schema(document, chat["responses"]["422"]) == {"$ref": "#/components/schemas/ProblemReport"}
    assert schema(document, stream["responses"]["422"]) == {"$ref": "#/components/schemas/Error"}
    classic = schema(document, operation(document, "/models/acme/letters")["requestBody"])
    assert set(classic["properties"]) == {"inputs", "parameters", "stream"}


def test_an_error_of_another_dialect_is_documented_as_it_is_sent(letters):
    schemas = letters.get("/openapi.json").json()["components"]["schemas"]
    sent = letters.post("/v1/completions", json={}).json()

    assert set(schemas["ProblemReport"]["required"]) == set(sent)
    assert set(schemas["Problem"]["required"]) == set(sent["error"])


def test_what_other_dialects_are_sent_may_be_null(letters):
    schemas = letters.get("/openapi.json").json()["components"]["schemas"]

    assert letters.post("/v1/completions", json={}).json()["error"]["param"] is not None
    assert letters.post("/v1/completions", content=b"{").json()["error"]["param"] is None
    assert schemas["Problem"]["properties"]["param"]["nullable"]


def test_every_status_of_the_table_is_documented(document):
    documented = set(operation(document, "/models/acme/labels")["responses"])
    answered = {str(status) for status, _ in STATUSES.values()} - {"499"}  # nobody is there to read it

    assert answered <= documented
