"""Items that claim to be newer than their rows but are not valid."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from conftest import execute

from flows import pipeline
from flows.errors import Incomplete
from flows.models import ITEM_ATTRIBUTES, MigrateOptions, same_value
from flows.reconciliation.report import ReconciliationReport
from flows.run.repair import RepairOptions
from flows.state.runs import State
from flows.stores.dynamodb.cutover_marker import declare_cutover
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire
from tests.support.damage import change, drop
from tests.support.target_table import EARLIER, LATER, STAMP, put

Loaded = dict[str, Any]
ReadItems = Callable[[], dict[str, Loaded]]
DAY = "2024-02-29 00:00:00+00"
ROWS = 500

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


def load(insert: Callable[..., None], items: ReadItems, rows: int) -> dict[str, Loaded]:
    """Migrate some more rows; return all enterprises by name."""
    insert((n, f"Enterprise {n}", DAY, DAY) for n in range(101, 101 + rows))
    assert pipeline.migrate(MigrateOptions()).status == "proven"
    found = [from_wire(item) for item in items().values()]
    return {str(i["name"]): i for i in found if str(i.get("PK")).startswith("ENT#")}


def enterprises(items: ReadItems) -> dict[str, Loaded]:
    """Return all items except the program's internal ones."""
    return {key: item for key, item in items().items() if key.startswith("ENT#")}


def edited(item: Loaded, **attributes: Any) -> Loaded:
    """Return an item as an application's valid and later edit leaves it."""
    times = {"updated_date": LATER, "updatedAt": LATER}
    return item | {"name": "New", "enterprise_name": "New"} | times | attributes


# The faults of the six items, in addition to a later stamp.
BROKEN: list[dict[str, Any]] = [
    {"name": None, "enterprise_name": None},
    {"name": True, "enterprise_name": True},
    {"name": "", "enterprise_name": ""},
    {"id": "3500a20a-fa32-5543-842f-da54bef06c63"},
    {"created_date": None, "createdAt": None},
    {"updated_date": STAMP},
]


def classes(report: ReconciliationReport | None) -> dict[str, int]:
    """Return the classes that occur, except for equal items."""
    assert report is not None
    counts = {name: count for name, count in report.counts.items() if count}
    return {name: n for name, n in counts.items() if name != "matched"}


@pytest.mark.usefixtures("source")
def test_a_broken_item_that_claims_to_be_newer_is_a_difference(
    insert: Callable[..., None], table: EnterpriseTable, items: ReadItems
) -> None:
    """Every comparison reports it as malformed, and no write ever replaces it."""
    loaded = load(insert, items, len(BROKEN) + 1)
    for number, attributes in enumerate(BROKEN, 101):
        item = loaded[f"Enterprise {number}"]
        change(table, edited(item), **attributes)
    valid = loaded[f"Enterprise {101 + len(BROKEN)}"]
    put(table, edited(valid))
    before = enterprises(items)
    expected = {"malformed": len(BROKEN), "newer_in_target": 1}
    found = pipeline.reconcile()

    assert (found.status, classes(found)) == ("different", expected)
    # Each difference names its row and the differing fields.
    assert {d.source_id for d in found.found if d.kind == "malformed"} == {
        str(number) for number in range(101, 101 + len(BROKEN))
    }
    assert all(d.fields for d in found.found)

    since = "2000-01-01T00:00:00Z"
    for options in (MigrateOptions(), MigrateOptions(since=since)):
        report = pipeline.migrate(options)
        assert report.status == "unproven"
        assert classes(report.reconciliation) == expected
        assert report.ledger == report.loaded
        assert (report.ledger.kept_newer, report.ledger.failed) == (7, 0)
    sampled = pipeline.reconcile(sample=1_000)
    assert classes(sampled) == expected
    assert "6 of 12 differ" in sampled.verdict
    repaired = pipeline.reconcile(repair=RepairOptions(yes=True, delete_extra=True))
    assert classes(repaired) == expected
    assert (repaired.repair["write"], repaired.repair["left"]) == (0, 6)
    assert enterprises(items) == before


@pytest.mark.usefixtures("source")
def test_after_the_cutover_a_broken_item_is_a_difference_too(
    insert: Callable[..., None], table: EnterpriseTable, items: ReadItems
) -> None:
    """An application may edit and create valid items only.

    An edit without a later stamp is allowed only if the item is valid.
    """
    loaded = load(insert, items, 5)
    one, two, three, four, five = (loaded[f"Enterprise {n}"] for n in range(101, 106))
    put(table, edited(one), edited(two, updated_date=STAMP, updatedAt=STAMP))
    change(table, three, name=None)
    change(table, edited(four), name=7)
    change(table, five, entity_type="product")
    ghost = "00000000-0000-4000-8000-00000000000"
    put(table, edited(one, PK=f"ENT#{ghost}1", id=f"{ghost}1"))
    put(table, edited(one, PK=f"ENT#{ghost}2", id=f"{ghost}1"))
    declare_cutover(table, Lease(table, "cutover", 30))
    expected = {
        "mismatched": 1,
        "malformed": 3,
        "newer_in_target": 2,
        "created_in_target": 1,
    }
    found = pipeline.reconcile()
    report = pipeline.migrate(MigrateOptions(after_cutover=True))

    assert (found.status, classes(found)) == ("different", expected)
    assert {(d.kind, d.source_id) for d in found.found if d.source_id} == {
        ("newer_in_target", "101"),
        ("newer_in_target", "102"),
        ("malformed", "103"),
        ("malformed", "104"),
        ("mismatched", "105"),
    }
    assert report.status == "unproven"
    assert classes(report.reconciliation) == expected
    assert report.ledger == report.loaded
    assert (report.ledger.kept_newer, report.ledger.failed) == (4, 1)


def corrupted(item: Loaded, name: str, draw: random.Random) -> Any:
    """Return another value for an attribute, of any type; None removes it."""
    now = item[name]
    times = [1_709_164_801, 1_709_164_800_001, "2030-01-01T00:00:00+00:00"]
    types = [7, True, {"N": "1.5"}, {"NULL": True}, {"L": []}, {"M": {}}]
    texts = ["", f"{now} ", str(now)[:-1], str(now).upper(), "tomorrow", LATER, EARLIER]
    others = [None, *times, *types, *texts, {"SS": ["a"]}, {"B": b"x"}]
    return draw.choice([value for value in others if not same_value(value, now)])


def corrupt_one(table: EnterpriseTable, item: Loaded, name: str, to: Any) -> Loaded:
    """Change one attribute of an item outside the program; return the item."""
    if name not in {"PK", "SK"}:
        change(table, item, **{name: to})
        return {key: v for key, v in (item | {name: to}).items() if v is not None}
    # A key cannot change: replace the item with another one.
    drop(table, item)
    put(table, item | {name: f"{item[name]}-"})
    return {}


def is_valid(item: Loaded) -> bool:
    """Return whether an item is valid, by the wording of the contract."""
    pairs = [("name", "enterprise_name"), ("createdAt", "created_date")]
    pairs.append(("updatedAt", "updated_date"))
    return (
        all(isinstance(item.get(name), str) for name in ITEM_ATTRIBUTES)
        and item["PK"] == f"ENT#{item['id']}"
        and all(item[one] == item[other] for one, other in pairs)
        and bool(item["name"].strip())
        and all(len(item[one]) == len(STAMP) for one in ("createdAt", "updatedAt"))
    )


# The stamps here that are no later than a row's; all others are later or unreadable.
NOT_LATER = [STAMP, f"{STAMP} ", STAMP[:-1], EARLIER]


def is_foreign(item: Loaded) -> bool:
    """Return whether an item exists and declares another entity type."""
    return bool(item) and item.get("entity_type") != "enterprise"


def may_be_edit(item: Loaded) -> bool:
    """Return whether an item may have been changed after its row."""
    stamps = [item[name] for name in ("updatedAt", "updated_date") if name in item]
    later = [stamp for stamp in stamps if stamp not in NOT_LATER]
    return bool(later) and not is_foreign(item)


def expected_class(item: Loaded, row: str) -> str:
    """Return how an item compares with its row, by the wording of the guide."""
    if not may_be_edit(item):
        return "mismatched" if item else "missing"
    # An application may omit them, but must not name another row.
    flag, origin = item.get("migrated_from_pg"), item.get("original_pg_id")
    same_row = flag in [None, True] and origin in [None, int(row)]
    return "newer_in_target" if is_valid(item) and same_row else "malformed"


def corrupt(
    table: EnterpriseTable, loaded: dict[str, Loaded], seed: int
) -> dict[str, Loaded]:
    """Corrupt an attribute of each of 500 items; return them by their row's id.

    Half of them get a later edit first, so that they claim to be newer.
    """
    draw, now = random.Random(seed), {}  # noqa: S311 - deterministic
    for number in range(101, 101 + ROWS):
        item = loaded[f"Enterprise {number}"] | {"note": "the application's"}
        if number % 2:
            item = edited(item)
        put(table, item)
        own = [name for name in item if name != "note"]
        name = draw.choice([*own, "updatedAt", "updated_date"])
        to = corrupted(item, name, draw)
        now[str(number)] = corrupt_one(table, item, name, to)
    return now


@pytest.mark.parametrize(("seed", "provenance"), [(11, False), (12, True)])
@pytest.mark.usefixtures("source")
def test_no_corruption_of_an_attribute_goes_unseen(
    insert: Callable[..., None],
    table: EnterpriseTable,
    items: ReadItems,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    *,
    provenance: bool,
) -> None:
    """Each of 500 random corruptions must be found, and a run must repair or report it.

    No invalid item passes for a newer one. After the run, possible edits are unchanged
    and all other items equal their rows. *seed* determines the corruptions.
    """
    monkeypatch.setenv("ITEM_PROVENANCE", str(provenance))
    loaded = load(insert, items, ROWS + 1)
    put(table, valid := edited(loaded[f"Enterprise {101 + ROWS}"]))
    now = corrupt(table, loaded, seed)
    expected = {row: expected_class(item, row) for row, item in now.items()}
    expected |= {str(101 + ROWS): "newer_in_target"}
    found = pipeline.reconcile()
    report = pipeline.migrate(MigrateOptions())
    after = enterprises(items)

    assert report.reconciliation is not None
    rows, kinds = (
        {d.source_id: d.kind for d in one.found if d.has_row}
        for one in (found, report.reconciliation)
    )
    assert rows == expected
    assert found.status == "different"
    assert found.counts["matched"] == found.source_rows - ROWS - 1
    assert classes(found).keys() == set(rows.values())
    # The unchanged items, and then the items that the run wrote.
    left = {row for row in now if may_be_edit(now[row]) or is_foreign(now[row])}
    for row, item in now.items():
        one = loaded[f"Enterprise {row}"]
        kept = from_wire(after[f"{one['PK']} METADATA"])
        brought = one | {"note": "the application's"} if item else one
        assert kept == (item if row in left else brought), row
    assert from_wire(after[f"{valid['PK']} METADATA"]) == valid
    assert kinds == {row: expected[row] for row in (*left, str(101 + ROWS))}
    assert report.status == "unproven"
    assert report.ledger == report.loaded
    assert report.ledger.written == ROWS - len(left)
    assert report.ledger.failed == sum(map(is_foreign, now.values()))


@pytest.mark.usefixtures("source")
def test_an_edit_that_cannot_be_compared_with_its_row_is_kept_and_reported(
    insert: Callable[..., None], table: EnterpriseTable, items: ReadItems
) -> None:
    """No item that may be newer, by any stamp in any form, is overwritten.

    This holds before the cutover for a full run, an incremental run and a repair.
    Without a manifest, edits with an unreadable time cannot be recognized.
    """
    loaded = load(insert, items, 6)
    edits: list[dict[str, Any]] = [
        {"updated_date": LATER},
        {"updatedAt": 1_709_164_801},
        {"updatedAt": 1_709_164_800_001},
        {"updatedAt": "Thu Feb 29 2024 01:00:01 GMT+0100 (CET)"},
        {"updatedAt": "yesterday"},
        {"updatedAt": None, "updated_date": None},
    ]
    for number, edit in enumerate(edits, 101):
        item = loaded[f"Enterprise {number}"] | {"name": "N", "enterprise_name": "N"}
        change(table, item, **edit)
    edited_items = enterprises(items)
    reports = [
        pipeline.migrate(MigrateOptions()),
        pipeline.migrate(MigrateOptions(since="2000-01-01T00:00:00Z")),
    ]
    repaired = pipeline.reconcile(repair=RepairOptions(yes=True))

    for report in reports:
        assert classes(report.reconciliation) == {"malformed": 6}
        assert report.ledger == report.loaded
        assert (report.status, report.ledger.kept_newer) == ("unproven", 6)
    assert classes(repaired) == {"malformed": 6}
    assert enterprises(items) == edited_items


@pytest.mark.usefixtures("source")
def test_without_a_manifest_an_item_without_a_time_is_the_rows(
    insert: Callable[..., None],
    table: EnterpriseTable,
    items: ReadItems,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If no run of this program left the item, nothing shows that it is an edit."""
    loaded = load(insert, items, 1)
    change(table, loaded["Enterprise 101"], updatedAt="yesterday", name="old")
    monkeypatch.setenv("STATE_URL", "sqlite:///another.db")
    found = pipeline.reconcile()
    report = pipeline.migrate(MigrateOptions())

    assert classes(found) == {"mismatched": 1}
    assert (report.status, report.ledger.written) == ("proven", 1)


@pytest.mark.usefixtures("source")
def test_a_resume_keeps_an_edit_of_what_the_stopped_run_sent(
    insert: Callable[..., None],
    table: EnterpriseTable,
    items: ReadItems,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An edit without a readable time must survive the resume of a stopped run.

    Its partition is not done: the state records only what was about to be sent.
    """

    def stop(*_: object) -> None:
        raise Incomplete("stopped before the partition was recorded")

    insert([(101, "Enterprise 101", DAY, DAY)])
    with monkeypatch.context() as patch:
        patch.setattr(State, "finish_partition", stop)
        assert pipeline.migrate(MigrateOptions()).status == "incomplete"
    (item,) = (i for i in enterprises(items).values() if i["name"]["S"][-3:] == "101")
    change(table, from_wire(item), name="New", updatedAt=None, updated_date=None)
    before = enterprises(items)
    report = pipeline.migrate(MigrateOptions(resume="last"))

    assert enterprises(items) == before
    assert (report.status, classes(report.reconciliation)) == (
        "unproven",
        {"malformed": 1},
    )
    assert report.ledger.kept_newer == 1


@pytest.mark.usefixtures("source")
def test_after_the_cutover_nothing_is_excused_without_manifests(
    insert: Callable[..., None],
    table: EnterpriseTable,
    items: ReadItems,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A state without items cannot show which items the application edited or created.

    Otherwise a wrong item would pass for an edit, an extra one for a creation, and the
    comparison would be clean.
    """
    loaded = load(insert, items, 2)
    one, two = loaded["Enterprise 101"], loaded["Enterprise 102"]
    ghost = "00000000-0000-4000-8000-000000000001"
    put(table, one | {"name": "wrong", "enterprise_name": "wrong"})
    put(table, two | {"PK": f"ENT#{ghost}", "id": ghost})
    declare_cutover(table, Lease(table, "cutover", 30))
    known = pipeline.reconcile()
    monkeypatch.setenv("STATE_URL", "sqlite:///another.db")
    unknown = pipeline.reconcile()

    edits = {"newer_in_target": 1, "created_in_target": 1}
    assert (known.status, classes(known)) == ("clean", edits)
    assert unknown.status == "different"
    assert classes(unknown) == {"mismatched": 1, "extra": 1}


def test_rows_that_share_an_id_are_not_proven_by_one_item(
    database_url: str,
    insert: Callable[..., None],
    table: EnterpriseTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two spellings of one UUID are two rows: one of them is in no item.

    They remain two rows even if their values are equal.
    """
    monkeypatch.setenv("DATABASE_URL", database_url)
    columns = "name text, created_date timestamptz, updated_date timestamptz"
    execute(database_url, f"CREATE TABLE enterprises (id text PRIMARY KEY, {columns})")
    one = "abcdef00-0000-4000-8000-000000000001"
    other = "abcdef00-0000-4000-8000-000000000002"
    insert((text, "A", DAY, DAY) for text in (one, one.upper(), other))
    times = dict.fromkeys(("createdAt", "created_date", "updatedAt"), STAMP)
    names = {"name": "A", "enterprise_name": "A", "entity_type": "enterprise"}
    for key in (one, other):
        own = {"PK": f"ENT#{key}", "SK": "METADATA", "id": key}
        put(table, own | names | times | {"updated_date": STAMP})
    report = pipeline.reconcile()
    run = pipeline.migrate(MigrateOptions(allow_quarantined=2))

    assert (report.status, classes(report)) == ("different", {"mismatched": 2})
    assert {d.source_id for d in report.found} == {one, one.upper()}
    assert (run.status, classes(run.reconciliation)) == ("proven", {"explained": 2})
