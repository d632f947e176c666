"""The routes: they parse requests, call the store, and render answers."""

import json
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import orjson
from fastapi import APIRouter, Header, Path, Query, Request, Response

from flows.api.bodies import StrictRoute
from flows.api.problems import Problem
from flows.api.schemas import (
    BODY_PROBLEMS,
    ETAG,
    LINK,
    LOCATION,
    NO_NUL,
    Enterprise,
    NamedEnterprise,
    NewEnterprise,
    Nothing,
    Ok,
    TableDescription,
    answers,
    problems,
)
from flows.api.store import Enterprise as StoredEnterprise
from flows.api.store import EnterpriseStore, Matches

PATH = "/api/enterprises"
PAGE = 100
LARGEST_PAGE = 1000

router = APIRouter(route_class=StrictRoute, tags=["enterprises"])
probes = APIRouter(route_class=StrictRoute, tags=["probes"])

Id = Annotated[
    str,
    Path(
        description="Opaque id, as returned by the service.",
        examples=["3500a20a-fa32-5543-842f-da54bef06c63", "42"],
    ),
]
IfMatch = Annotated[
    list[str] | None,
    Header(
        alias="If-Match",
        description="Change it only if its ETag is one of these.",
        examples=[["*"]],
    ),
]
Sort = Annotated[
    Literal["name"] | None,
    Query(
        description="Order of pages; the list without `limit` always has it. On"
        " PostgreSQL only: a table of DynamoDB has no order by name.",
        json_schema_extra={"enum": ["name"]},
    ),
]
Consistent = Annotated[
    bool | None,
    Query(
        description="Strongly consistent read, at twice the cost; for DynamoDB only."
    ),
]


@probes.get(
    "/health",
    response_model=Ok,
    responses={422: problems(422)[422]},
    summary="Check that the service runs",
)
async def health() -> Response:
    """Confirm that the service runs."""
    return _answer({"ok": True})


@probes.get(
    "/ready",
    response_model=Ok,
    responses={status: problems(422)[status] for status in (422, 503)},
    summary="Check that the store answers",
)
def ready(request: Request) -> Response:
    """Check that the store answers and has what the service needs."""
    _store(request).check()
    return _answer({"ok": True})


@router.get(
    PATH,
    response_model=list[Enterprise],
    responses=answers(200, LINK) | problems(400, 422),
    summary="List all, or a page",
)
def list_enterprises(  # noqa: PLR0913 - parameters of the query
    request: Request,
    *,
    name: Annotated[
        str | None,
        Query(
            description="Return only those with exactly this name.",
            json_schema_extra={"pattern": NO_NUL},
        ),
    ] = None,
    limit: Annotated[
        int | None,
        Query(ge=1, le=LARGEST_PAGE, description="Return a page of 1 to 1000."),
    ] = None,
    cursor: Annotated[
        str | None, Query(description="Start of the page, from `Link`.")
    ] = None,
    sort: Sort = None,
    consistent: Consistent = None,
) -> Response:
    """List all enterprises, sorted by name, or a page of them.

    The order by name is that of code points, and that of the ids for equal names. Pages
    follow the key of the store, by id on PostgreSQL and unordered on DynamoDB, unless
    `sort=name` is given. Follow `Link` to get the next page: it repeats the parameters.
    """
    if limit is None and cursor is None:
        if name is not None and "\x00" in name:
            raise Problem(HTTPStatus.BAD_REQUEST, "A name cannot hold a NUL.")
        found = _store(request).find(name=name, consistent=consistent)
        return _answer([e.asdict() for e in sorted(found, key=lambda e: e.order)])
    if name is not None:
        detail = "`name` searches all enterprises and cannot be combined with a page."
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    return _show_page(request, limit or PAGE, cursor, sort, consistent=consistent)


def _show_page(
    request: Request,
    limit: int,
    cursor: str | None,
    sort: str | None,
    *,
    consistent: bool | None,
) -> Response:
    cursors = request.app.state.cursors
    after = None if cursor is None else cursors.open(cursor, sort)
    page = _store(request).read_page(
        limit, after, by_name=sort is not None, consistent=consistent
    )
    headers = {}
    if page.end is not None:
        query = {"limit": str(limit), "cursor": cursors.seal(page.end, sort)}
        if sort is not None:
            query["sort"] = sort
        if consistent is not None:
            query["consistent"] = str(consistent).lower()
        headers["Link"] = f'<{PATH}?{urlencode(query)}>; rel="next"'
    return _answer([each.asdict() for each in page.enterprises], headers=headers)


@router.post(
    PATH,
    status_code=HTTPStatus.CREATED,
    response_model=Enterprise,
    responses=answers(201, ETAG | LOCATION) | problems(409, *BODY_PROBLEMS),
    summary="Create one",
)
def create_enterprise(
    request: Request,
    body: NewEnterprise,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=128,
            description="Send the same key again after a lost answer, so that no"
            " second enterprise is created. On DynamoDB only.",
        ),
    ] = None,
) -> Response:
    """Create an enterprise; the service sets its id and its times."""
    made = _store(request).create(body.name, idempotency_key)
    request.state.enterprise_id = str(made.id)
    return _show(made, HTTPStatus.CREATED, Location=f"{PATH}/{quote(str(made.id))}")


@router.get(
    f"{PATH}/debug/dynamodb",
    response_model=TableDescription,
    responses=problems(409, 422),
    summary="Describe the DynamoDB table",
)
def describe_table(request: Request) -> Response:
    """Describe the content of the DynamoDB table; this reads the whole table."""
    described = _store(request).describe()
    # Items of other programs may hold bytes or half a surrogate pair.
    body = json.dumps(described, default=repr)
    return Response(body, media_type="application/json")


@router.get(
    f"{PATH}/{{enterprise_id}}",
    response_model=Enterprise,
    responses=answers(200, ETAG) | problems(404, 422),
    summary="Show one",
)
def get_enterprise(
    request: Request, enterprise_id: Id, *, consistent: Consistent = None
) -> Response:
    """Show one enterprise."""
    found = _store(request).get(enterprise_id, consistent=consistent)
    if found is None:
        raise _unknown()
    return _show(found)


@router.put(
    f"{PATH}/{{enterprise_id}}",
    response_model=Enterprise,
    responses=answers(200, ETAG) | problems(404, 409, 412, *BODY_PROBLEMS),
    summary="Rename one",
)
def rename_enterprise(
    request: Request, enterprise_id: Id, body: NewEnterprise, if_match: IfMatch = None
) -> Response:
    """Rename an enterprise."""
    return _rename(request, enterprise_id, body.name, if_match)


@router.put(
    PATH,
    response_model=Enterprise,
    responses=answers(200, ETAG) | problems(404, 409, 412, *BODY_PROBLEMS),
    summary="Rename the one named in the body",
)
def rename_enterprise_of_body(
    request: Request, body: NamedEnterprise, if_match: IfMatch = None
) -> Response:
    """Rename the enterprise whose id is in the body."""
    request.state.enterprise_id = str(body.id)
    return _rename(request, str(body.id), body.name, if_match)


@router.delete(
    f"{PATH}/{{enterprise_id}}",
    response_model=Nothing,
    responses=problems(404, 409, 412, 422),
    summary="Delete one",
)
def delete_enterprise(
    request: Request, enterprise_id: Id, if_match: IfMatch = None
) -> Response:
    """Delete an enterprise, and nothing else that the store keeps under its key."""
    if not _store(request).delete(enterprise_id, _condition(if_match)):
        raise _unknown()
    return _answer({})


def _rename(
    request: Request, enterprise_id: str, name: str, if_match: list[str] | None
) -> Response:
    store = _store(request)
    changed = store.replace(enterprise_id, name, _condition(if_match))
    if changed is None:
        raise _unknown()
    return _show(changed)


def _condition(if_match: list[str] | None) -> Matches:
    """Return the condition of all If-Match headers; a weak tag matches nothing."""
    tags = {tag.strip() for value in if_match or "*" for tag in value.split(",")}
    if tags == {"*"}:
        return lambda _: True
    return lambda there: there.etag in tags


def _store(request: Request) -> EnterpriseStore:
    store: EnterpriseStore = request.app.state.store
    return store


def _unknown() -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, "There is no such enterprise.")


def _show(
    enterprise: StoredEnterprise, status: int = HTTPStatus.OK, **headers: str
) -> Response:
    headers["ETag"] = enterprise.etag
    return _answer(enterprise.asdict(), status, headers=headers)


def _answer(
    content: Any, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    body = orjson.dumps(content)
    return Response(body, status, headers=headers, media_type="application/json")
