"""Hostile rows, end to end: each arrives only where the contract defines."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow.parquet as pq
import pytest

from flows import pipeline
from flows.models import Ledger, MigrateOptions
from flows.run.report import MigrationReport
from tests.support.hostile_rows import HOSTILE, ROWS, item_of
from validation.contract import Reason, Severity

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

ReadItems = Callable[[], dict[str, dict[str, Any]]]
BARRED = {key: row for key, row in ROWS.items() if row.reasons}
MOVED = {key: row for key, row in ROWS.items() if not row.reasons}
# No item may hold these unless its row does.
INVENTED = ("nan", "NaT", "None", "9999-12-31")


@pytest.fixture
def hostile_source(database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Fill the source with the hostile rows and name it in the environment."""
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.set_client_encoding("UTF8")
        cursor = connection.cursor()
        cursor.execute(
            "CREATE TABLE public.enterprises (id bigint PRIMARY KEY, name text,"
            " created_date timestamptz, updated_date timestamptz)"
        )
        cursor.executemany(
            "INSERT INTO enterprises VALUES (%s, %s, %s, %s)",
            [(key, row.name, row.created, row.updated) for key, row in ROWS.items()],
        )
    monkeypatch.setenv("DATABASE_URL", database_url)
    return database_url


def migrate(**options: Any) -> MigrationReport:
    """Migrate, accepting all existing bad rows."""
    return pipeline.migrate(MigrateOptions(allow_quarantined=len(BARRED), **options))


@pytest.mark.usefixtures("hostile_source")
@pytest.mark.parametrize("partition_rows", [25_000, 7])
def test_each_hostile_row_lands_where_the_contract_says(
    items: ReadItems, partition_rows: int
) -> None:
    """Barred rows are in quarantine for exactly their reasons, all others are equal."""
    assert len({row.kind for row in HOSTILE}) == len(HOSTILE) == len(ROWS) >= 60
    report = migrate(partition_rows=partition_rows)

    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(
        read=len(ROWS), written=len(MOVED), quarantined=len(BARRED)
    )
    stored = pq.read_table(str(report.files["quarantine_parquet"])).to_pylist()
    reasons = {row["source_id"]: row["reasons"] for row in stored}
    assert reasons == {key: ";".join(row.reasons) for key, row in BARRED.items()}
    names = {row["source_id"]: row["enterprise_name"] for row in stored}
    assert names == {key: row.name for key, row in BARRED.items()}
    found = {k: v for k, v in items().items() if k.startswith("ENT#")}
    expected = [item_of(key, row) for key, row in MOVED.items()]
    assert found == {f"{i['PK']['S']} METADATA": i for i in expected}
    assert invented(found) == []


def invented(items: dict[str, dict[str, Any]]) -> list[str]:
    """Return the items with a word for a missing value that their rows do not hold."""
    moved = {key: item_of(key, row) for key, row in MOVED.items()}
    held = {item["PK"]["S"]: str(item) for item in moved.values()}
    return [
        f"{pk}: {word}"
        for pk, item in ((i["PK"]["S"], str(i)) for i in items.values())
        for word in INVENTED
        if item.count(word) != held[pk].count(word)
    ]


@pytest.mark.usefixtures("hostile_source", "items")
def test_hostile_rows_draw_exactly_their_warnings() -> None:
    """Each warning counts the rows that it applies to, and bars none of them."""
    report = migrate()

    warned = Counter(each for row in ROWS.values() for each in row.warnings)
    found = report.asdict()["validation"]
    assert found["source"]["warnings"] == dict(sorted(warned.items()))
    assert all(Reason(each).severity is Severity.WARNING for each in warned)
    barred = Counter(each for row in ROWS.values() for each in row.reasons)
    assert found["source"]["by_reason"] | found["items"]["by_reason"] == barred


@pytest.mark.usefixtures("hostile_source", "items")
def test_files_of_a_hostile_run_are_safe() -> None:
    """No name is a formula in the CSV or markup in the page, and all are readable."""
    report = migrate()

    with Path(str(report.files["quarantine"])).open(newline="") as file:
        csv.field_size_limit(10**7)
        rows = list(csv.DictReader(file))
    assert {row["source_id"] for row in rows} == set(BARRED)
    assert not [r for r in rows if r["enterprise_name"].startswith(("=", "@", "\t"))]
    page = Path(str(report.files["report"])).read_text("utf-8")
    assert "<script" not in page
    assert "http" not in page.replace("http://127.0.0.1", "")
    values = json.loads(Path(str(report.files["validation"])).read_text("utf-8"))
    by_reason = {each["reason"]: each for each in values["source"]["rules"]}
    assert by_reason["name_missing"]["rows"] == 1
    (missing,) = (key for key, row in BARRED.items() if row.name is None)
    assert by_reason["name_missing"]["first_source_ids"] == [missing]


@pytest.mark.usefixtures("hostile_source")
def test_both_sides_can_be_validated_as_they_are(items: ReadItems) -> None:
    """The rows fail for the same reasons, and the migrated items do not fail."""
    from flows.validate import validate_source, validate_target

    migrate()
    source, target = validate_source(), validate_target()

    failed = {key for key, row in BARRED.items() if "item_too_large" not in row.reasons}
    ids = source.failures[source.failures["severity"] == "critical"]["source_id"]
    assert set(ids) == failed
    assert (target.rows, target.failed_rows) == (len(MOVED), 0)
    assert validate_source(sample=5).rows == 5
    assert validate_target(sample=3).rows == 3
    assert len(items()) == len(MOVED) + len({"ORIGIN"})


def test_the_limit_counts_provenance_as_dynamodb_does(
    database_url: str, items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store accepts an item of exactly the limit; a larger one is not sent."""
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.cursor().execute(
            "CREATE TABLE enterprises (id int PRIMARY KEY, name text,"
            " created_date timestamptz, updated_date timestamptz);"
            "INSERT INTO enterprises VALUES"
            " (123, repeat('x', 204649), now(), NULL),"
            " (124, repeat('y', 204650), now(), NULL)"
        )
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("ITEM_PROVENANCE", "true")

    report = pipeline.migrate(MigrateOptions(allow_quarantined=1))

    assert report.status == "proven", report.findings
    assert dict(report.tables())["Quarantine"] == {"item_too_large": 1}
    (item,) = (i for i in items().values() if "name" in i)
    assert item["original_pg_id"] == {"N": "123"}


def test_dates_that_no_timestamp_can_be_are_quarantined(
    database_url: str, items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A date may reach the year 5874897: it stops no run, and is kept unchanged."""
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.cursor().execute(
            "CREATE TABLE enterprises (id int PRIMARY KEY, name text,"
            " created_date date, updated_date timestamp);"
            "INSERT INTO enterprises VALUES (1, 'Far', '5874897-12-31', NULL),"
            " (2, 'Early', '4713-01-01 BC', now()), (3, 'Late', NULL,"
            " '294276-12-31 23:59:59'), (4, 'Endless', 'infinity', 'infinity'),"
            " (5, 'Fine', '2024-07-01', '2024-07-01 12:00'),"
            " (6, 'Next', '10000-01-01', NULL)"
        )
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("SOURCE_TIMEZONE", "America/New_York")

    report = pipeline.migrate(MigrateOptions(allow_quarantined=5))

    assert report.status == "proven", report.findings
    stored = pq.read_table(str(report.files["quarantine_parquet"])).to_pylist()
    assert {r["source_id"]: (r["reasons"], r["created_date"]) for r in stored} == {
        "1": ("created_date_out_of_range", "5874897-12-31"),
        "2": ("created_date_out_of_range", "4713-01-01 BC"),
        "3": ("updated_date_out_of_range", None),
        "4": ("created_date_not_finite;updated_date_not_finite", "infinity"),
        "6": ("created_date_out_of_range", "10000-01-01 05:00:00+00"),
    }
    (fine,) = (i for i in items().values() if "name" in i)
    assert fine["createdAt"]["S"] == "2024-07-01T04:00:00.000Z"
    assert fine["updatedAt"]["S"] == "2024-07-01T16:00:00.000Z"


@pytest.mark.parametrize(
    ("zone", "never", "twice"),
    [
        ("Europe/Paris", "2024-03-31 02:30", "2024-10-27 02:30"),
        ("Australia/Lord_Howe", "2024-10-06 02:15", "2024-04-07 01:45"),
        # Shifts of two hours, a day, nearly a day, and nine minutes and some seconds.
        ("Antarctica/Troll", "2024-03-31 02:30", "2024-10-27 01:30"),
        ("Pacific/Apia", "2011-12-30 12:00", None),
        ("Pacific/Kwajalein", "1993-08-21 12:00", None),
        ("Pacific/Kwajalein", None, "1969-09-30 12:00"),
        ("Europe/Paris", None, "1911-03-10 23:55"),
    ],
)
@pytest.mark.usefixtures("table")
def test_local_times_that_never_were_or_were_twice_are_told(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
    never: str | None,
    twice: str | None,
) -> None:
    """PostgreSQL decides for any clock change, and the report has a warning."""
    with closing(psycopg2.connect(database_url)) as connection, connection:
        cursor = connection.cursor()
        cursor.execute(
            "CREATE TABLE enterprises (id int PRIMARY KEY, name text,"
            " created_date timestamp, updated_date timestamptz)"
        )
        cursor.executemany(
            "INSERT INTO enterprises VALUES (%s, %s, %s, NULL)",
            [(1, "a", never), (2, "b", twice), (3, "c", "2024-07-01 12:00")],
        )
        cursor.execute(
            "UPDATE enterprises SET created_date = '2024-07-02'"
            " WHERE created_date IS NULL"
        )
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("SOURCE_TIMEZONE", zone)

    report = pipeline.migrate()

    (warning,) = report.warnings
    counts = f"{int(never is not None)} local times do not exist and"
    assert f"{counts} {int(twice is not None)} are ambiguous in {zone}" in warning
    assert report.status == "proven"
