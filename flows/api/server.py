"""Bind the port and run uvicorn; unsafe settings are refused before that."""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from flows.api import silence
from flows.api.app import create_app, open_store
from flows.api.connections import LimitedConnection, backlog, require_files
from flows.api.middleware import is_loopback
from flows.errors import MigrationError, SettingsError, Terminated
from flows.settings import Settings

# Requests in progress are answered before the end, unless the store hangs.
GRACE_SECONDS = 7
LEAVE_SECONDS = 1.0
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["limit"],
            "stream": "ext://sys.stderr",
        }
    },
    "filters": {"limit": {"()": "flows.api.log_limit.LogLimit"}},
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {"flows": {"level": "INFO"}, "uvicorn": {"level": "INFO"}},
}


def prepare(
    settings: Settings, *, host: str, workers: int, warn: Callable[[str], None]
) -> Callable[[], None]:
    """Check the settings, bind the port, and return a function that runs the service.

    The service starts even if the store does not answer yet: ``/ready`` reports that.

    Raises:
        SettingsError: the settings are unsafe or cannot be used, or the port is taken.
    """
    require_safe(settings, host=host, workers=workers)
    require_files()
    store = open_store(settings)
    listening = _bind(host, settings.port)
    try:
        store.check()
    except SettingsError:
        listening.close()
        raise
    except MigrationError as error:
        warn(f"The store is not ready: {error}")
    options: dict[str, Any] = {
        "http": LimitedConnection,
        "backlog": backlog(),
        "log_config": LOGGING,
        # RequestLog logs requests, with their ids and without names.
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "ws": "none",
        "timeout_graceful_shutdown": GRACE_SECONDS,
    }
    if workers > 1:
        # Each worker opens a separate store, and all listen on this socket.
        store.close()
        options |= {"fd": listening.detach(), "workers": workers}
        return partial(
            uvicorn.run, f"{__name__}:create_worker", factory=True, **options
        )
    silence.limit()
    app = _leaving(create_app(settings, store))
    return partial(_run, uvicorn.Server(uvicorn.Config(app, **options)), listening)


def create_worker() -> ASGIApp:
    """Create the service in one of several worker processes."""
    silence.limit()
    return _leaving(create_app())


def _leaving(app: FastAPI) -> ASGIApp:
    """Return the service, which ends its process once it has shut down.

    The interpreter would wait for threads, which wait for a store that hangs.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        if scope["type"] == "lifespan":
            _leave_soon()

    return serve


def _leave_soon() -> None:
    leaving = threading.Timer(LEAVE_SECONDS, os._exit, [0])
    leaving.daemon = True
    leaving.start()


def require_safe(settings: Settings, *, host: str, workers: int) -> None:
    """Refuse open access off loopback, and workers without a common cursor key.

    Raises:
        SettingsError: the token or the cursor key is missing.
    """
    closed = settings.api_token or settings.allow_anonymous
    if not is_loopback(host) and not closed:
        message = f"On {host} anyone could change the enterprises."
        raise SettingsError(message, "Set API_TOKEN, or give --allow-anonymous.")
    if workers > 1 and settings.api_cursor_key is None:
        message = f"Without API_CURSOR_KEY, {workers} workers use different keys."
        raise SettingsError(message, "Set it to a secret, the same for all workers.")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=backlog())
    except OSError as error:
        message = f"Cannot bind port {port} on {host}: {error.strerror or error}."
        raise SettingsError(
            message, "Choose another one with --port or PORT."
        ) from None
    # Connections inherit it. asyncio would set it only on sockets that it creates,
    # and without it the body of each answer waits 40 ms for the client's ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.set_inheritable(True)
    return listening


def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    # uvicorn stops gracefully, and then raises the signal again.
    with suppress(Terminated, KeyboardInterrupt):
        server.run(sockets=[listening])
    # A second Ctrl-C ends the server without shutting the service down.
    _leave_soon()
