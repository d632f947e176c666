"""Errors as problem details (RFC 9457), which never hold a value of the input.

Statuses are decided here: the stores know nothing of HTTP.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from flows.api.cursors import BadCursor
from flows.api.store import (
    Changed,
    Conflict,
    NotOffered,
    Unsorted,
    ValueRefused,
)
from flows.errors import ItemRejected, MigrationError, Throttled

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
STATUSES: dict[type[MigrationError], int] = {
    BadCursor: HTTPStatus.BAD_REQUEST,
    Changed: HTTPStatus.PRECONDITION_FAILED,
    Conflict: HTTPStatus.CONFLICT,
    NotOffered: HTTPStatus.CONFLICT,
    ItemRejected: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unsorted: HTTPStatus.UNPROCESSABLE_ENTITY,
    ValueRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
}
# Seconds after which a retry may succeed.
AFTER_THROTTLING = "1"
AFTER_OUTAGE = "5"
# Replaces pydantic's message, which names the unknown field.
WORDS = {"extra_forbidden": "Unknown fields are refused."}


class Problem(Exception):
    """Raised by the layers above the stores, with the status to answer."""

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.errors = errors


def problem_response(
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
) -> Response:
    """Return the response for a problem."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors:
        content["errors"] = list(errors)
    return Response(
        orjson.dumps(content), status, headers=headers, media_type=MEDIA_TYPE
    )


def add_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem."""
    app.add_exception_handler(Problem, _show_problem)
    app.add_exception_handler(HTTPException, _show_http_error)
    app.add_exception_handler(RequestValidationError, _show_invalid)
    app.add_exception_handler(MigrationError, _show_store_error)


async def _show_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - it is registered for this
    return problem_response(
        error.status, error.detail, headers=error.headers, errors=error.errors
    )


async def _show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - the same
    status = error.status_code
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(sorted(_methods(request)))
        detail = "This path does not allow this method."
        return problem_response(status, detail, headers={"Allow": allowed})
    if status == HTTPStatus.NOT_FOUND:
        return problem_response(status, "There is nothing at this path.")
    return problem_response(status, str(error.detail), headers=error.headers)


def _methods(request: Request) -> set[str]:
    """Return all methods of a path, which may belong to several routes."""
    found: set[str] = set()
    for route in request.app.state.routes:
        match, _ = route.matches(request.scope)
        if match != Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found | {"HEAD"} if "GET" in found else found


async def _show_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - the same
    errors = [_place(each) for each in error.errors()]
    detail = "The request is invalid; see `errors`."
    return problem_response(
        HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=list(map(dict, set(errors)))
    )


def _place(error: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    part, *path = error["loc"]
    detail = WORDS.get(error["type"]) or str(error["msg"])
    if part != "body":
        return (("detail", detail), ("parameter", str(path[0])))
    known = error["type"] not in WORDS and path
    return (("detail", detail), ("pointer", f"#/{path[0]}" if known else "#"))


async def _show_store_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, MigrationError)  # noqa: S101 - the same
    for kind, status in STATUSES.items():
        if isinstance(error, kind):
            return problem_response(status, _told(error))
    logger.warning("%s: %s", error.code, error.message)
    if isinstance(error, Throttled):
        detail, after = "The store accepts no more requests now.", AFTER_THROTTLING
    else:
        detail, after = "The store cannot answer now.", AFTER_OUTAGE
    return problem_response(
        HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": after}
    )


def _told(error: MigrationError) -> str:
    if isinstance(error, ItemRejected):
        # Its message names the table and its endpoint, which are for the log.
        return "The store refuses this content."
    return f"{error.message} {error.remedy}".strip()
