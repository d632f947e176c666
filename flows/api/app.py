"""The assembled service: a store, the routes, and the gates before them."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi

from flows.api import docs, routes
from flows.api.cursors import Cursors
from flows.api.middleware import PlainGate, RequestLog, TokenGate
from flows.api.problems import add_handlers
from flows.api.schemas import Problem
from flows.api.store import EnterpriseStore
from flows.api.turns import TURNS, Turns
from flows.settings import Settings, load_settings

# For the requests that have a turn at the store, and for files of the page.
THREADS = TURNS + 8
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
DESCRIPTION = """The enterprises of one store: PostgreSQL before the cutover, DynamoDB
after it, with the same routes and the same form. Ids are opaque and differ
between the stores, unless they are UUIDs in PostgreSQL: `id_map.parquet` of the run has
both. The full list is sorted by name; pages are with `sort=name`, on PostgreSQL.

Each path with GET answers HEAD, too, with the same status and headers and no body.
Unknown query parameters and fields are refused.

A change is safe against concurrent changes if it has `If-Match` with the
`ETag` that was read. Errors are problem details (RFC 9457) and never repeat a value.
"""


def create_app(
    settings: Settings | None = None, store: EnterpriseStore | None = None
) -> FastAPI:
    """Create the service from the settings in force; nothing connects yet.

    Raises:
        SettingsError: the store's settings cannot be used.
    """
    settings = settings or load_settings()
    store = store or open_store(settings)
    app = FastAPI(
        title="Enterprises",
        version=version("enterprise-migration"),
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
    )
    app.state.store = store
    app.state.turns = Turns()
    app.state.cursors = Cursors(_cursor_key(settings), _store_name(settings))
    add_handlers(app)
    # The middleware that is added last runs first.
    token = settings.api_token.get_secret_value() if settings.api_token else None
    app.add_middleware(TokenGate, token=token, anonymous=settings.allow_anonymous)
    if settings.cors_origins:
        _allow_origins(app, settings.cors_origins)
    app.add_middleware(PlainGate)
    app.add_middleware(RequestLog)
    app.state.routes = []
    for router in (routes.router, routes.probes, docs.router):
        app.include_router(router)
        app.state.routes += router.routes
    app.openapi = lambda: _openapi(app, secured=token is not None)  # type: ignore[method-assign]
    return app


def open_store(settings: Settings) -> EnterpriseStore:
    """Create the store that ``STORAGE_MODE`` names; nothing connects yet.

    Raises:
        SettingsError: the settings of this store cannot be used.
    """
    if settings.storage_mode == "dynamodb":
        from flows.api.dynamodb_store import DynamoStore
        from flows.stores.dynamodb.table import open_table

        table = open_table(settings)
        return DynamoStore(table, consistent=settings.dynamodb_consistent_reads)
    from flows.api.postgres_store import PostgresStore

    return PostgresStore(settings)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield
    app.state.store.close()


def _cursor_key(settings: Settings) -> bytes:
    """Return the key of the cursors: the set one, or a random one per process."""
    if settings.api_cursor_key is None:
        return secrets.token_bytes(32)
    return settings.api_cursor_key.get_secret_value().encode()


def _store_name(settings: Settings) -> str:
    if settings.storage_mode == "dynamodb":
        return f"dynamodb {settings.dynamodb_enterprise_table}"
    return f"postgres {settings.source_table}"


def _allow_origins(app: FastAPI, origins: str) -> None:
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[origin.strip() for origin in origins.split(",")],
        allow_methods=METHODS,
        allow_headers=["Authorization", "Idempotency-Key", "If-Match", "X-Request-ID"],
        expose_headers=["ETag", "Link", "Location", "Retry-After", "X-Request-ID"],
    )


def _openapi(app: FastAPI, *, secured: bool) -> dict[str, Any]:
    """Return the OpenAPI document, with the schema that all problems share."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    shared = problem.pop("$defs", {}) | {"Problem": problem}
    components.setdefault("schemas", {}).update(shared)
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    for path in document["paths"].values():
        # Elsewhere the headers say nothing of the content.
        if "headers" in path.get("get", {}).get("responses", {}).get("200", {}):
            path["head"] = _head_of(path["get"])
    if secured:
        bearer = {"type": "http", "scheme": "bearer"}
        components["securitySchemes"] = {"token": bearer}
        document["security"] = [{"token": []}]
    app.openapi_schema = document
    return document


def _head_of(get: dict[str, Any]) -> dict[str, Any]:
    """Return the operation that answers as *get* does, without the body."""
    responses = {
        status: {name: value for name, value in answer.items() if name != "content"}
        for status, answer in get["responses"].items()
    }
    name = get["operationId"].removesuffix("_get")
    said = {"operationId": f"{name}_head", "summary": f"{get['summary']}: headers only"}
    return get | said | {"responses": responses}
