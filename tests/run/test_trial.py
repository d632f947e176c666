"""The rows of a trial: which are chosen, and what that costs."""

import pytest

from flows.models import SourceTable
from flows.run.trial import pick_ids
from flows.stores.postgres.session import open_source
from tests.support.source_database import SourceDatabase

FILL = """
CREATE TABLE enterprises (
    id {kind} PRIMARY KEY, name text, created_date timestamptz, updated_date timestamptz
);
INSERT INTO enterprises SELECT {id}, 'Acme', now(), now()
FROM generate_series(1, {rows}) AS n
"""


@pytest.fixture
def database(database_url: str) -> SourceDatabase:
    """Return an empty database."""
    return SourceDatabase(database_url)


def fill(
    database: SourceDatabase, rows: int, *, kind: str = "bigint", key: str = "n"
) -> SourceTable:
    """Create the source with rows whose ids are an expression of their number."""
    database.run(FILL.format(kind=kind, id=key, rows=rows))
    return database.describe()


def pick(database: SourceDatabase, source: SourceTable, rows: int) -> tuple[str, ...]:
    """Pick rows in a new session."""
    with open_source(database.settings()) as connection:
        return pick_ids(connection, source, rows)


def test_rows_are_picked_from_all_over_the_range(database: SourceDatabase) -> None:
    """The first and the last row are among them, and each time the same ones."""
    source = fill(database, 1_000, key="3 * n - 1500")

    assert pick(database, source, 1) == ("-1497",)
    assert pick(database, source, 4) == ("-1497", "-498", "501", "1500")
    assert pick(database, source, 4) == pick(database, source, 4)


def test_gaps_are_filled_with_the_first_rows(database: SourceDatabase) -> None:
    """As many rows as wanted are picked if there are that many, and each one once."""
    key = "CASE WHEN n = 100 THEN 9223372036854775807 ELSE n END"
    source = fill(database, 100, key=key)
    some, more = pick(database, source, 10), pick(database, source, 1_000)

    assert set(some) == {*map(str, range(1, 10)), "9223372036854775807"}
    assert len(some) == 10
    assert len(more) == len(set(more)) == 100


@pytest.mark.parametrize("kind", ["uuid", "text"])
def test_uuids_are_spread_too(database: SourceDatabase, kind: str) -> None:
    """Ids that increase with time must not all be the oldest."""
    key = f"('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::{kind}"
    source = fill(database, 100, kind=kind, key=key)
    some = pick(database, source, 5)

    # The digits of a UUID are hexadecimal, so there is no row between 99 and 100.
    assert [one[-3:].lstrip("0") for one in some] == ["1", "40", "80", "100", "2"]


def test_nothing_is_picked_from_an_empty_table(database: SourceDatabase) -> None:
    """An empty source has no ends between which to choose."""
    assert pick(database, fill(database, 0), 5) == ()


def test_a_large_table_is_not_read(database: SourceDatabase) -> None:
    """Each row is found in the key's index, and the rows are not counted."""
    source = fill(database, 50_000)
    database.run("ANALYZE enterprises")
    with open_source(database.settings()) as connection, connection.cursor() as cursor:
        assert len(pick_ids(connection, source, 20)) == 20
        cursor.execute(
            "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE relname = 'enterprises'"
        )
        sequential, by_index = cursor.fetchone() or (None, None)

    assert sequential == 0
    assert by_index <= 20 + 20 + 1
