"""Data Docs: what each page is and when it was made, without any request."""

import re
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.browser import CHROMIUM, browsing
from validation.contract import ITEM_SUITE, SOURCE_SUITE
from validation.data_docs import write_pages

MADE = datetime(2024, 2, 29, 13, 5, 9, tzinfo=timezone(timedelta(hours=1)))
RESULTS = {
    SOURCE_SUITE: {
        "rows": 5_000,
        "failed_rows": 2,
        "by_reason": {"name_blank": 2},
        "warnings": {"name_long": 7},
    },
    ITEM_SUITE: {"rows": 4_998, "failed_rows": 0},
}
TITLES = {
    "index.html": "Data Docs",
    f"{SOURCE_SUITE}.html": "Rules for the rows of the source",
    f"{SOURCE_SUITE}_results.html": "Results for the rows of the source",
    f"{ITEM_SUITE}.html": "Rules for the items",
    f"{ITEM_SUITE}_results.html": "Results for the items",
}


class Addresses(HTMLParser):
    """The addresses that a page links to, and those that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.linked: set[str] = set()
        self.loaded: set[str] = set()
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the addresses of a tag."""
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("href", "src"):
                (self.linked if tag == "a" else self.loaded).add(value or "")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the pages of a run; return them by name."""
    folder = tmp_path_factory.mktemp("docs")
    index = write_pages(RESULTS, folder, run="20240229-x", now=MADE)
    assert index == folder / "index.html"
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", TITLES)
def test_a_page_says_what_it_is_and_when_it_was_made(
    pages: dict[str, Path], name: str
) -> None:
    """The title, the run and the time in UTC are on every page."""
    text = pages[name].read_text("utf-8")

    assert f"<title>{TITLES[name]}, run 20240229-x</title>" in text
    assert f"<h1>{TITLES[name]}</h1>" in text
    assert "Run 20240229-x. Made at 2024-02-29 12:05:09 UTC with Great" in text
    assert re.search(r'<p class="lead">\S.*</p>', text)


def test_the_index_leads_to_each_page_and_back(pages: dict[str, Path]) -> None:
    """Every link is to an anchor or to a page that is there; nothing is loaded."""
    assert set(pages) == set(TITLES)
    for name, path in pages.items():
        page = Addresses(path.read_text("utf-8"))
        linked = {address for address in page.linked if not address.startswith("#")}
        assert linked <= set(TITLES), name
        assert page.loaded == {"data:,"}, name
        assert "script" not in page.tags, name
    index = Addresses(pages["index.html"].read_text("utf-8"))
    assert index.linked == set(TITLES) - {"index.html"}


def test_the_results_are_counted(pages: dict[str, Path]) -> None:
    """The page of the results says how many rows broke a critical rule."""
    text = pages[f"{SOURCE_SUITE}_results.html"].read_text("utf-8")

    assert "2 of 5,000 broke a critical rule" in text


def test_pages_are_made_now(tmp_path: Path) -> None:
    """Without a time, a page has that of the call."""
    before = datetime.now(UTC).replace(microsecond=0)
    text = write_pages({}, tmp_path).read_text("utf-8")
    (shown,) = re.findall(r"Made at (\S+ \S+) UTC", text)

    made = datetime.strptime(f"{shown} +0000", "%Y-%m-%d %H:%M:%S %z")
    assert before <= made <= datetime.now(UTC)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_requests_nothing(pages: dict[str, Path], tmp_path: Path) -> None:
    """A page is shown whole, without a request or a message, light and dark."""
    with browsing(tmp_path) as browser:
        for name, path in pages.items():
            browser.open(path)
            assert browser.requests == [path.as_uri()], name
            assert browser.logged == [], name
            assert browser.evaluate("document.title").startswith(TITLES[name])
            wide = "document.documentElement.scrollWidth <= innerWidth"
            assert browser.evaluate(wide), name
