"""Units that secondary indexes consume: included in the plan, and within the cap."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from flows import pipeline
from flows.load import load_items
from flows.models import MigrateOptions, key_of
from flows.planning.plan import plan_migration
from flows.run.context import RunContext
from flows.run.deletions import OurItem, delete_as_left
from flows.run.preflight import open_stores
from flows.stores.dynamodb.indexes import read_indexes
from flows.stores.dynamodb.rate_limiter import RateLimiter
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.source_database import SourceDatabase
from tests.support.target_table import ALL, as_items, make_items, open_at, put, remake

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

Keys = Sequence[tuple[str, Sequence[str]]]

ROWS = 1_000
WITHIN = 0.05
STAMP = "2024-01-05 12:34:56.789+00"
THREE: Keys = (
    ("by-name", ["name"]),
    ("by-time", ["entity_type", "updatedAt"]),
    ("by-id", ["id"]),
)
TYPES = {"name": "S", "entity_type": "S", "updatedAt": "S", "id": "S"}
KEYS_ONLY = {"ProjectionType": "KEYS_ONLY"}
INCLUDE = {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["enterprise_name"]}
PRICE: Keys = [("by-price", ["entity_type", "price"])]
CREATED: Keys = [("of-time", ["PK", "createdAt"])]
CHANGE = """
UPDATE enterprises
SET name = CASE WHEN id % 2 = 0 THEN name || '!' ELSE name END,
    updated_date = '2025-01-01 00:00Z'
WHERE id % 3 = 0
"""


@pytest.fixture
def database(
    database_url: str,
    insert: Callable[[Iterable[Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> SourceDatabase:
    """Fill the source with names of up to 2,000 bytes, and export its URL."""
    names = ["é" * n + "x" if n % 4 == 0 else "Acme" for n in range(ROWS)]
    insert((number, name, STAMP, STAMP) for number, name in enumerate(names))
    monkeypatch.setenv("DATABASE_URL", database_url)
    return SourceDatabase(database_url)


@pytest.mark.parametrize(
    ("indexes", "local", "projection", "types"),
    [
        (THREE, [], ALL, TYPES),
        (THREE, [], KEYS_ONLY, TYPES),
        (THREE, [], INCLUDE, TYPES),
        (PRICE, [], ALL, {"entity_type": "S", "price": "N"}),
        ([], CREATED, ALL, {"createdAt": "S"}),
    ],
    ids=["all", "keys-only", "include", "sparse", "local"],
)
def test_a_plan_counts_what_the_indexes_take(  # noqa: PLR0917
    make_indexed: Callable[..., None],
    database: SourceDatabase,
    indexes: Keys,
    local: Keys,
    projection: dict[str, Any],
    types: dict[str, str],
) -> None:
    """The first load and one of changed rows must consume the planned units.

    An index omits items without its key, and consumes nothing if no copied attribute
    changes.
    """
    make_indexed(*indexes, local=local, projection=projection, **types)
    database.run("ANALYZE enterprises")
    first = plan_migration(sample=ROWS).asdict()["migrate"]
    estimated = plan_migration(sample=ROWS, estimate=True).asdict()["migrate"]
    filled = pipeline.migrate(MigrateOptions())
    database.run(CHANGE)
    again = plan_migration(sample=ROWS).asdict()["migrate"]
    changed = pipeline.migrate(MigrateOptions())

    assert filled.status == changed.status == "proven"
    taken = filled.capacity["write_units"]
    within = pytest.approx(taken, rel=WITHIN)
    assert first["write_units"] == estimated["write_units"] == within
    assert filled.planned["write_units"] == within
    rewritten = changed.capacity["write_units"]
    assert again["write_units"] == pytest.approx(rewritten, rel=WITHIN)
    names = {name for name, _ in (*indexes, *local)} - {"by-price"}
    assert set(first["index_write_units"]) == names


def test_a_plan_names_the_share_of_each_index(
    make_indexed: Callable[..., None], database: SourceDatabase
) -> None:
    """People and programs must see the cost of each index, and the total."""
    make_indexed(*THREE, **TYPES)
    database.run("UPDATE enterprises SET name = 'Acme'")
    plan = plan_migration(sample=ROWS)
    load = plan.asdict()["load"]

    each = {"by-name": ROWS, "by-time": ROWS, "by-id": ROWS}
    assert load["index_write_units"] == each
    assert load["write_units"] == pytest.approx(4 * ROWS, abs=10)
    for name in each:
        assert f"{name} 1,000" in " ".join(str(plan).split())


class Recording(RateLimiter):
    """A limiter that records the expected and consumed units of each request."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: list[tuple[float, float]] = []

    def correct(self, expected: float, consumed: float) -> None:
        """Record both."""
        self.settled.append((expected, consumed))
        super().correct(expected, consumed)


@pytest.mark.parametrize("projection", [ALL, KEYS_ONLY, INCLUDE])
def test_the_rate_is_taken_before_the_request(
    table: EnterpriseTable, projection: dict[str, Any]
) -> None:
    """Concurrent requests must not exceed the cap together.

    So each request must wait for the units that it will consume. This covers batches,
    items that are created, changed or deleted, large items and indexes.
    """
    remake(table, *THREE, projection=projection, **TYPES)
    described = table.client.describe_table(TableName=table.name)["Table"]
    names = ["Acme", "é" * 900, "y" * 300, "z" * 512] * 10
    first, second = make_items(names), make_items(["Other", *names[1:]], first=100)
    indexed = open_at(table.endpoint, table.name)
    indexed.indexes = read_indexes(described)
    indexed.write_limiter = recording = Recording()
    load_items(first, indexed, table_was_empty=True)
    load_items(second, indexed)
    renamed = first.assign(
        enterprise_name=first["enterprise_name"] + "!",
        name=first["name"] + "!",
        updatedAt="2024-03-01T00:00:00.000Z",
        updated_date="2024-03-01T00:00:00.000Z",
    )
    load_items(renamed, indexed)
    put(table, *as_items(second.head(1).assign(note="n" * 1_500)))
    load_items(second.head(1).assign(entity_type="enterprise", name="New"), indexed)
    (gone,) = as_items(first.tail(1))
    there = indexed.read([key_of(gone)])[key_of(gone)]
    indexed.delete(there, list(gone))

    assert len(recording.settled) == 2 + 40 + 40 + 1 + 1
    assert [e for e, _ in recording.settled] == [c for _, c in recording.settled]
    assert sum(consumed for _, consumed in recording.settled) > 3 * 81


@pytest.mark.usefixtures("source")
def test_deletions_are_under_the_cap_of_their_run(
    make_indexed: Callable[..., None],
) -> None:
    """The deletions of a run consume units of the same table."""
    make_indexed(*THREE, **TYPES)
    filled = pipeline.migrate(MigrateOptions())
    recording = Recording()
    with open_stores(RunContext(writes=recording)) as stores:
        (spec,) = stores.state.manifests.of_run(filled.run_id)
        ids = set(spec[0]["id"].to_pylist())
        known = stores.state.manifests.known_items(stores.migration, ids)
        source = stores.source
        ours = [
            OurItem(one, source.key_of_id(one), left, source)
            for one, left in known.items()
        ]
        gone = delete_as_left(stores, filled.run_id, ours)

    assert gone == len(ids) == 5
    assert recording.settled == [(4, 4)] * 5


def test_a_batch_takes_no_more_than_a_second_of_the_cap(
    table: EnterpriseTable,
) -> None:
    """Large items must be sent in smaller batches, or one by one if necessary."""
    capped = open_at(table.endpoint, table.name)
    capped.write_limiter = recording = Recording()
    recording.cap = 20
    load_items(
        make_items(["x" * 2_000] * 8 + ["y" * 15_000]), capped, table_was_empty=True
    )

    # Each of the eight consumes 5 units; the last one alone consumes 30.
    assert [consumed for _, consumed in recording.settled] == [20, 20, 30]


@pytest.mark.usefixtures("database")
def test_the_cap_holds_over_a_run_with_indexes(
    make_indexed: Callable[..., None],
) -> None:
    """From the first request to the last, consumption stays within the cap.

    A busy machine needs longer, and consumes less per second.
    """
    make_indexed(*THREE, **TYPES)
    report = pipeline.migrate(MigrateOptions(max_write_units=1_000))

    assert report.status == "proven"
    assert report.limit == "write cap"
    taken, seconds = report.capacity["write_units"], report.seconds["load"]
    assert taken > 5_000
    assert taken <= 1_000 * 1.1 * seconds
