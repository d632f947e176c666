"""The report in a browser: complete, without console messages and requests."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from flows import pipeline
from flows.models import MigrateOptions
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire
from tests.support.browser import CHROMIUM, Browser, browsing
from tests.support.damage import damage

ReadItems = Callable[[], dict[str, dict[str, Any]]]
DAY = "2024-02-29 00:00:00+00"
LATER_DAY = "2024-03-01 00:00:00+00"

BOTTOM_OF_SIGNATURE = "document.querySelector('.sign').getBoundingClientRect().bottom"
NUMBERS = (
    "[...document.querySelectorAll('td.number')].filter(cell => cell.offsetHeight)"
)
LINES_OF_NUMBERS = (
    f"Math.max(...{NUMBERS}.map(cell => new Set([...(() => {{"
    "const range = document.createRange(); range.selectNodeContents(cell);"
    "return range.getClientRects()})()].map(box => box.top)).size))"
)
ALIGNMENTS = f"[...new Set({NUMBERS}.map(cell => getComputedStyle(cell).textAlign))]"
WIDE_TABLES = (
    "[...document.querySelectorAll('table')].filter(table => !table.closest('.wide')"
    " && table.getBoundingClientRect().right > innerWidth)"
    ".map(table => table.className)"
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Run a browser."""
    with browsing(tmp_path / "profile") as made:
        yield made


def brightness(colour: str) -> float:
    """Return the brightness of a computed colour, from 0 to 255."""
    parts = [float(part) for part in re.findall(r"[\d.]+", colour)]
    return sum(parts[:3]) / 3


def require_readable(browser: Browser, page: Path) -> None:
    """Assert that a page requests and logs nothing, and is readable in each form."""
    browser.open(page)
    assert browser.requests == [page.absolute().as_uri()]
    assert browser.logged == []
    for scheme, media in (
        *(("light", "screen"), ("dark", "screen")),
        *(("light", "print"), ("dark", "print")),
    ):
        browser.show_in(scheme, media)
        ink, paper = (
            brightness(browser.evaluate(f"getComputedStyle(document.body).{name}"))
            for name in ("color", "backgroundColor")
        )
        assert (paper > ink) is (scheme == "light" or media == "print")
        assert abs(paper - ink) > 150
        # Every bar has a colour that differs from the background.
        fills = browser.evaluate(
            "[...document.querySelectorAll('.chart rect')]"
            ".map(bar => getComputedStyle(bar).fill)"
        )
        assert fills
        assert all(abs(brightness(fill) - paper) > 25 for fill in fills)
    browser.show_in("light")
    # A signer sees verdict, facts and the line to sign at once.
    browser.resize(1280)
    assert browser.evaluate(BOTTOM_OF_SIGNATURE) <= 900
    for width in (1280, 390):
        browser.resize(width)
        # No number wraps, and all of them are aligned.
        assert browser.evaluate(LINES_OF_NUMBERS) == 1
        assert browser.evaluate(ALIGNMENTS) == ["right"]
        # The page never scrolls sideways; a table may, within its own box.
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(WIDE_TABLES) == []
    browser.resize(1000)


def text_of(browser: Browser) -> str:
    """Return the visible text."""
    return str(browser.evaluate("document.body.innerText"))


def titles_of_charts(browser: Browser) -> list[str]:
    """Return the titles of the charts that have visible bars."""
    found: list[str] = browser.evaluate(
        "[...document.querySelectorAll('figure')].filter(f => [...f.querySelectorAll("
        "'rect')].some(bar => bar.getBoundingClientRect().height > 1))"
        ".map(f => f.querySelector('svg').getAttribute('aria-label'))"
    )
    return found


def test_the_browser_tells_what_a_page_does(browser: Browser, tmp_path: Path) -> None:
    """A page with a request and an error must be detected, to validate other tests."""
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><img src='http://elsewhere.test/x.png'>"
        "<script>console.error('aloud')</script>"
    )
    browser.open(page)

    assert "http://elsewhere.test/x.png" in browser.requests
    assert "aloud" in "".join(browser.logged)


@on_dynamodb_local
@pytest.mark.usefixtures("source")
def test_a_browser_shows_the_whole_report_of_a_run(
    table: EnterpriseTable,
    insert: Callable[[Iterable[Any]], None],
    browser: Browser,
) -> None:
    """Title, verdict, tables and plots must be shown, without any request."""
    insert((n, f"<script>alert({n})</script>", DAY, DAY) for n in range(200, 220))
    report = pipeline.migrate(MigrateOptions(run_id="shown", partition_rows=5))
    page = Path(str(report.files["report"]))
    require_readable(browser, page)

    text = text_of(browser)
    assert browser.evaluate("document.title") == "Run shown: proven"
    assert "25 of 25 rows proven equal" in text
    assert table.name in text
    for title in ("Ledger", "Reconciliation", "Capacity", "Seconds", "Validation"):
        assert title in text
    # The load took less than a second: its rate would be one bar.
    assert [title.split(",")[0] for title in titles_of_charts(browser)] == [
        "Created",
        "Updated",
    ]
    for check in report.spot_checks:
        assert f"Row {check.source_id}, item {check.id}" in text
        assert all(command in text for command in check.commands)


@on_dynamodb_local
@pytest.mark.usefixtures("source")
def test_a_browser_shows_the_whole_report_of_a_reconciliation(
    table: EnterpriseTable,
    insert: Callable[[Iterable[Any]], None],
    items: ReadItems,
    browser: Browser,
) -> None:
    """It must show differences, new classes, drift, and a link to all differences."""
    insert((n, f"Enterprise {n}", DAY, DAY) for n in range(101, 113))
    pipeline.migrate(MigrateOptions())
    found = [from_wire(item) for item in items().values()]
    damage(table, {str(item["name"]): item for item in found if "name" in item})
    insert((n, f"<b>{n}</b>", DAY, LATER_DAY) for n in range(1_000, 1_120))
    report = pipeline.reconcile()
    page = Path((report.files or {})["report"])
    require_readable(browser, page)

    text = text_of(browser)
    assert browser.evaluate("document.title").endswith(": different")
    assert report.verdict in text
    assert report.appeared in text
    assert "The first 100 of 129" in text
    links = browser.evaluate("[...document.querySelectorAll('a')].map(a => a.href)")
    assert (page.parent / "differences.csv").absolute().as_uri() in links
    assert all(Path(url2pathname(urlsplit(link).path)).is_file() for link in links)
    assert [title.split(",")[0] for title in titles_of_charts(browser)] == [
        "Created",
        "Updated",
        "Differences",
        "Drift: keys that were not equal",
    ]
