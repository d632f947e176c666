"""The page at ``/docs``: Swagger UI over the OpenAPI document, without any network.

Its script and style come from the package ``fastapi-offline``, which holds them as
files; the package itself is not imported.
"""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
)

from flows.api.bodies import StrictRoute

# Swagger UI sets inline styles; nothing else is inline or from another origin.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Enterprises</title>
<link rel="icon" href="favicon.ico" type="image/svg+xml">
<link rel="stylesheet" href="docs/swagger-ui.css">
<script src="docs/swagger-ui-bundle.js" defer></script>
<script src="docs/start.js" defer></script>
</head>
<body><div id="swagger-ui"></div></body>
</html>
"""
ICON = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">
<rect width="16" height="16" rx="3" fill="#1e3a5f"/>
<path d="M4 3h8v2H6v2h5v2H6v2h6v2H4z" fill="#fff"/>
</svg>
"""
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null
});
"""

router = APIRouter(route_class=StrictRoute, include_in_schema=False)


@router.get("/")
async def show_start_page() -> Response:
    """Redirect to the page."""
    # Relative, as all links of the page: a proxy may serve it under a prefix.
    return RedirectResponse("docs")


@router.get("/favicon.ico")
async def show_icon() -> Response:
    """Show the icon, which browsers request for every address."""
    headers = {"Cache-Control": "max-age=86400"}
    return Response(ICON, headers=headers, media_type="image/svg+xml")


@router.get("/openapi.json")
async def show_document(request: Request) -> Response:
    """Show the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def show_docs() -> Response:
    """Show the page."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


@router.get("/docs/start.js")
async def show_start() -> Response:
    """Show the script that starts Swagger UI."""
    return Response(START, media_type="text/javascript")


@router.get("/docs/swagger-ui-bundle.js")
async def show_script() -> Response:
    """Show Swagger UI's script."""
    return FileResponse(asset("swagger-ui-bundle.js"))


@router.get("/docs/swagger-ui.css")
async def show_style() -> Response:
    """Show Swagger UI's style."""
    return FileResponse(asset("swagger-ui.css"))


def asset(name: str) -> Path:
    """Return the file of an asset."""
    spec = find_spec("fastapi_offline")
    if spec is None or spec.origin is None:
        message = "fastapi-offline is not installed"
        raise ModuleNotFoundError(message)
    return Path(spec.origin).parent / "static" / name
