"""The page of the OpenAPI document, without any network."""

import re

from tests.support.serving import Service


def test_the_page_asks_for_nothing_from_elsewhere(any_service: Service) -> None:
    """It must load only files of the service, and the policy must allow no more."""
    page = any_service.client.get("/docs")

    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)
    loaded = re.findall(r"(?:src|href)=\"(docs/[^\"]+)\"", page.text)
    assert len(loaded) == 3
    for path in loaded:
        answer = any_service.client.get(f"/{path}")
        kind = "text/css" if path.endswith("css") else "text/javascript"
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert len(answer.content) > 100
    start = any_service.client.get("/docs/start.js").text
    assert 'url: "openapi.json"' in start


def test_the_root_leads_to_the_page(any_service: Service) -> None:
    """It must lead there also behind a proxy that serves it under a prefix."""
    answer = any_service.client.get("/")

    assert (answer.status_code, answer.headers["location"]) == (307, "docs")
    page = any_service.client.get("/", follow_redirects=True)
    assert page.url.path == "/docs"
    assert "swagger-ui" in page.text


def test_the_page_has_an_icon(any_service: Service) -> None:
    """Browsers request it at the root: it must be an image that the page names."""
    icon = any_service.client.get("/favicon.ico")

    assert icon.status_code == 200
    assert icon.headers["content-type"] == "image/svg+xml"
    assert icon.text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert 'href="favicon.ico"' in any_service.client.get("/docs").text


def test_nothing_else_of_the_package_is_served(any_service: Service) -> None:
    """No path may reach other files than the two."""
    for path in ("redoc.standalone.js", "../__init__.py", "%2e%2e/core.py", ""):
        assert any_service.client.get(f"/docs/{path}").status_code == 404
