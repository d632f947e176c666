"""``enterprises reconcile`` for its users: damage, request faults, repair."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire
from tests.support.damage import DAMAGED, GHOST, change, damage, drop
from tests.support.fault_proxy import FaultProxy, Request, Rule
from tests.support.faults import (
    corrupt,
    error,
    passing,
    read_part,
    reset_after,
    reset_before,
    truncate,
)

ReadItems = Callable[[], dict[str, dict[str, Any]]]
DAY = "2024-02-29 00:00:00+00"
ROWS = 300
PROVEN, REFUSED, DIFFERENT = 0, 2, 3
# A page has some ten items at first, so that there are many pages.
IN_PAGES = ("--max-read-units", "80")

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


@pytest.fixture
def loaded(
    source: str,  # noqa: ARG001 - must exist
    proxy: FaultProxy,  # noqa: ARG001 - must exist
    insert: Callable[..., None],
    items: ReadItems,
) -> dict[str, dict[str, Any]]:
    """Migrate some hundred rows with the command; return their items by name."""
    insert((n, f"Enterprise {n}", DAY, DAY) for n in range(101, 101 + ROWS))
    command("migrate", "--no-prefect", code=PROVEN)
    found = [from_wire(item) for item in items().values()]
    return {str(i["name"]): i for i in found if str(i.get("PK")).startswith("ENT#")}


def command(*arguments: str, code: int) -> dict[str, Any]:
    """Run a command that must end with the code; return its JSON."""
    result = CliRunner().invoke(app, [*arguments, "--json"])

    assert result.exit_code == code, result.output
    values: dict[str, Any] = json.loads(result.stdout)
    return values


def listed(values: dict[str, Any]) -> set[tuple[str, str | None]]:
    """Return class and source id of each difference."""
    return {(d["class"], d["source_id"]) for d in values["differences"]}


def test_damage_is_listed_by_key_and_mended_as_asked(
    source: str,
    table: EnterpriseTable,
    loaded: dict[str, dict[str, Any]],
    items: ReadItems,
) -> None:
    """Exactly the nine must be found; each option repairs only its kind."""
    damage(table, loaded)
    keys = [key for key in items() if key.startswith("ENT#") and "METADATA" in key]
    found = command("reconcile", code=DIFFERENT)

    # Counting the items does not reveal the damage.
    assert len(keys) == found["source_rows"] == len(loaded)
    assert listed(found) == DAMAGED
    ids = {str(n): loaded[f"Enterprise {n}"]["id"] for n in range(101, 109)}
    assert {d["id"] for d in found["differences"]} == {*ids.values(), GHOST}
    assert all(
        d["id"] == ids[d["source_id"]] for d in found["differences"] if d["source_id"]
    )
    assert found["new_classes"] == ["missing", "extra", "mismatched"]
    assert found["other_items"] == {"ENT# / METADATA": 1, "ENT# / PROD#": 1}
    stored = pq.read_table(found["files"]["differences"]).to_pylist()
    assert {(row["class"], row["source_id"]) for row in stored} == DAMAGED
    assert all(Path(path).is_file() for path in found["files"].values())

    before = items()
    planned = command("reconcile", "--repair", code=DIFFERENT)
    assert planned["repair"] == {
        "write": 6,
        "replace_foreign": 0,
        "delete_extra": 0,
        "left": 2,
        "done": False,
    }
    assert items() == before

    mended = command("reconcile", "--repair", "--yes", code=DIFFERENT)
    newer = ("newer_in_target", "108")
    assert listed(mended) == {("extra", None), ("mismatched", "105"), newer}
    assert mended["new_classes"] == []
    assert mended["capacity"]["write_units"] >= 6

    both = ("--repair", "--yes", "--delete-extra", "--replace-foreign")
    foreign = command("reconcile", *both, code=DIFFERENT)
    assert listed(foreign) == {("extra", None), newer}

    # No manifest has this ghost, but one has the item of a deleted row.
    drop(table, {"PK": f"ENT#{GHOST}", "SK": "METADATA"})
    with closing(psycopg2.connect(source)) as connection, connection:
        connection.cursor().execute("DELETE FROM public.enterprises WHERE id = 110")
    ghost = command("reconcile", code=DIFFERENT)
    clean = command("reconcile", *both, code=PROVEN)

    assert listed(ghost) == {("extra", "110"), newer}
    assert (clean["status"], listed(clean)) == ("clean", {newer})
    assert clean["statement"].startswith(f"Clean: {ROWS + 3} of {ROWS + 4} rows proven")
    other = f"{loaded['Enterprise 101']['PK']} PROD#1"
    assert items()[other]["name"]["S"] == "another kind"


def test_what_changes_beside_a_repair_is_left_alone(
    table: EnterpriseTable, proxy: FaultProxy, loaded: dict[str, dict[str, Any]]
) -> None:
    """An item of another kind is replaced only while it is still of that kind."""
    one, two = loaded["Enterprise 101"], loaded["Enterprise 102"]
    change(table, one, entity_type="product")
    change(table, two, entity_type="product")
    moved = passing(lambda: change(table, one, entity_type="order"))
    proxy.add(moved, operation="UpdateItem", when=is_about(one), times=1)
    repair = ("--repair", "--yes", "--replace-foreign")
    found = command("reconcile", *repair, code=DIFFERENT)

    assert listed(found) == {("mismatched", "101")}
    (difference,) = found["differences"]
    kinds = {"source": "enterprise", "target": "order"}
    assert difference["fields"] == {"entity_type": kinds}


def is_about(item: dict[str, Any]) -> Callable[[Request], bool]:
    """Return a condition for the requests that change an item."""
    return lambda request: str(item["PK"]).encode() in request.body


def play_faults(proxy: FaultProxy) -> list[Rule]:
    """Fail pages and lookups once in every way; return the rules."""
    faults = [
        error("InternalServerError", 500),
        error("ProvisionedThroughputExceededException"),
        error("ThrottlingException"),
        reset_before(),
        reset_after(),
        truncate(0.5),
        corrupt(b"Enterprise"),
    ]
    proxy.clear()
    found = [proxy.add(fault, operation="Scan", times=1) for fault in faults]
    faults.append(read_part(1))
    return found + [
        proxy.add(fault, operation="BatchGetItem", times=1) for fault in faults
    ]


def test_faults_during_the_scan_change_no_verdict(
    table: EnterpriseTable, proxy: FaultProxy, loaded: dict[str, dict[str, Any]]
) -> None:
    """No fault may make a row seem missing, or hide a missing one."""
    begun = len(proxy.calls)
    play_faults(proxy)
    clean = command("reconcile", *IN_PAGES, code=PROVEN)
    assert (clean["matched"], listed(clean)) == (ROWS + 5, set())
    # Only differing rows are looked up, and those to check by hand.
    shown = {f"ENT#{check['id']}" for check in clean["spot_checks"]}
    lookups = [c for c in proxy.calls[begun:] if c.operation == "BatchGetItem"]
    assert len(shown) == 3
    assert {
        key["PK"]["S"]
        for call in lookups
        for key in call.request.json["RequestItems"][table.name]["Keys"]
    } == shown

    damage(table, loaded)
    rules = play_faults(proxy)
    found = command("reconcile", *IN_PAGES, code=DIFFERENT)
    assert listed(found) == DAMAGED
    assert sum(rule.played for rule in rules) == len(rules) == 15
    # Each request was retried; a partial answer is no refusal.
    assert found["capacity"]["retries"] == 14
    assert found["capacity"]["throttles"] == 5


def test_a_scan_that_is_refused_is_no_verdict(
    proxy: FaultProxy, loaded: dict[str, dict[str, Any]]
) -> None:
    """If a later page is permanently refused, there must be no verdict."""
    assert loaded
    rule = proxy.add(error("AccessDeniedException"), operation="Scan", first=6)
    # Pages have fewer items, so that there are six, whichever thread is first.
    values = command("reconcile", "--max-read-units", "30", code=REFUSED)
    assert rule.played

    assert values["status"] == "refused"
    assert "AccessDenied" in values["error"]["message"]


def test_a_run_that_is_under_way_is_named(
    table: EnterpriseTable, loaded: dict[str, dict[str, Any]]
) -> None:
    """Unwritten rows differ: the verdict names the run, and no baseline is recorded.

    Otherwise the same class would not be new after the run has ended.
    """
    drop(table, loaded["Enterprise 101"])
    other = Lease(table, "night-run@host:1-abc", 30)
    other.acquire()
    try:
        with other.heartbeat():
            during = command("reconcile", code=DIFFERENT)
            sample = command("reconcile", "--sample", "10", code=DIFFERENT)
    finally:
        other.release()
    after = command("reconcile", code=DIFFERENT)

    assert during["under_way"]["run"] == "night-run"
    assert during["under_way"]["since"].startswith("20")
    assert "run night-run has held the lease since 20" in during["statement"]
    assert "run night-run has held the lease since 20" in sample["statement"]
    assert during["new_classes"] == []
    assert after["under_way"] is None
    assert after["new_classes"] == ["missing"]


def test_what_was_not_compared_has_no_count(
    loaded: dict[str, dict[str, Any]],
) -> None:
    """A sample does not search for items without a row, so it must not count them."""
    assert loaded
    sample = command("reconcile", "--sample", "10", code=DIFFERENT)
    since = ("--since", "2024-02-01T00:00:00Z")
    run = command("migrate", "--no-prefect", *since, code=PROVEN)["reconciliation"]
    whole = command("reconcile", code=PROVEN)

    unseen = ("extra", "created_in_target")
    assert [sample[name] for name in (*unseen, "other_items")] == [None] * 3
    assert [run[name] for name in unseen] == [None, None]
    assert [whole[name] for name in unseen] == [0, 0]
    assert sample["missing"] == run["missing"] == 0
