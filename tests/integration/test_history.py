"""Reconciliations recorded in the state: drift, new classes, and the cutover."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import pipeline
from flows.models import MigrateOptions
from flows.stores.dynamodb.cutover_marker import declare_cutover
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire, to_wire
from tests.support.target_table import LATER, put

ReadItems = Callable[[], dict[str, dict[str, Any]]]

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


@pytest.fixture
def loaded(
    source: str,  # noqa: ARG001 - must exist
    table: EnterpriseTable,  # noqa: ARG001 - must exist
    items: ReadItems,
) -> list[dict[str, Any]]:
    """Migrate five rows; return their items."""
    assert pipeline.migrate(MigrateOptions(run_id="first")).status == "proven"
    found = [from_wire(item) for item in items().values()]
    return sorted(
        (i for i in found if str(i["PK"]).startswith("ENT#")), key=lambda i: i["PK"]
    )


def drop(table: EnterpriseTable, item: dict[str, Any]) -> None:
    """Delete an item outside the program."""
    key: Any = to_wire({"PK": item["PK"], "SK": item["SK"]})
    table.client.delete_item(TableName=table.name, Key=key)


def ghost_of(item: dict[str, Any]) -> dict[str, Any]:
    """Return an enterprise that has no row."""
    identity = "00000000-0000-4000-8000-000000000001"
    return item | {"PK": f"ENT#{identity}", "id": identity}


def test_each_reconciliation_is_recorded_and_held_against_the_last(
    table: EnterpriseTable, loaded: list[dict[str, Any]]
) -> None:
    """A class that appears must be reported once, and again after a repair."""
    drop(table, loaded[0])
    first = pipeline.reconcile()
    put(table, ghost_of(loaded[1]))
    second = pipeline.reconcile()
    sampled = pipeline.reconcile(sample=100)
    put(table, loaded[0])
    third = pipeline.reconcile()
    drop(table, loaded[0])
    fourth = pipeline.reconcile()

    reports = (first, second, sampled, third, fourth)
    assert [report.new_classes for report in reports] == [
        ("missing",),
        ("extra",),
        (),
        (),
        ("missing",),
    ]
    history = pipeline.reconciliation_history()
    assert history["name"].tolist() == ["first", *(report.name for report in reports)]
    assert history["mode"].tolist() == ["full"] * 3 + ["sampled"] + ["full"] * 2
    assert history["status"].tolist() == (
        ["clean", "different", "different", "sampled", "different", "different"]
    )
    assert history["missing"].tolist() == [0, 1, 1, 1, 0, 1]
    assert history["extra"].tolist() == [0, 0, 1, 0, 1, 1]
    assert history["source_rows"].tolist() == [5] * 6
    assert history["at"].is_monotonic_increasing
    assert history["snapshot"].str.contains("LSN").all()


def test_the_report_shows_the_drift(
    table: EnterpriseTable, loaded: list[dict[str, Any]]
) -> None:
    """All renderings must exist, with the drift and the new classes."""
    drop(table, loaded[0])
    report = pipeline.reconcile()
    files = report.files or {}
    page, markdown = (
        Path(files[name]).read_text("utf-8") for name in ("report", "report_markdown")
    )

    assert report.appeared == "New since the previous reconciliation: missing."
    assert report.appeared in page
    assert report.appeared in markdown
    assert "Drift: keys that were not equal, by reconciliation" in page
    assert "Reconciliations of this source and table" in page
    assert table.name in page
    assert json.loads(Path(files["report_json"]).read_text("utf-8")) == (
        json.loads(json.dumps(report.asdict()))
    )
    # The one difference has one day, so that its chart is left out.
    assert len(report.plot().charts) == 3


def test_another_table_has_a_history_of_its_own(
    loaded: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing items of another table must not hide those of this one."""
    from flows.settings import load_settings
    from flows.stores.dynamodb.schema import create_table
    from flows.stores.dynamodb.table import open_table

    assert loaded
    name = f"{load_settings().dynamodb_enterprise_table}-2"
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", name)
    create_table(open_table(load_settings()))
    report = pipeline.reconcile()

    assert report.new_classes == ("missing",)
    assert report.appeared.startswith("There is no earlier reconciliation")
    assert len(pipeline.reconciliation_history()) == 1


def test_after_the_cutover_the_application_is_in_its_right(
    table: EnterpriseTable, loaded: list[dict[str, Any]]
) -> None:
    """Edits, deletions and creations are listed, but are no new differences."""
    one, two, three, *_ = loaded
    declare_cutover(table, Lease(table, "cutover", 30))
    later = {"updated_date": LATER, "updatedAt": LATER}
    put(table, one | {"name": "later", "enterprise_name": "later"} | later)
    put(table, two | dict.fromkeys(("name", "enterprise_name"), "no new stamp"))
    put(table, ghost_of(two))
    drop(table, three)
    report = pipeline.reconcile()

    assert report.status == "clean"
    assert report.new_classes == ()
    assert {name: n for name, n in report.counts.items() if n} == {
        "matched": 2,
        "newer_in_target": 2,
        "deleted_in_target": 1,
        "created_in_target": 1,
    }
    assert {(d.kind, d.id) for d in report.found} == {
        ("newer_in_target", one["id"]),
        ("newer_in_target", two["id"]),
        ("deleted_in_target", three["id"]),
        ("created_in_target", ghost_of(two)["id"]),
    }
    assert "1 deleted in target" in report.verdict
    assert "1 created in target" in report.verdict
