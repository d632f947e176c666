"""The state of runs that move several entities, in SQLite and in PostgreSQL."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.errors import SettingsError
from flows.models import (
    ENTERPRISE_TABLE,
    ENTITY_TYPE,
    Ledger,
    PartitionLedger,
    PartitionSpec,
    digest,
)
from flows.models.partitions import KeyRange
from flows.settings import Settings
from flows.state.overview import Overview
from flows.state.runs import PastRun, State, fingerprint

IDENTITY = {"source": {"table": "enterprises"}, "target": ["T", "eu-west-1"]}
MIGRATION = fingerprint(IDENTITY)
PRODUCT = "product"
SOURCES = {
    ENTITY_TYPE: ENTERPRISE_TABLE,
    PRODUCT: replace(ENTERPRISE_TABLE, table="products", entity=PRODUCT),
}
ENTERPRISES, PRODUCTS = "e" * 64, "p" * 64
FIRST, SECOND = "2026-11-28T08:00:00.000000Z", "2026-11-29T08:00:00.000000Z"
MAPPING: dict[str, Any] = {
    "entities": {
        PRODUCT: {"table": "products", "attributes": {"price": {"column": "price"}}}
    }
}
RANGES: dict[str, list[KeyRange]] = {
    ENTITY_TYPE: [(1, None, None)],
    PRODUCT: [(2, None, "5"), (3, "5", None)],
}


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    """Open an empty state in each database in turn."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'state.db'}"
    else:
        url = request.getfixturevalue("database_url")
    state = State.open(Settings.isolated(state_url=url))
    yield state
    state._database.engine.dispose()


def spec_of(entity: str, number: int = 0, run_id: str = "run") -> PartitionSpec:
    """Create a partition of an entity without bounds."""
    return PartitionSpec(run_id, number, SOURCES[entity])


def start(
    state: State,
    run_id: str = "run",
    ranges: dict[str, list[KeyRange]] = RANGES,
    *,
    mapping: dict[str, Any] | None = MAPPING,
    **facts: Any,
) -> None:
    """Record a run with key ranges of some entities, by a mapping."""
    specs = [
        spec
        for entity, bounds in ranges.items()
        for spec in spec_of(entity, run_id=run_id).of_ranges(bounds)
    ]
    state.start_run(run_id, IDENTITY, specs, mapping=mapping, **facts)


def make_products(source_ids: Sequence[str], **changes: Any) -> pd.DataFrame:
    """Create items without times, whose prices are no integers."""
    items = {
        "PK": [f"ENT#{one}" for one in source_ids],
        "SK": [f"PROD#{one}" for one in source_ids],
        "id": [f"product-{one}" for one in source_ids],
        "price": [{"N": f"{one}.5"} for one in source_ids],
        "note": [None for _ in source_ids],
        "entity_type": [PRODUCT for _ in source_ids],
        "source_id": list(source_ids),
    }
    return pd.DataFrame(items | changes, dtype=object)


def quarantined(*rows: dict[str, str | None]) -> pd.DataFrame:
    """Create quarantined rows, with their raw columns before the store's reason."""
    return pd.DataFrame(
        [
            {"source_id": None, "reasons": "bad"} | row | {"store_reason": None}
            for row in rows
        ],
        dtype=object,
    )


def finish(
    state: State,
    spec: PartitionSpec,
    written: Sequence[str] = (),
    rows: Sequence[dict[str, str | None]] = (),
) -> None:
    """Record a partition as moved: the source ids written, and the rows refused."""
    state.begin_partition(spec)
    state.manifests.save(spec, make_products(written))
    counts = Ledger(
        read=len(written) + len(rows), written=len(written), quarantined=len(rows)
    )
    done = PartitionLedger(spec.run_id, spec.number, counts, {}, {}, {})
    state.finish_partition(done, quarantined(*rows), ["written"] * len(written))


def test_a_resumed_run_moves_the_planned_ranges_of_each_entity(state: State) -> None:
    """Rows that a resume moved again have no range, whichever entity they are of."""
    start(state)
    finish(state, replace(spec_of(PRODUCT, 2), upper="5"), ["1"])
    for entity, number in ((ENTITY_TYPE, 4), (PRODUCT, 5)):
        state.begin_partition(spec_of(entity, number))

    past = state.resumable("run", IDENTITY, MAPPING)

    pending = {ENTITY_TYPE: ((1, None, None),), PRODUCT: ((3, "5", None),)}
    assert past == PastRun("run", None, pending, 5)
    assert list(past.pending) == [ENTITY_TYPE, PRODUCT]


def test_the_only_range_of_a_later_entity_is_resumed(state: State) -> None:
    """A range without bounds whose number is not 1 may be the whole of a table."""
    ranges: dict[str, list[KeyRange]] = {
        PRODUCT: [(1, None, None)],
        ENTITY_TYPE: [(2, None, None)],
    }
    start(state, ranges=ranges)
    finish(state, spec_of(PRODUCT, 1), ["1"], [{"source_id": "2"}])

    past = state.resumable("last", IDENTITY, MAPPING)

    assert past is not None
    assert list(past.pending.items()) == [
        (PRODUCT, ((1, None, None),)),
        (ENTITY_TYPE, ((2, None, None),)),
    ]


def test_an_entity_that_had_no_rows_gets_no_range_by_a_resume(state: State) -> None:
    """Its first partition has rows that came later, and is not its whole table."""
    start(state, ranges={ENTITY_TYPE: [(1, None, None)]})
    state.begin_partition(spec_of(PRODUCT, 2))

    past = state.resumable("run", IDENTITY, MAPPING)

    assert past is not None
    assert past.pending.get(PRODUCT, ()) == ()
    assert past.highest == 2


def test_another_mapping_is_refused(state: State) -> None:
    """A run must end with the mapping that it began with, wherever the file lies."""
    other = {
        "entities": {
            PRODUCT: {"table": "products", "attributes": {"price": {"column": "cost"}}}
        }
    }
    start(state)
    start(state, "built-in", mapping=None)

    state.require_run("run", IDENTITY, MAPPING | {"path": "elsewhere.toml"})
    state.require_run("built-in", IDENTITY)
    assert state.resumable("built-in", IDENTITY) is not None
    for run_id, mapping, what in (
        ("run", other, "product.attributes.price"),
        ("run", None, "there is none now"),
        ("built-in", MAPPING, "it had none"),
    ):
        message = f"Run {run_id} began with another mapping file: {what}"
        with pytest.raises(SettingsError, match=message) as refused:
            state.resumable(run_id, IDENTITY, mapping)
        with pytest.raises(SettingsError, match=message):
            state.require_run(run_id, IDENTITY, mapping)
        assert refused.value.remedy == "Restore the file, or begin a new run."


def test_ledgers_are_those_of_an_entity(state: State) -> None:
    """All together, they must be in the order of the plan."""
    start(state)
    finish(state, replace(spec_of(PRODUCT, 3), lower="5"), ["6", "7"])
    finish(state, spec_of(ENTITY_TYPE, 1), ["1"])

    assert [one.number for one in state.ledgers("run")] == [1, 3]
    assert [one.ledger.written for one in state.ledgers("run", PRODUCT)] == [2]
    assert [one.ledger.written for one in state.ledgers("run", ENTITY_TYPE)] == [1]
    assert state.ledgers("run", "seat") == []


def test_only_runs_that_read_a_source_prove_it(state: State) -> None:
    """A run of one entity says nothing about the rows of another one."""
    facts = {"types": {}, "mapped": {}}
    for run_id, keys, taken in (
        ("both", [ENTERPRISES, PRODUCTS], FIRST),
        ("products", [PRODUCTS], SECOND),
    ):
        start(state, run_id, watermark=taken)
        for key in keys:
            state.source.save_columns(run_id, key, facts)
        state.finish_run(run_id, "proven", {})

    assert state.last_watermark(MIGRATION) == SECOND
    assert state.last_watermark(MIGRATION, PRODUCTS) == SECOND
    assert state.last_watermark(MIGRATION, ENTERPRISES) == FIRST
    state.require_full_run(MIGRATION, ENTERPRISES)
    assert state.has_full_run(MIGRATION)
    assert not state.has_full_run(MIGRATION, "s" * 64)
    with pytest.raises(SettingsError, match="no full run"):
        state.require_full_run(MIGRATION, "s" * 64)
    with pytest.raises(SettingsError, match="--since last"):
        state.last_watermark(MIGRATION, "s" * 64)


def test_a_run_records_each_of_its_sources(state: State) -> None:
    """Columns and profiles of one must not replace those of another."""
    start(state)
    for key in (ENTERPRISES, PRODUCTS):
        state.source.save_columns("run", key, {"types": {key: "text"}})
        state.source.save_profile("run", key, {"rows": len(set(key)), "key": key})
    state.source.save_columns("run", PRODUCTS, {"types": {"price": "numeric"}})

    source = state.source
    assert source.last_profile(ENTERPRISES) == {"rows": 1, "key": ENTERPRISES}
    assert source.last_profile(PRODUCTS) is None
    assert source.last_columns(ENTERPRISES) == ("run", {"types": {ENTERPRISES: "text"}})
    assert source.last_columns(PRODUCTS) == ("run", {"types": {"price": "numeric"}})
    assert source.last_profile(ENTERPRISES, apart_from="run") is None
    state.forget_run("run")
    assert source.last_columns(ENTERPRISES) is None


def test_the_quarantine_has_the_raw_columns_of_its_entity(state: State) -> None:
    """The names are those of the rows, in their order, and None stays None."""
    start(state)
    rows = [
        {"source_id": "7", "sku": "a\u0085", "price": "NaN"},
        {"source_id": "8", "sku": None, "price": "1e200"},
    ]
    finish(state, replace(spec_of(PRODUCT, 2), upper="5"), rows=rows)
    found = state.source.quarantine("run")

    last = ["entity", "partition", "store_reason"]
    assert [*found] == ["source_id", "reasons", "sku", "price", *last]
    assert found.to_numpy().tolist() == [
        ["7", "bad", "a\u0085", "NaN", PRODUCT, "2", None],
        ["8", "bad", None, "1e200", PRODUCT, "2", None],
    ]
    assert found.equals(state.source.quarantine("run", PRODUCT))
    assert state.source.quarantine("run", ENTITY_TYPE).empty


def test_the_quarantine_of_several_entities_names_them(state: State) -> None:
    """A row must have None in the columns that only rows of another entity have."""
    start(state)
    finish(
        state,
        spec_of(ENTITY_TYPE, 1),
        rows=[{"source_id": "7", "enterprise_name": "", "updated_date": "infinity"}],
    )
    finish(
        state,
        replace(spec_of(PRODUCT, 2), upper="5"),
        rows=[{"source_id": "7", "price": "NaN", "updated_date": None}],
    )
    found = state.source.quarantine("run")

    raw = ["enterprise_name", "updated_date", "price"]
    assert [*found] == [
        *("source_id", "reasons", *raw, "entity", "partition", "store_reason")
    ]
    assert found.to_numpy().tolist() == [
        ["7", "bad", "", "infinity", None, ENTITY_TYPE, "1", None],
        ["7", "bad", None, None, "NaN", PRODUCT, "2", None],
    ]
    of_products = state.source.quarantine("run", PRODUCT)
    assert "enterprise_name" not in of_products
    (listed,) = state.source.quarantines()
    assert (listed.rows, listed.reasons) == (2, {"bad": 2})


def test_a_row_is_explained_for_its_entity(state: State) -> None:
    """Source ids of two entities may be equal; only one of the rows is bad."""
    start(state)
    finish(state, spec_of(ENTITY_TYPE, 1), ["2"], [{"source_id": "1"}])
    finish(state, spec_of(PRODUCT, 2), ["1"], [{"source_id": "2"}])
    state.finish_run("run", "unproven", {})
    # Later runs move the product with the id of the enterprise, and prove its row.
    start(state, "later", {PRODUCT: [(1, None, None)]}, since=FIRST)
    finish(state, spec_of(PRODUCT, 1, "later"), ["1"])
    state.finish_run("later", "proven", {})
    source = state.source

    assert source.explained(MIGRATION) == frozenset({"1"})
    assert source.explained(MIGRATION, PRODUCT) == frozenset({"2"})
    assert source.explained(MIGRATION, "seat") == frozenset()
    assert source.unaccepted(MIGRATION) == frozenset({"1"})

    # A full run of products alone has not seen the enterprises.
    start(state, "products", {PRODUCT: [(1, None, None)]})
    finish(state, spec_of(PRODUCT, 1, "products"), ["2"], [{"source_id": "3"}])
    state.finish_run("products", "proven", {})

    assert source.explained(MIGRATION) == frozenset({"1"})
    assert source.explained(MIGRATION, PRODUCT) == frozenset({"3"})
    assert source.unaccepted(MIGRATION, PRODUCT) == frozenset()


def test_a_full_run_of_an_empty_table_explains_nothing_more(state: State) -> None:
    """By the built-in mapping it read all enterprises, though it had no partition."""
    start(state, ranges={ENTITY_TYPE: [(1, None, None)]}, mapping=None)
    finish(state, spec_of(ENTITY_TYPE, 1), rows=[{"source_id": "1"}])
    state.finish_run("run", "unproven", {})
    assert state.source.explained(MIGRATION) == frozenset({"1"})
    start(state, "empty", {}, mapping=None)
    state.finish_run("empty", "proven", {})

    assert state.source.explained(MIGRATION) == frozenset()


def test_a_manifest_may_have_no_times(state: State) -> None:
    """Values of each type must have the digest by which items are compared."""
    start(state)
    items = make_products(["6", "7"])
    state.manifests.save(spec_of(PRODUCT, 2), items)
    state.manifests.save(spec_of(PRODUCT, 3), items.iloc[:0])
    (saved, _), (empty, _) = state.manifests.of_run("run", PRODUCT)

    assert saved["updated_at"].to_pylist() == [None, None]
    assert saved["source_id"].to_pylist() == ["6", "7"]
    records: Any = items.drop(columns="source_id").to_dict("records")
    assert saved["digest"].to_pylist() == [digest(one.values()) for one in records]
    assert empty.num_rows == 0
    (known,) = state.manifests.known_items(MIGRATION, {"product-6"}).items()
    assert (known[0], known[1].source_id) == ("product-6", "6")


def test_manifests_are_those_of_an_entity(state: State) -> None:
    """Only the last attempt of each of its partitions counts, and no deletions."""
    start(state)
    finish(state, spec_of(ENTITY_TYPE, 1), ["1"])
    state.manifests.save(spec_of(PRODUCT, 2), make_products(["1"]))
    finish(state, spec_of(PRODUCT, 2), ["1", "2"])
    finish(state, spec_of(PRODUCT, 3), ["6"])
    state.manifests.save_ids("run", ["product-9"], "deleted")
    start(state, "other", {PRODUCT: [(1, None, None)]})
    finish(state, spec_of(PRODUCT, 1, "other"), ["1", "2", "3", "4"])

    def count_rows(entity: str | None) -> list[int]:
        found = state.manifests.of_run("run", entity)
        return [table.num_rows for table, _ in found]

    assert count_rows(ENTITY_TYPE) == [1]
    assert count_rows(PRODUCT) == [2, 1]
    assert count_rows(None) == [1, 2, 1]
    assert count_rows("seat") == []


def test_written_rows_are_counted_by_entity(state: State) -> None:
    """A source id of one entity must not use up the same one of another."""
    start(state)
    finish(state, spec_of(ENTITY_TYPE, 1), ["1", "2"])
    finish(state, spec_of(PRODUCT, 2), ["1", "2", "3"])
    count = state.manifests.count_written

    assert count("run", set()) == 5
    assert count("run", set(), entity=PRODUCT) == 3
    assert count("run", {"product-3"}, entity=PRODUCT) == 2
    assert count("run", set(), {"1", "3"}, PRODUCT) == 2
    assert count("run", set(), {"1", "3"}, ENTITY_TYPE) == 1


def test_a_record_names_the_entities_of_a_run(state: State) -> None:
    """They must be in the order in which the run moves them."""
    ranges: dict[str, list[KeyRange]] = {
        PRODUCT: [(1, None, None)],
        ENTITY_TYPE: [(2, None, "5"), (3, "5", None)],
    }
    start(state, ranges=ranges)
    start(state, "other", {})
    finish(state, spec_of(PRODUCT, 1), ["1", "2"])
    overview = Overview.open(Settings.isolated(state_url=state._database.url))
    assert overview is not None
    record, records = overview.record("run"), overview.records()
    overview.close()

    assert record is not None
    assert record.entities == (PRODUCT, ENTITY_TYPE)
    assert (record.progress.partitions, record.ledger.read) == (3, 2)
    assert {one.run_id: one.entities for one in records} == {
        "run": record.entities,
        "other": (),
    }
