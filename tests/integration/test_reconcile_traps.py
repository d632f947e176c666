"""Traps of naive comparisons of two stores: pages, stale reads, odd keys, bugs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import execute
from psycopg2.sql import Composable
from typer.testing import CliRunner

from flows import pipeline, transform
from flows.cli.app import app
from flows.load import load_items
from flows.models import ENTERPRISE_TABLE, MigrateOptions, SourceTable, derive_ids
from flows.reconciliation import source_rows
from flows.stores.dynamodb.parallel_scan import scan_segments
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire
from flows.stores.postgres import conditions
from tests.support.fault_proxy import Answer, Exchange, FaultProxy
from tests.support.faults import change
from tests.support.target_table import make_items, put, through_proxy

ReadItems = Callable[[], dict[str, dict[str, Any]]]

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


def keys_of(table: EnterpriseTable, segments: int = 4) -> list[str]:
    """Scan the table; return the keys in their order."""
    pages = scan_segments(table, ENTERPRISE_TABLE.letters, segments)
    return sorted(key for page in pages for key in page["PK"].to_pylist())


@pytest.fixture
def loaded(
    source: str,  # noqa: ARG001 - must exist
    table: EnterpriseTable,  # noqa: ARG001 - must exist
    items: ReadItems,
) -> list[dict[str, Any]]:
    """Migrate five rows; return their items."""
    assert pipeline.migrate(MigrateOptions()).status == "proven"
    found = [from_wire(item) for item in items().values()]
    return [item for item in found if str(item["PK"]).startswith("ENT#")]


def test_every_segment_is_read_to_its_end(table: EnterpriseTable) -> None:
    """A page has at most 1 MB: the following pages must be read too."""
    frame = make_items([f"{number:02} " + "x" * 90_000 for number in range(60)])
    load_items(frame, table, table_was_empty=True)
    with through_proxy(table) as (behind, proxy):
        found = keys_of(behind, 2)

    assert found == sorted(frame["PK"])
    assert len(proxy.calls) > 2


def test_an_empty_page_does_not_end_a_segment(table: EnterpriseTable) -> None:
    """A page without items may have a LastEvaluatedKey: only that key decides."""
    frame = make_items(["one", "two", "three", "four"])
    load_items(frame, table, table_was_empty=True)
    gone: list[str] = []

    def without_its_item(exchange: Exchange) -> Answer:
        asked = exchange.request
        answer = exchange.forward(asked.with_json(asked.json | {"Limit": 1}))
        content = answer.json
        gone.extend(item["PK"]["S"] for item in content["Items"])
        return answer.with_json(content | {"Items": [], "Count": 0})

    with through_proxy(table) as (behind, proxy):
        proxy.add(without_its_item, operation="Scan", times=1)
        found = keys_of(behind, 1)

    assert len(gone) == 1
    assert sorted(found + gone) == sorted(frame["PK"])


def test_no_read_may_be_stale(
    table: EnterpriseTable,
    loaded: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each read of a comparison must be consistent, in every store.

    No local store has stale reads, so the test checks the requests.
    """
    put(table, loaded[0] | {"name": "other"})
    with FaultProxy(table.endpoint) as proxy:
        monkeypatch.setenv("DYNAMODB_ENDPOINT", proxy.url)
        # The table has no manifests at another endpoint, which is irrelevant here.
        report = pipeline.reconcile()

    scans = [call.request.json for call in proxy.calls_of("Scan")]
    reads = [
        keys
        for call in proxy.calls_of("BatchGetItem")
        for keys in call.request.json["RequestItems"].values()
    ]
    assert report.counts["mismatched"] == 1
    # Reads of the internal items, including the cutover marker.
    own = [call.request.json for call in proxy.calls_of("GetItem")]
    assert scans
    assert reads
    assert own
    assert all(request["ConsistentRead"] for request in [*scans, *reads, *own])


def test_the_stores_own_count_is_not_believed(
    table: EnterpriseTable,
    loaded: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DynamoDB refreshes ItemCount every six hours: no verdict may depend on it."""
    with FaultProxy(table.endpoint) as proxy:
        monkeypatch.setenv("DYNAMODB_ENDPOINT", proxy.url)
        rule = proxy.add(
            change(lambda answer: {"Table": answer["Table"] | {"ItemCount": 77}}),
            operation="DescribeTable",
        )
        report = pipeline.reconcile()

    assert rule.played
    assert (report.status, report.target_items) == ("clean", len(loaded))


@pytest.mark.usefixtures("source", "table")
def test_a_bug_of_the_transformation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison must not repeat an error of the load."""
    right = transform.format_timestamps
    monkeypatch.setattr(
        transform,
        "format_timestamps",
        lambda texts: (
            right(texts.cast("string"))
            .cast("string")
            .fill_null("2024-01-01T00:00:00.000Z")
        ),
    )
    report = pipeline.migrate(MigrateOptions(allow_quarantined=5))

    assert report.status == "unproven"
    assert report.reconciliation is not None
    # The rows that have only one of the two times.
    wrong = {d.source_id for d in report.reconciliation.found}
    assert wrong == {"-7", "0", "9007199254740993", "7"}


@pytest.mark.usefixtures("table")
def test_a_bug_of_the_time_zone_is_found(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison must not reuse the extraction's interpretation of local times."""
    execute(source, "ALTER TABLE enterprises ALTER created_date TYPE timestamp")
    monkeypatch.setenv("SOURCE_TIMEZONE", "Asia/Kolkata")
    right = conditions.timestamp_expression

    def wrong(column: str, source: SourceTable, *, zoneless: bool) -> Composable:
        return right(column, replace(source, timezone="UTC"), zoneless=zoneless)

    # Patch it in every module that may use it.
    for module in (conditions, source_rows):
        monkeypatch.setattr(module, "timestamp_expression", wrong, raising=False)
    report = pipeline.migrate(MigrateOptions(allow_quarantined=5))

    assert report.status == "unproven"
    assert report.reconciliation is not None
    # All rows that have the local time; one of them has the first possible moment.
    wrong_rows = {d.source_id for d in report.reconciliation.found}
    assert wrong_rows == {"42", "-7", "9007199254740993", "7"}


@pytest.mark.usefixtures("source", "table")
def test_a_bug_of_the_ids_is_found(
    items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items with other ids would double a table: none may be loaded."""

    def shifted(ids: Any, *rule: Any, **more: Any) -> list[str]:
        return derive_ids([str(int(one) + 1) for one in ids], *rule, **more)

    monkeypatch.setattr(transform, "derive_ids", shifted)
    report = pipeline.migrate(MigrateOptions())

    assert (report.status, report.ledger.quarantined) == ("unproven", 5)
    assert not [key for key in items() if key.startswith("ENT#")]


HOSTILE_KEYS = [
    "[/b]x#1",
    "[red]y#2",
    "\x1b[31mred\x1b[0m#3",
    "<img src=x>#4",
    "a | b#5",
    "half \ud800#6",
    "two\nlines#7",
    "=cmd()#8",
]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_hostile_key_or_name_harms_no_rendering(
    table: EnterpriseTable, loaded: list[dict[str, Any]], *, as_json: bool
) -> None:
    """Other programs' keys and names must be shown safely in every form."""
    put(table, *({"PK": key, "SK": "x", "entity_type": "z"} for key in HOSTILE_KEYS))
    one, two, three, *_ = loaded
    put(table, one | {"name": "\ud800 \x1b[31m"}, two | {"name": "<script>alert(1)"})
    put(table, three | {"name": "=1+1"})
    put(table, {"PK": "ENT#\ud800", "SK": "METADATA", "entity_type": "enterprise"})
    options = ["--json"] if as_json else []
    result = CliRunner().invoke(app, ["reconcile", *options])

    assert result.exit_code == 3, result.output
    assert "\x1b[31m" not in result.output
    folder = next(Path("data", "runs").glob("reconcile-*"))
    texts = {path.name: path.read_text("utf-8") for path in folder.glob("*.[hmc]*")}
    page, markdown = texts["report.html"], texts["report.md"]
    assert "<img" not in page + markdown
    assert "<script" not in page + markdown
    assert "'=1+1" in texts["differences.csv"]
    # One line per kind, and no part of a key adds a line or a column.
    kinds = markdown.split("## Other kinds of item\n")[1].split("\n## ")[0]
    rows = [line for line in kinds.splitlines() if line.endswith("| 1 |")]
    assert len(rows) == len(HOSTILE_KEYS) == len(kinds.strip().splitlines()) - 2
    assert {row.count(" | ") for row in rows} == {1}
    if as_json:
        values = json.loads(result.stdout)
        assert len(values["other_items"]) == len(HOSTILE_KEYS)
        assert (values["mismatched"], values["malformed"]) == (3, 1)
    else:
        assert "[/b]x#" in result.output
        said = " ".join(result.output.split())
        assert "New classes of differences: mismatched, malformed." in said
