"""The suite in PostgreSQL: the same rules on the same rows have the same counts."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from flows.extract import extract_enterprises, plan_extraction
from flows.models import PartitionSpec
from flows.stores.postgres.schema import describe_source
from flows.stores.postgres.session import open_source
from tests.support.hostile_rows import ROWS
from tests.support.source_database import SourceDatabase, new_database
from validation.report import ExpectationError
from validation.sql import FACTS, validate_table
from validation.validate import validate_enterprises

COLUMNS = {
    "id": "id",
    "name": '"Legal name"',
    "created": "created_date",
    "updated": "updated_date",
}


@pytest.fixture(scope="module")
def hostile(postgres_server: str) -> Iterator[SourceDatabase]:
    """Fill a source with the hostile rows, under a name that needs quotes."""
    with new_database(postgres_server) as database:
        with closing(psycopg2.connect(database.url)) as connection, connection:
            connection.set_client_encoding("UTF8")
            cursor = connection.cursor()
            cursor.execute(
                'CREATE TABLE public.enterprises (id bigint PRIMARY KEY, "Legal name"'
                " text, created_date timestamptz, updated_date timestamptz)"
            )
            cursor.executemany(
                "INSERT INTO enterprises VALUES (%s, %s, %s, %s)",
                [(key, r.name, r.created, r.updated) for key, r in ROWS.items()],
            )
        yield database


def sqlalchemy_url(database: SourceDatabase) -> str:
    """Return a database's URL in SQLAlchemy's form, at UTC."""
    url = database.url.replace("postgresql://", "postgresql+psycopg2://")
    return url + ("&" if "?" in url else "?") + "options=-c%20timezone%3DUTC"


def test_the_table_and_its_frames_get_the_same_verdict(hostile: SourceDatabase) -> None:
    """For hostile rows the SQL engine and the frames have the same counts per rule."""
    found = validate_table(sqlalchemy_url(hostile), "public.enterprises", COLUMNS)

    settings = hostile.settings(source_name_column="Legal name")
    with open_source(settings) as connection:
        source = describe_source(connection, settings)
        assert plan_extraction(connection, source, 1_000).rows == len(ROWS)
        spec = PartitionSpec(run_id="test", number=1, source=source)
        report = validate_enterprises(extract_enterprises(connection, spec))
    assert found == {
        "rows": len(ROWS),
        "by_reason": report.by_reason,
        "warnings": report.warnings,
    }
    assert len(report.by_reason) >= 7
    assert len(report.warnings) >= 6


def test_a_clean_table_breaks_nothing(postgres_server: str) -> None:
    """It has no failures, and only the rules for NULLs apply to NULLs."""
    with new_database(postgres_server) as database:
        database.run(
            'CREATE TABLE e (id int, "Legal name" text, created_date timestamptz,'
            " updated_date timestamptz)",
            "INSERT INTO e VALUES (1, 'A', now(), NULL), (NULL, NULL, NULL, NULL),"
            " (2, 'B', NULL, now()), (2, 'C', now(), now())",
        )
        found = validate_table(sqlalchemy_url(database), "public.e", COLUMNS)

    assert found == {
        "rows": 4,
        "by_reason": {
            "id_missing": 1,
            "id_duplicate": 2,
            "name_missing": 1,
            "timestamps_missing": 1,
        },
        "warnings": {},
    }


@pytest.mark.parametrize(
    ("last_rows", "warnings"),
    [(10, {}), (12, {}), (13, {"row_count_unusual": 1}), (8, {"row_count_unusual": 1})],
)
def test_an_unusual_number_of_rows_is_a_warning(
    postgres_server: str, last_rows: int, warnings: dict[str, int]
) -> None:
    """A count within a fifth of the last run's is usual; others are a warning."""
    with new_database(postgres_server) as database:
        database.run(
            'CREATE TABLE e (id int, "Legal name" text, created_date timestamptz,'
            " updated_date timestamptz)",
            "INSERT INTO e SELECT n, 'N' || n, now() FROM generate_series(1, 10) AS n",
        )
        url = sqlalchemy_url(database)
        found = validate_table(url, "public.e", COLUMNS, last_rows=last_rows)

    assert found == {"rows": 10, "by_reason": {}, "warnings": warnings}


@pytest.mark.parametrize(
    "column", ["nowhere", "now() + 1 / (id - id) * interval '1 day'"]
)
def test_a_query_that_fails_is_no_verdict(hostile: SourceDatabase, column: str) -> None:
    """Great Expectations reports it as failed without a count, like a broken rule."""
    columns = COLUMNS | {"updated": column}

    with pytest.raises(ExpectationError, match="no count was returned") as failed:
        validate_table(sqlalchemy_url(hostile), "public.enterprises", columns)

    assert "Expect" in failed.value.expectation


def test_only_what_no_query_can_tell_is_left_out() -> None:
    """The query evaluates each rule but four, which no row in PostgreSQL can break."""
    from validation.suites import source_suite

    columns = {str(rule.column) for rule in source_suite().expectations}  # type: ignore[attr-defined]

    assert columns - set(FACTS) == {
        "id_unclaimed",
        "name_unicode",
        "created_date_recognised",
        "updated_date_recognised",
    }
