"""Drift: a changed column stops the run before it writes; the rest is a warning."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from flows import pipeline
from flows.errors import SchemaChanged
from flows.models import MigrateOptions
from flows.run.report import MigrationReport

pytestmark = pytest.mark.parametrize("endpoint", ["moto"], indirect=True)

ReadItems = Callable[[], dict[str, dict[str, Any]]]
ACCEPTED = MigrateOptions(accept_schema=True)


def execute(url: str, *statements: str) -> None:
    """Run statements on the source and commit them."""
    with closing(psycopg2.connect(url)) as connection, connection:
        for statement in statements:
            connection.cursor().execute(statement)


def validation(report: MigrationReport) -> Any:
    """Return the content of a run's validation.json."""
    path = report.asdict()["files"]["validation"]
    return json.loads(Path(str(path)).read_text("utf-8"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER created_date TYPE timestamp(0) with time zone", "created_date was"),
        ("ALTER name TYPE varchar(200)", "name was text and is character varying(200)"),
        ("RENAME name TO enterprise_name", "name was text and is gone"),
        ("DROP updated_date", "updated_date was timestamp with time zone and is gone"),
    ],
)
def test_a_changed_column_stops_the_run(
    source: str, items: ReadItems, change: str, named: str
) -> None:
    """Old and new are named, nothing is written, and an accepted schema is migrated."""
    pipeline.migrate(MigrateOptions(run_id="before"))
    before = items()
    execute(source, f"ALTER TABLE enterprises {change}")
    execute(source, "DELETE FROM enterprises WHERE id = 42")

    with pytest.raises(SchemaChanged) as refused:
        pipeline.migrate()

    assert named in refused.value.message
    assert "as run before read it" in refused.value.message
    assert "--accept-schema" in refused.value.remedy
    assert refused.value.exit_code == 2
    assert items() == before
    if "DROP" not in change:
        pipeline.migrate(ACCEPTED)
        pipeline.migrate()


@pytest.mark.usefixtures("items")
def test_another_column_for_the_same_part_stops_the_run(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that names another column moves other values, and must be accepted."""
    execute(source, "ALTER TABLE enterprises ADD legal_name text DEFAULT 'Legal'")
    pipeline.migrate()
    monkeypatch.setenv("SOURCE_NAME_COLUMN", "legal_name")

    with pytest.raises(SchemaChanged, match="name column was name and is legal_name"):
        pipeline.migrate()
    assert pipeline.migrate(ACCEPTED).ledger.read == 5


@pytest.mark.usefixtures("items")
def test_other_columns_that_come_and_go_are_told(source: str) -> None:
    """A column that is not moved stops nothing: it is a warning in every report."""
    execute(source, "ALTER TABLE enterprises ADD fax text")
    pipeline.migrate(MigrateOptions(run_id="before"))
    execute(source, "ALTER TABLE enterprises DROP fax, ADD vat_id varchar(20)")

    report = pipeline.migrate()

    assert report.warnings == (
        "Column vat_id (character varying(20)) was added since run before.",
        "Column fax (text) was dropped since run before.",
    )
    page = Path(str(report.files["report"])).read_text("utf-8")
    text = Path(str(report.files["report_markdown"])).read_text("utf-8")
    assert all(warning in page and warning in text for warning in report.warnings)
    assert report.asdict()["source"]["columns_not_migrated"] == ["vat_id"]
    assert pipeline.migrate().warnings == ()


@pytest.mark.usefixtures("items")
def test_a_run_is_compared_with_the_last_one(source: str) -> None:
    """Unusual rows, NULLs and lengths are reported with those of the last run."""
    assert pipeline.migrate().warnings == ()
    execute(
        source,
        "INSERT INTO enterprises SELECT n, repeat('x', 99), '2024-01-01Z', NULL"
        " FROM generate_series(1000, 1004) AS n",
    )

    report = pipeline.migrate()

    assert report.warnings == (
        "row_count_unusual: 10 rows, and 5 in the last run.",
        "10.0% of created are NULL, and 20.0% in the last run.",
        "80.0% of updated are NULL, and 60.0% in the last run.",
        "The longest name has 99 characters, not 17.",
    )
    profile = {each["measure"]: each for each in validation(report)["profile"]}
    assert profile["rows"] == {"measure": "rows", "now": 10, "last": 5}
    assert profile["created first"]["now"] == "0001-01-01 00:00:00+00"
    # Five names are equal, regardless of the partitions.
    assert validation(report)["source"]["warnings"]["name_duplicate"] == 5


@pytest.mark.usefixtures("items")
def test_twin_names_are_counted_over_all_partitions(source: str) -> None:
    """A partition sees only its rows; the warning counts the whole table."""
    execute(source, "UPDATE enterprises SET name = 'Twin' WHERE id IN (-7, 42)")

    report = pipeline.migrate(MigrateOptions(partition_rows=1))

    assert report.asdict()["validation"]["source"]["warnings"]["name_duplicate"] == 2
    assert report.status == "proven"


@pytest.mark.usefixtures("items")
def test_data_docs_are_an_option(source: str) -> None:
    """Great Expectations' pages name every rule; without the option there are none.

    Anyone may read the pages, so they must not contain a name from an invalid row.
    """
    assert pipeline.migrate().asdict()["files"]["data_docs"] is None
    execute(
        source,
        "INSERT INTO enterprises VALUES (100, 'S3cret ', 'infinity', NULL),"
        " (101, 'S3cret ', NULL, NULL)",
    )

    report = pipeline.migrate(MigrateOptions(data_docs=True))

    index = Path(report.asdict()["files"]["data_docs"])
    pages = {path.name: path.read_text("utf-8") for path in index.parent.iterdir()}
    assert {"index.html", "source_enterprises_results.html"} <= set(pages)
    assert "The item is within DynamoDB" in pages["enterprise_items.html"]
    named = validation(report)
    assert named["source"]["by_reason"]["created_date_not_finite"] == 1
    assert named["source"]["warnings"]["name_duplicate"] == 2
    assert "S3cret" not in json.dumps(named) + "".join(pages.values())
