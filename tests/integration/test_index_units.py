"""What secondary indexes take of the table: planned for, and kept under the cap."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from source_database import SourceDatabase
from target_table import ALL

from flows import pipeline
from flows.models import MigrateOptions
from flows.planning import plan_migration

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
    """Fill the source with names of up to 2,000 bytes, and name it."""
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
    """The first load and one of changed rows must take what was planned.

    An index holds no item without its key, and takes nothing where nothing changes
    that it copies.
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
    """People and programs must see which index costs how much, and what is the sum."""
    make_indexed(*THREE, **TYPES)
    database.run("UPDATE enterprises SET name = 'Acme'")
    plan = plan_migration(sample=ROWS)
    load = plan.asdict()["load"]

    each = {"by-name": ROWS, "by-time": ROWS, "by-id": ROWS}
    assert load["index_write_units"] == each
    assert load["write_units"] == pytest.approx(4 * ROWS, abs=10)
    for name in each:
        assert f"{name} 1,000" in " ".join(str(plan).split())
