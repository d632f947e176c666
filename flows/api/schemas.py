"""Requests, and what the OpenAPI document shows; ``store.Enterprise`` is answered."""

from http import HTTPStatus
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from flows.api.names import require_visible

NAME = "Acme GmbH"
UUID = "3500a20a-fa32-5543-842f-da54bef06c63"
STAMP = "2024-01-05T12:34:56.789Z"
ENTERPRISE: dict[str, Any] = {
    "id": UUID,
    "name": NAME,
    "createdAt": STAMP,
    "updatedAt": STAMP,
}
ITEM: dict[str, Any] = {"PK": f"ENT#{UUID}", "SK": "METADATA", "id": UUID, "name": NAME}
PROBLEM_SCHEMA = "#/components/schemas/Problem"
PROBLEM_TYPE = "application/problem+json"

NO_NUL = r"^[^\u0000]*$"

Responses: TypeAlias = dict[int | str, dict[str, Any]]

Name = Annotated[
    str,
    AfterValidator(require_visible),
    Field(
        min_length=1,
        description="Stored unchanged. At least one character must be visible.",
        json_schema_extra={"pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"},
    ),
]
Stamp = Annotated[
    str | None,
    Field(description="UTC, with milliseconds; null if old data have no time."),
]


class NewEnterprise(BaseModel):
    """What a client sets; the service sets id and times."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"name": NAME}]}
    )

    name: Name


class NamedEnterprise(BaseModel):
    """The enterprise to change, and its new name."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"id": UUID, "name": NAME}]},
    )

    id: Annotated[
        int | Annotated[str, Field(json_schema_extra={"pattern": NO_NUL})],
        Field(description="As returned by the service."),
    ]
    name: Name


class Enterprise(BaseModel):
    """An enterprise; its id differs between the stores, the rest is the same."""

    model_config = ConfigDict(json_schema_extra={"examples": [ENTERPRISE]})

    id: Annotated[
        int | str,
        Field(
            description="On DynamoDB a string, mostly a UUID; on PostgreSQL a number,"
            " or its string beyond 2^53."
        ),
    ]
    name: Annotated[
        str | None, Field(description="Null only if old data have no name.")
    ]
    createdAt: Stamp  # noqa: N815 - the name in the JSON
    updatedAt: Stamp  # noqa: N815


class Ok(BaseModel):
    """The service answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ok": True}]})

    ok: bool


class Nothing(BaseModel):
    """An empty object."""

    model_config = ConfigDict(extra="forbid")


class TableDescription(BaseModel):
    """The content of the DynamoDB table."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "tableName": "EnterpriseConfig",
                    "tableStatus": "ACTIVE",
                    "consistency": "eventual",
                    "totalItems": 3,
                    "enterprises": 1,
                    "keyPrefixes": {"ENT#": 2, "EPS#": 1},
                    "items": [ITEM],
                    "itemStructure": dict.fromkeys(ITEM, "S"),
                }
            ]
        }
    )

    tableName: str  # noqa: N815
    tableStatus: str  # noqa: N815
    consistency: Annotated[str, Field(description="Of reads: eventual or strong.")]
    totalItems: Annotated[int, Field(description="Items of all kinds.")]  # noqa: N815
    enterprises: Annotated[int, Field(description="Those that are enterprises.")]
    keyPrefixes: Annotated[  # noqa: N815
        dict[str, int], Field(description="Number of items per prefix of PK.")
    ]
    items: Annotated[
        list[dict[str, Any]], Field(description="The first ten enterprises.")
    ]
    itemStructure: Annotated[  # noqa: N815
        dict[str, str], Field(description="The DynamoDB type of each attribute.")
    ]


class Fault(BaseModel):
    """One error of a request: in its body (pointer) or in a parameter."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "There is no such enterprise.",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None


_SAID = {
    400: "The body is not plain JSON, or the cursor or the name is invalid.",
    401: "The token is missing or wrong.",
    404: "There is no such enterprise.",
    409: "The current state of the store does not allow it.",
    412: "The enterprise no longer matches `If-Match`.",
    413: "The body is larger than 64 KB.",
    415: "The body is not `application/json`.",
    421: "Without a token, only the machine's own names are served.",
    422: "A parameter is unknown or a value invalid; no value is repeated.",
    503: "The store cannot answer now; retry after `Retry-After` seconds.",
}
_RETRY_AFTER = {
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}
}
ETAG = {"ETag": {"schema": {"type": "string"}, "description": "For `If-Match`."}}
LOCATION = {"Location": {"schema": {"type": "string"}, "description": "Its path."}}
LINK = {
    "Link": {
        "schema": {"type": "string"},
        "description": 'The next page, `<…>; rel="next"`, unless this is the last.',
    }
}
BODY_PROBLEMS = (400, 413, 415, 422)


def answers(status: int, headers: dict[str, Any]) -> Responses:
    """Return the documentation of an answer that has extra headers."""
    return {status: {"headers": headers}}


def problems(*statuses: int) -> Responses:
    """Return the documentation of these statuses, and of those of all routes."""
    return {
        status: {
            "description": _SAID[status],
            "content": {PROBLEM_TYPE: _shown(status)},
            "headers": _RETRY_AFTER if status == HTTPStatus.SERVICE_UNAVAILABLE else {},
        }
        for status in sorted({*statuses, 401, 421, 503})
    }


def _shown(status: int) -> dict[str, Any]:
    example = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _SAID[status].replace("`", ""),
    }
    return {"schema": {"$ref": PROBLEM_SCHEMA}, "example": example}
