"""The OpenAPI document, and the service checked against it by schemathesis."""

import re
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS

from tests.support.serving import Service

EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
WITH_BODY = {
    "POST /api/enterprises",
    "PUT /api/enterprises",
    "PUT /api/enterprises/{enterprise_id}",
}
METHODS = {"get", "head", "post", "put", "delete"}
# No server error, and no undocumented answer.
HELD_TO = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
]


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all operations of a document."""
    return [
        operation
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in METHODS
    ]


@pytest.mark.parametrize("service", ["postgres", "dynamodb-local"], indirect=True)
def test_the_service_does_what_its_document_says(service: Service) -> None:
    """Valid and invalid requests must give no 5xx and no undocumented answer."""
    service.add("there already")
    schema = schemathesis.openapi.from_url(f"{service.client.base_url}/openapi.json")
    checks = CHECKS.get_by_names(HELD_TO)
    sent: Counter[tuple[str, str]] = Counter()

    def hold(case: schemathesis.Case) -> None:
        sent[mode.value, case.operation.label] += 1
        case.call_and_validate(checks=checks, timeout=30)

    for result in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            cases = result.ok().as_strategy(generation_mode=mode)
            # Not every request can be wrong: some take nothing, or any text.
            with suppress(Unsatisfiable):
                EXAMPLES(given(case=cases)(hold))()

    assert Counter(mode for mode, _ in sent)["positive"] == 11
    assert {label for mode, label in sent if mode == "negative"} >= WITH_BODY


def test_every_operation_is_described(any_service: Service) -> None:
    """Each must have a summary and a description, and document its refusals."""
    document = any_service.client.get("/openapi.json").json()

    for operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert "200" in operation["responses"] or "201" in operation["responses"]
    schemas = document["components"]["schemas"]
    shown = {"Enterprise", "NewEnterprise", "NamedEnterprise", "Problem"}
    assert all(schemas[name]["examples"] for name in shown)
    assert "HTTPValidationError" not in schemas


def test_problems_are_of_their_media_type(any_service: Service) -> None:
    """Every documented refusal must be problem details, with one shared schema."""
    document = any_service.client.get("/openapi.json").json()

    refusals = [
        response["content"]
        for operation in operations(document)
        for status, response in operation["responses"].items()
        if status >= "400" and not operation["operationId"].endswith("_head")
    ]
    assert refusals
    for content in refusals:
        (shown,) = content.items()
        assert shown[0] == "application/problem+json"
        assert shown[1]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_head_is_documented_where_headers_are(any_service: Service) -> None:
    """It must have the parameters, statuses and headers of GET, and no content."""
    document = any_service.client.get("/openapi.json").json()
    names = [each["operationId"] for each in operations(document)]

    assert len(names) == len(set(names)) == 11
    with_head = [path for path in document["paths"].values() if "head" in path]
    assert len(with_head) == 2
    for methods in with_head:
        get, head = methods["get"], methods["head"]
        assert head.get("parameters") == get.get("parameters")
        assert head["responses"].keys() == get["responses"].keys()
        for status, answer in head["responses"].items():
            assert "content" not in answer
            shown = get["responses"][status].get("headers")
            assert answer.get("headers") == shown


def test_the_order_of_pages_is_documented(any_service: Service) -> None:
    """Readers must find the one order, and the store that lacks it."""
    document = any_service.client.get("/openapi.json").json()
    listed = document["paths"]["/api/enterprises"]["get"]
    (sort,) = [each for each in listed["parameters"] if each["name"] == "sort"]

    assert not sort["required"]
    assert sort["schema"]["enum"] == ["name"]
    assert "DynamoDB" in sort["description"]
    assert "sort=name" in listed["description"]


def test_the_document_forbids_what_no_store_holds(any_service: Service) -> None:
    """A NUL is refused in a name, so the document must not allow it."""
    document = any_service.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    parameters = document["paths"]["/api/enterprises"]["get"]["parameters"]
    (wanted,) = [p["schema"] for p in parameters if p["name"] == "name"]
    (text,) = [
        each
        for each in schemas["NamedEnterprise"]["properties"]["id"]["anyOf"]
        if each["type"] == "string"
    ]
    name = schemas["NewEnterprise"]["properties"]["name"]

    for schema in (name, wanted, text):
        assert re.search(schema["pattern"], "a b")
        assert not re.search(schema["pattern"], "a\x00b")
    assert not re.search(name["pattern"], "  ")
