"""A store that is too slow for whole pages: the scan ends, or reports why not."""

import logging
import time
from collections.abc import Callable, Iterable

import pytest

from flows.errors import Incomplete
from flows.models import Letter
from flows.stores.dynamodb import backoff
from flows.stores.dynamodb.parallel_scan import scan_segments
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.fault_proxy import Request
from tests.support.faults import black_hole
from tests.support.target_table import as_items, numbered, put, through_proxy

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

COUNT = 60
KEYS: dict[str, Letter] = {"PK": "S", "SK": "S"}
Scan = Callable[[EnterpriseTable], Iterable[int]]
SCANS: list[Scan] = [
    lambda table: (len(page) for page in scan_segments(table, KEYS, 2)),
    lambda table: (len(page) for page in table.scan(["PK"])),
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the initial timeout of a request to half a second."""
    monkeypatch.setattr("flows.stores.dynamodb.client.READ_SECONDS", 0.5)


class SlowFrom:
    """Detects pages that may have more than *most* items, and records all limits."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.asked: list[int | None] = []

    def __call__(self, request: Request) -> bool:
        """Return whether the request is too slow to be answered."""
        self.asked.append(request.json.get("Limit"))
        return request.json.get("Limit", COUNT) > self.most


@pytest.mark.slow
@pytest.mark.parametrize("scan", SCANS)
def test_a_page_that_times_out_is_asked_for_in_halves(
    table: EnterpriseTable, caplog: pytest.LogCaptureFixture, scan: Scan
) -> None:
    """A store that never answers for a whole page must still be read to its end."""
    put(table, *as_items(numbered(COUNT)))
    with through_proxy(table) as (behind, proxy), caplog.at_level(logging.INFO):
        slow = SlowFrom(40)
        proxy.add(black_hole(), operation="Scan", when=slow)
        found = sum(scan(behind))

    assert found == COUNT
    assert slow.asked[0] is None
    assert 0 < min(limit for limit in slow.asked if limit is not None) <= 40
    assert "did not arrive within" in caplog.text


@pytest.mark.parametrize("scan", SCANS)
def test_a_scan_whose_pages_never_come_ends(
    table: EnterpriseTable, monkeypatch: pytest.MonkeyPatch, scan: Scan
) -> None:
    """Even without a deadline it must end as incomplete, after smaller pages."""
    monkeypatch.setattr(backoff, "SLOW_SECONDS", 4.0)
    put(table, *as_items(numbered(2)))
    with through_proxy(table) as (behind, proxy):
        slow = SlowFrom(0)
        proxy.add(black_hole(), operation="Scan", when=slow)
        with pytest.raises(Incomplete, match="No answer came for"):
            list(scan(behind))

    assert slow.asked[0] is None
    assert slow.asked[-1] is not None
    assert slow.asked[-1] < 128


def test_a_deadline_cuts_the_longer_wait(table: EnterpriseTable) -> None:
    """However slow the pages are, the run's deadline must end them."""
    with through_proxy(table, time.time() + 2) as (behind, proxy):
        proxy.add(black_hole(), operation="Scan")
        with pytest.raises(Incomplete, match="deadline"):
            list(behind.scan())
