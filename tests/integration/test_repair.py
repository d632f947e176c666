"""Reconciliation and repair by the driver of the command, after manual damage."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from flows import pipeline
from flows.errors import CutoverDeclared, LeaseHeld, SettingsError
from flows.models import MigrateOptions
from flows.reconciliation import spill
from flows.reconciliation.report import ReconciliationReport
from flows.run.repair import RepairOptions
from flows.stores.dynamodb.cutover_marker import declare_cutover
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire
from tests.support.damage import DAMAGED, change, damage, drop
from tests.support.target_table import put

ReadItems = Callable[[], dict[str, dict[str, Any]]]
ROWS = 12
DAY = "2024-02-29 00:00:00+00"

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


@pytest.fixture
def loaded(
    source: str,  # noqa: ARG001 - must exist
    insert: Callable[..., None],
    table: EnterpriseTable,  # noqa: ARG001 - must exist
    items: ReadItems,
) -> dict[str, dict[str, Any]]:
    """Migrate twelve more rows; return their items by name."""
    insert((n, f"Enterprise {n}", DAY, DAY) for n in range(101, 101 + ROWS))
    report = pipeline.migrate(MigrateOptions())
    assert report.status == "proven"
    found = [from_wire(item) for item in items().values()]
    return {str(i["name"]): i for i in found if str(i.get("PK")).startswith("ENT#")}


def delete_row(source: str, number: int) -> None:
    """Delete a row of the source."""
    with closing(psycopg2.connect(source)) as connection, connection:
        connection.cursor().execute(
            "DELETE FROM public.enterprises WHERE id = %s", [number]
        )


def found(report: ReconciliationReport) -> set[tuple[str, str | None]]:
    """Return class and source id of each difference."""
    return {(d.kind, d.source_id) for d in report.found}


def test_damage_is_found_and_mended(
    table: EnterpriseTable, loaded: dict[str, dict[str, Any]], items: ReadItems
) -> None:
    """Exactly the damaged keys are found, by class; a repair leaves foreign items."""
    ghost = damage(table, loaded)
    before = items()
    planned = pipeline.reconcile(repair=RepairOptions())

    assert found(planned) == DAMAGED
    assert planned.status == "different"
    assert planned.other_items == {"ENT# / METADATA": 1, "ENT# / PROD#": 1}
    assert planned.repair == {
        "write": 6,
        "replace_foreign": 0,
        "delete_extra": 0,
        "left": 2,
        "done": False,
    }
    assert items() == before

    repaired = pipeline.reconcile(repair=RepairOptions(yes=True))
    left = {("extra", None), ("mismatched", "105"), ("newer_in_target", "108")}
    assert found(repaired) == left
    assert repaired.repair["done"] is True
    extra = next(d for d in repaired.found if d.kind == "extra")
    assert (extra.id, extra.origin) == (ghost["id"], "created_by_application")

    # No manifest has the ghost: it belongs to another program, and stays.
    both = RepairOptions(yes=True, delete_extra=True, replace_foreign=True)
    last = pipeline.reconcile(repair=both)
    assert found(last) == {("extra", None), ("newer_in_target", "108")}
    now = items()
    assert f"{ghost['PK']} METADATA" in now
    assert now[f"{loaded['Enterprise 101']['PK']} PROD#1"]["name"]["S"] == (
        "another kind"
    )
    seven = now[f"{loaded['Enterprise 107']['PK']} METADATA"]
    assert seven["updateddate"] == seven["updated_date"]


def test_files_change_no_verdict(
    table: EnterpriseTable,
    loaded: dict[str, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A comparison out of core must find the same differences as one in memory."""
    damage(table, loaded)
    kept = pipeline.reconcile()
    monkeypatch.setattr(spill, "KEPT_ROWS", 1)
    spilled = pipeline.reconcile()

    assert found(spilled) == DAMAGED
    assert spilled.counts == kept.counts
    assert spilled.days == kept.days
    assert {str(d) for d in spilled.found} == {str(d) for d in kept.found}


def test_the_counts_alone_would_agree(
    table: EnterpriseTable, loaded: dict[str, dict[str, Any]]
) -> None:
    """One item is deleted and one added: the count is the same, but not the items."""
    drop(table, loaded["Enterprise 101"])
    identity = "00000000-0000-4000-8000-000000000001"
    put(table, loaded["Enterprise 102"] | {"PK": f"ENT#{identity}", "id": identity})
    report = pipeline.reconcile()

    assert report.source_rows == report.target_items
    assert found(report) == {("missing", "101"), ("extra", None)}
    assert report.verdict.startswith("Different: 1 missing, 1 extra, at 20")
    assert "LSN" in report.verdict


def test_an_item_of_ours_without_row_is_deleted_as_asked(
    source: str, table: EnterpriseTable, loaded: dict[str, dict[str, Any]]
) -> None:
    """Only unchanged items of a run are deleted, and never more than allowed."""
    delete_row(source, 101)
    delete_row(source, 102)
    edited = loaded["Enterprise 102"]
    change(table, edited, name="edited", enterprise_name="edited")
    wanted = RepairOptions(yes=True, delete_extra=True)
    with pytest.raises(SettingsError, match="--max-deletes allows 1"):
        pipeline.reconcile(repair=replace(wanted, max_deletes=1))
    before = pipeline.reconcile()
    after = pipeline.reconcile(repair=wanted)

    assert {d.origin for d in before.found} == {"deleted_in_source"}
    # The manifest has the source ids, and the items have the names.
    assert {(d.source_id, d.fields["name"]["target"]) for d in before.found} == {
        ("101", "Enterprise 101"),
        ("102", "edited"),
    }
    assert not any(d.has_row for d in before.found)
    assert [(d.kind, d.id) for d in before.found if d.id != edited["id"]] == [
        ("extra", loaded["Enterprise 101"]["id"])
    ]
    assert [(d.kind, d.id) for d in after.found] == [("extra", edited["id"])]


def test_an_item_that_no_manifest_has_is_not_taken_back(
    table: EnterpriseTable,
    loaded: dict[str, dict[str, Any]],
    items: ReadItems,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the state of the run that created it, its owner is unknown."""
    change(table, loaded["Enterprise 101"], entity_type="product")
    monkeypatch.setenv("STATE_URL", "sqlite:///another.db")
    before = items()
    report = pipeline.reconcile(repair=RepairOptions(yes=True, replace_foreign=True))

    assert found(report) == {("mismatched", "101")}
    assert (report.repair["replace_foreign"], report.repair["left"]) == (0, 1)
    assert items() == before


@pytest.mark.usefixtures("loaded")
def test_a_repair_obeys_marker_and_lease(
    table: EnterpriseTable, items: ReadItems
) -> None:
    """While a run writes, and after the cutover, nothing may be repaired."""
    other = Lease(table, "another", 30)
    other.acquire()
    try:
        with pytest.raises(LeaseHeld):
            pipeline.reconcile(repair=RepairOptions(yes=True))
    finally:
        other.release()
    declare_cutover(table, Lease(table, "cutover", 30))
    before = items()
    with pytest.raises(CutoverDeclared):
        pipeline.reconcile(repair=RepairOptions(yes=True))

    assert items() == before


@pytest.mark.usefixtures("table")
def test_a_repair_is_no_run_to_resume(loaded: dict[str, dict[str, Any]]) -> None:
    """``--resume last`` must skip it, and its quarantine must hide nothing."""
    pipeline.reconcile(repair=RepairOptions(yes=True))
    assert loaded

    with pytest.raises(SettingsError, match="proven"):
        pipeline.migrate(MigrateOptions(resume="last"))


def test_a_sample_says_how_much_may_differ(
    table: EnterpriseTable, loaded: dict[str, dict[str, Any]]
) -> None:
    """It is no proof, has no extra items, and its bound depends on the sample size."""
    whole = pipeline.reconcile(sample=10)
    for n in range(101, 101 + ROWS):
        drop(table, loaded[f"Enterprise {n}"])
    damaged = pipeline.reconcile(sample=1_000)

    assert (whole.status, whole.source_rows, whole.wrong) == ("sampled", 10, "")
    assert "0 of 10 differ; with 95 % confidence at most 25.9 % do" in whole.verdict
    assert damaged.status == "sampled"
    assert damaged.verdict.startswith("Sampled: 12 of 17 differ")
    assert (damaged.counts["missing"], damaged.counts["matched"]) == (12, 5)
