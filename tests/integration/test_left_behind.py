"""Data that a run does not move: other columns, and tables that refer to the source."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from typer.testing import CliRunner

from flows import pipeline
from flows.cli.app import app
from flows.doctor.checks import examine
from flows.models import MigrateOptions
from flows.planning.plan import plan_migration

pytestmark = pytest.mark.usefixtures("table")

COLUMNS = ("plan", "status", "settings", "owner_id")
REFERRING = (
    "public.enterprises (owner_id)",
    'sales."Order Lines" (enterprise_id)',
    "sales.visits (enterprise_id)",
)
OTHERS = """
ALTER TABLE enterprises ADD plan text, ADD status text, ADD settings jsonb,
    ADD owner_id bigint REFERENCES enterprises;
CREATE SCHEMA sales;
CREATE TABLE sales."Order Lines" (
    id int, enterprise_id bigint REFERENCES public.enterprises);
CREATE TABLE sales.visits (
    id int, enterprise_id bigint REFERENCES public.enterprises) PARTITION BY LIST (id);
CREATE TABLE sales.visits_1 PARTITION OF sales.visits FOR VALUES IN (1);
CREATE TABLE sales.apart (id int, enterprise_id bigint);
"""


@pytest.fixture
def others(source: str) -> str:
    """Return a source with columns and tables that no run moves."""
    with closing(psycopg2.connect(source)) as connection, connection:
        connection.cursor().execute(OTHERS)
    return source


def enterprises(*arguments: str) -> tuple[int, str, str]:
    """Run the command; return its exit code, standard output and standard error."""
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def not_named(text: str) -> Sequence[str]:
    """Return the columns and tables left behind that a text does not name."""
    flat = " ".join(text.split())
    return [name for name in (*COLUMNS, *REFERRING) if name not in flat]


@pytest.mark.usefixtures("others")
def test_a_verdict_covers_only_the_columns_that_were_moved() -> None:
    """Proven must not imply that the whole table is in DynamoDB."""
    report = pipeline.migrate(MigrateOptions())
    reconciled = pipeline.reconcile()

    assert report.verdict.startswith(
        "Proven: 5 of 5 rows proven equal in 4 of 8 columns, at"
    )
    assert reconciled.verdict.startswith(
        "Clean: 5 of 5 rows proven equal in 4 of 8 columns, at"
    )


@pytest.mark.usefixtures("source")
def test_a_table_that_is_moved_whole_is_proven_without_a_reservation() -> None:
    """If nothing stays behind, the report does not mention it."""
    report = pipeline.migrate(MigrateOptions())

    assert "columns" not in report.verdict
    assert "Left behind" not in str(report)


@pytest.mark.usefixtures("others")
def test_reports_name_what_stays_behind() -> None:
    """The signer sees the columns and tables in each form of the report."""
    report = pipeline.migrate(MigrateOptions())
    reconciled = pipeline.reconcile()

    for one in (report, reconciled):
        page = Path(one.asdict()["files"]["report"])
        first_screen = page.read_text("utf-8").split("<h2>")[0].replace("&#34;", '"')
        markdown = page.with_suffix(".md").read_text("utf-8")
        assert not_named(first_screen) == []
        assert not_named(markdown) == []
        assert "enterprises mapping init" in markdown
        assert not_named(str(one)) == []
    for values in (report.asdict()["source"], reconciled.asdict()):
        assert values["columns_not_migrated"] == list(COLUMNS)
        assert values["referring_tables"] == list(REFERRING)


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    "arguments",
    [("plan",), ("migrate", "--dry-run"), ("migrate", "--no-prefect"), ("reconcile",)],
    ids=" ".join,
)
def test_the_terminal_names_what_stays_behind(arguments: tuple[str, ...]) -> None:
    """Before and after a run, it is visible without opening a file."""
    if arguments == ("reconcile",):
        pipeline.migrate(MigrateOptions())

    code, shown, _ = enterprises(*arguments)

    assert code == 0
    assert not_named(shown) == []


@pytest.mark.usefixtures("others")
def test_a_plan_tells_programs_what_stays_behind() -> None:
    """A schedule that plans first can refuse the run because of it."""
    source = plan_migration().asdict()["source"]

    assert source["columns_not_migrated"] == list(COLUMNS)
    assert source["referring_tables"] == list(REFERRING)


@pytest.mark.usefixtures("others")
def test_the_doctor_warns_of_what_stays_behind() -> None:
    """The warning is known before the first run, and blocks none."""
    (line,) = [f for f in examine().findings if f.check == "table and columns"]

    assert line.status == "warn"
    assert not_named(line.found) == []
    assert "mapping init" in line.remedy


@pytest.mark.usefixtures("others")
def test_a_table_that_comes_to_refer_to_the_source_makes_no_other_migration(
    source: str,
) -> None:
    """A foreign key elsewhere must not separate a run from earlier ones."""
    first = pipeline.migrate(MigrateOptions())
    with closing(psycopg2.connect(source)) as connection, connection:
        connection.cursor().execute("DROP TABLE sales.visits")

    second = pipeline.migrate(MigrateOptions(since="last"))

    assert (first.status, second.status) == ("proven", "proven")
