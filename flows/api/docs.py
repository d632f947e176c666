"""The page at ``/docs``: Swagger UI over the OpenAPI document, without any network.

Its script and style come from the package ``fastapi-offline``, which holds them as
files; the package itself is not imported.
"""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

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
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<script src="docs/swagger-ui-bundle.js" defer></script>
<script src="docs/start.js" defer></script>
</head>
<body><div id="swagger-ui"></div></body>
</html>
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
