"""Limits on the parameters of a route, the size of a body and the content of JSON.

FastAPI alone would read 20 MB, accept NaN, UTF-16 and the last of two equal keys, and
fail on a NUL or a lone surrogate only in the store or in the answer.
"""

import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from flows.api.problems import Problem

MAX_BYTES = 65_536
_JSON = re.compile(r"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
_WORD = re.compile(r"[A-Za-z0-9_.$:\[\]-]{1,40}")
# One request may repeat thousands of parameters.
MOST_ERRORS = 10

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """A route that accepts only its parameters and a small body of plain JSON.

    A function that is not a coroutine uses the store and needs a turn. It takes the
    turn after the body was read, so that no slow client keeps one.
    """

    def get_route_handler(self) -> Handler:
        """Return the handler, with parameters and body checked before it."""
        handler = super().get_route_handler()
        known = [field.alias for field in self.dependant.query_params]
        asks_store = not inspect.iscoroutinefunction(self.endpoint)

        async def checked(request: Request) -> Response:
            require_known(request.query_params.multi_items(), known)
            if self.body_field is not None:
                request = await _with_checked_body(request)
            if not asks_store:
                return await handler(request)
            async with request.app.state.turns.one():
                return await handler(request)

        return checked


def require_known(given: Sequence[tuple[str, str]], known: Sequence[str]) -> None:
    """Refuse query parameters that the route does not have, or that are repeated.

    Raises:
        Problem: 422 that names the parameter and those of the route.
    """
    counts = Counter(name for name, _ in given)
    refused = [name for name, count in counts.items() if name not in known or count > 1]
    if not refused:
        return
    taken = f"this path takes {', '.join(known)}" if known else "this path takes none"
    detail = f"Unknown and repeated query parameters are refused; {taken}."
    errors = [_fault(name, known) for name in refused[:MOST_ERRORS]]
    raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors)


def _fault(name: str, known: Sequence[str]) -> dict[str, str]:
    detail = "The parameter is repeated." if name in known else "Unknown parameter."
    # Anything but a word may be a value, such as a password with an & in it.
    return {"detail": detail} | ({"parameter": name} if _WORD.fullmatch(name) else {})


async def _with_checked_body(request: Request) -> Request:
    body = await read_body(request)
    require_plain_json(body)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


async def read_body(request: Request) -> bytes:
    """Read a body up to the limit.

    Raises:
        Problem: 415 for another media type, 413 for more than 64 KB.
    """
    encoded = request.headers.get("content-encoding", "identity") != "identity"
    kind = request.headers.get("content-type", "")
    if encoded or not _JSON.fullmatch(kind.strip()):
        detail = "The body must be application/json, in UTF-8 and not compressed."
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    # The header is only a hint, so received bytes are counted.
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:20]) > MAX_BYTES:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise _too_large()
    return bytes(body)


def require_plain_json(body: bytes) -> None:
    """Refuse invalid JSON, and JSON that parsers read differently.

    Raises:
        Problem: 400 for such a body, without its text.
    """
    try:
        content = json.loads(
            body.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_once
        )
    # Also for too many digits, and for brackets that are nested too deeply.
    except (ValueError, RecursionError):
        detail = "The body is not JSON in UTF-8, or repeats a key, or holds NaN."
        raise Problem(HTTPStatus.BAD_REQUEST, detail) from None
    if any(_NOT_TEXT.search(text) for text in _texts(content)):
        detail = "The body holds a NUL or half a surrogate pair."
        raise Problem(HTTPStatus.BAD_REQUEST, detail)


def _too_large() -> Problem:
    # The unread rest must not be taken for the next request.
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than {MAX_BYTES} bytes.",
        {"Connection": "close"},
    )


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError
    return content


def _texts(content: Any) -> list[str]:
    found, rest = [], [content]
    while rest:
        each = rest.pop()
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, dict):
            rest += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            rest += each
    return found
