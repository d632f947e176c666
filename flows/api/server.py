"""Binding, and running uvicorn: what is unsafe is refused before anything listens."""

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn

from flows.api.app import create_app, open_store
from flows.api.gates import is_loopback
from flows.errors import MigrationError, SettingsError, Terminated
from flows.settings import Settings

# Requests under way are answered before the end.
STOP_SECONDS = 10
BACKLOG = 2048
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "stream": "ext://sys.stderr",
        }
    },
    "root": {"level": "WARNING", "handlers": ["stderr"]},
    "loggers": {"flows": {"level": "INFO"}, "uvicorn": {"level": "INFO"}},
}


def prepare(
    settings: Settings, *, host: str, workers: int, warn: Callable[[str], None]
) -> Callable[[], None]:
    """Check the settings, bind the port, and return what runs the service.

    A store that does not answer yet is no reason not to start: ``/ready`` tells.

    Raises:
        SettingsError: the settings are unsafe or cannot be used, or the port is taken.
    """
    require_safe(settings, host=host, workers=workers)
    store = open_store(settings)
    try:
        store.check()
    except SettingsError:
        raise
    except MigrationError as error:
        warn(f"The store is not ready: {error}")
    listening = _bind(host, settings.port)
    options: dict[str, Any] = {
        "log_config": LOGGING,
        # The gate's line has the request's id and no name.
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "ws": "none",
        "timeout_graceful_shutdown": STOP_SECONDS,
    }
    if workers > 1:
        # Each worker opens a store of its own, and all listen on this socket.
        store.close()
        options |= {"fd": listening.detach(), "workers": workers}
        return partial(uvicorn.run, "flows.api.app:create_app", factory=True, **options)
    app = create_app(settings, store)
    return partial(_run, uvicorn.Server(uvicorn.Config(app, **options)), listening)


def require_safe(settings: Settings, *, host: str, workers: int) -> None:
    """Refuse to serve everybody, or with cursors that only one worker knows.

    Raises:
        SettingsError: it would.
    """
    closed = settings.api_token or settings.allow_anonymous
    if not is_loopback(host) and not closed:
        message = f"On {host} everybody could change the enterprises."
        raise SettingsError(message, "Set API_TOKEN, or give --allow-anonymous.")
    if workers > 1 and settings.api_cursor_key is None:
        message = f"Without API_CURSOR_KEY, {workers} workers have a key each."
        raise SettingsError(message, "Set it to a secret, the same for all workers.")


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        message = f"Port {port} on {host} cannot be had: {error.strerror or error}."
        raise SettingsError(message, "Set PORT to another one.") from None
    # Connections inherit it. asyncio would set it only on sockets that it made itself,
    # and without it the body of each answer waits 40 ms for the client's ACK.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.set_inheritable(True)
    return listening


def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    # uvicorn stops in good order, and then raises the signal once more.
    with suppress(Terminated, KeyboardInterrupt):
        server.run(sockets=[listening])
