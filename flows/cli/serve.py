"""``enterprises serve``: run the HTTP service."""

import os
from typing import Annotated

import typer

from flows.cli.exits import reporting
from flows.cli.options import AllowInsecure, AsJson, Overrides
from flows.cli.output import print_json, say


def serve(  # noqa: PLR0913
    *,
    host: Annotated[
        str,
        typer.Option(
            help="Address to bind. Addresses other than loopback need API_TOKEN."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=1, max=65_535, help="Port to bind, instead of PORT."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", min=1, max=64, help="Server processes.")
    ] = 1,
    allow_anonymous: Annotated[
        bool,
        typer.Option("--allow-anonymous", help="Serve other machines without a token."),
    ] = False,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Serve the enterprises over HTTP, from either store."""
    if port is not None:
        overrides = [*(overrides or ()), f"PORT={port}"]
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        if allow_anonymous:
            os.environ["ALLOW_ANONYMOUS"] = "true"
        from flows.api.server import prepare
        from flows.settings import load_settings

        settings = load_settings()
        run = prepare(settings, host=host, workers=workers, warn=say)
        url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
        if as_json:
            print_json(
                {"status": "serving", "url": url, "store": settings.storage_mode}
            )
        else:
            say(f"Serving {settings.storage_mode} on {url}; API page: {url}/docs")
    # Outside the block: a service does not end by the rules of a run.
    run()
