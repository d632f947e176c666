"""Middleware before the application: request ids, log lines, and access control.

It is plain ASGI, so that a refused request costs next to nothing.
"""

import hmac
import ipaddress
import logging
import re
import time
import traceback
from http import HTTPStatus
from urllib.parse import unquote
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.api.problems import problem_response
from flows.settings import LOOPBACK

logger = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
# They hold no enterprise; probes and browsers request them without a token.
OPEN = frozenset({"/", "/docs", "/favicon.ico", "/health", "/openapi.json", "/ready"})
OPEN_UNDER = "/docs/"
# h11 refuses a second Host, and a second Content-Length that differs.
SINGLE = (b"authorization", b"content-type", b"idempotency-key")
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SLASH = re.compile("%2f", re.IGNORECASE)
_PORT = re.compile(r":\d*$")
# The first eight digits of an id: of a UUID or of an integer.
_HEX = "[0-9A-Fa-f]"
_DIGITS = re.compile(
    rf"({_HEX}{{8}})-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}|(-?[0-9]{{1,8}})[0-9]{{0,11}}"
)


class RequestLog:
    """Gives each request an id, logs it without names, and answers internal errors.

    It logs the path of the route instead of the request's, and no query: both may hold
    names. Of an enterprise it logs the first eight digits of the id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":
            # Answered as GET; the server leaves the body out.
            scope = {**scope, "method": "GET"}
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _GIVEN_ID.fullmatch(given) else uuid4().hex
        began, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            logger.info("%s the client disconnected", request_id)
        except Exception as error:  # noqa: BLE001
            _log_fault(request_id, error)
            if not status:
                fault = problem_response(
                    HTTPStatus.INTERNAL_SERVER_ERROR,
                    f"Internal error; see {request_id} in the service's log.",
                )
                await fault(scope, receive, answer)
        finally:
            path = getattr(scope.get("route"), "path", "-")
            took = 1000 * (time.perf_counter() - began)
            served = {"served": 0 < status < HTTPStatus.BAD_REQUEST}
            line = "%s %s %s %d %.1f ms%s"
            whose = _enterprise(scope)
            logger.info(
                line, request_id, method, path, status, took, whose, extra=served
            )


def _enterprise(scope: Scope) -> str:
    """Return the end of a line that names the enterprise, if the request has one.

    A text of another form than an id's may be a name.
    """
    in_path = scope.get("path_params", {}).get("enterprise_id")
    given = scope.get("state", {}).get("enterprise_id", in_path)
    found = _DIGITS.fullmatch(given or "")
    return f" id={found[1] or found[2]}" if found else ""


def _log_fault(request_id: str, error: Exception) -> None:
    # Without the error's own text, which may hold values of rows.
    trace = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s %s\n%s", request_id, type(error).__name__, trace)


class PlainGate:
    """Refuses requests that a proxy and this service may read differently.

    An encoded slash belongs to its segment of the path, and stays encoded in it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it and close its connection."""
        if scope["type"] == "http":
            scope["path"] = unquote(_SLASH.sub("%252F", scope["raw_path"].decode()))
            detail = _ambiguity(scope)
            if detail is not None:
                closing = {"Connection": "close"}
                refusal = problem_response(
                    HTTPStatus.BAD_REQUEST, detail, headers=closing
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _ambiguity(scope: Scope) -> str | None:
    names = [name for name, _ in scope["headers"]]
    if b"transfer-encoding" in names and (
        b"content-length" in names or scope["http_version"] == "1.0"
    ):
        return "The headers state the length of the body in two ways."
    if any(names.count(name) > 1 for name in SINGLE):
        return "A header that allows one value is repeated."
    return None


class TokenGate:
    """Passes requests with the token or, if none is set, requests to loopback.

    Without a token the service answers all clients that reach it. A browser reaches
    loopback for any web page whose name resolves to it, so the Host must be one of this
    machine, unless *anonymous* allows all.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, anonymous: bool) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._anonymous = anonymous

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http" and not _is_open(scope["path"]):
            headers = Headers(scope=scope)
            if self._token is not None and not self._bears_token(headers):
                refusal = problem_response(
                    HTTPStatus.UNAUTHORIZED,
                    "A token is needed: Authorization: Bearer …",
                    headers={"WWW-Authenticate": "Bearer"},
                )
                await refusal(scope, receive, send)
                return
            if self._token is None and not (self._anonymous or _is_for_here(headers)):
                refusal = problem_response(
                    HTTPStatus.MISDIRECTED_REQUEST,
                    "Without API_TOKEN only this machine's own names are served.",
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _bears_token(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip().encode("latin-1")
        known = hmac.compare_digest(given, self._token or b"")
        return scheme.lower() == "bearer" and known


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(OPEN_UNDER)


def _is_for_here(headers: Headers) -> bool:
    host = _PORT.sub("", headers.get("host", "")).strip("[]").lower()
    return is_loopback(host)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's own."""
    if host in LOOPBACK:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
