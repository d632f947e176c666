"""``enterprises runs`` and ``quarantine show``: what is known of past runs."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli.app import app
from flows.settings import load_settings
from flows.state.runs import State
from tests.support.source_database import TABLE, SourceDatabase
from tests.support.terminal import Terminal

# Names that are hostile to a terminal, a spreadsheet and a table.
ROWS = r"""
INSERT INTO enterprises VALUES
    (1, 'Acme', now(), now()),
    (2, '   ', '2024-01-05 12:34:56.789999Z', NULL),
    (3, E'\x1b[31m=2+3 [bold]' || repeat('x', 300000), '2024-01-05Z', NULL),
    (4, NULL, 'infinity', NULL)
"""


@pytest.fixture
def stores(
    database_url: str,
    moto_endpoint: str,
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> SourceDatabase:
    """Fill a source, create a table, and name both in the environment."""
    source = SourceDatabase(database_url)
    source.run(TABLE, ROWS)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DYNAMODB_ENDPOINT", moto_endpoint)
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)
    run("create-table")
    return source


def run(*arguments: str, code: int = 0) -> Result:
    """Run a command in this process."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def as_json(*arguments: str, code: int = 0) -> Any:
    """Run a command in this process; return its JSON."""
    return json.loads(run(*arguments, "--json", code=code).stdout)


@pytest.mark.usefixtures("stores")
def test_past_runs_are_listed_shown_and_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state must give back what each run ended with, and where its files are."""
    empty = as_json("runs", "list")
    migrated = as_json("migrate", "--no-prefect", "--run-id", "one", code=3)
    run("reconcile", code=3)
    listed = as_json("runs", "list")
    text = run("runs", "list").stdout.splitlines()
    last, one = as_json("runs", "show"), as_json("runs", "show", "one")
    there = [Path(path).is_file() for path in one["run"]["files"].values()]
    opened_file = tmp_path / "opened"
    script = tmp_path / "browser"
    script.write_text('#!/bin/sh\nprintf %s "$1" > opened\n')
    script.chmod(0o700)
    monkeypatch.setenv("BROWSER", f"{script} %s")
    monkeypatch.setattr("webbrowser._tryorder", None)
    opened = as_json("runs", "open", "one")
    report = Path(migrated["files"]["report"]).absolute()
    report.unlink()
    gone = as_json("runs", "open", "one", code=2)
    missing = as_json("runs", "show", "two", code=2)

    assert empty == {"status": "listed", "runs": [], "next": None}
    reconciled, first = listed["runs"]
    assert (first["run_id"], first["kind"], first["mode"]) == ("one", "run", "full")
    assert (first["status"], first["verdict"]) == ("unproven", migrated["statement"])
    assert (first["rows"], first["written"], first["quarantined"]) == (4, 1, 3)
    assert first["seconds"] == migrated["seconds"]["total"]
    assert first["begun"] < first["ended"] <= reconciled["ended"]
    assert reconciled["kind"] == "reconciliation"
    table = load_settings().dynamodb_enterprise_table
    assert {first["table"], reconciled["table"]} == {table}
    assert (reconciled["rows"], reconciled["quarantined"]) == (4, 3)
    assert len(text) == 4
    assert max(map(len, text)) <= 80
    assert "4 rows, 1 written, 3 quarantined" in text[3]
    assert text[1].endswith(table)
    assert last["run"]["run_id"] == reconciled["run_id"]
    assert one["run"]["report"]["ledger"] == migrated["ledger"]
    assert one["run"]["resume"] == "enterprises migrate --resume one"
    assert one["next"] == "enterprises quarantine show one"
    assert there == [True] * len(one["run"]["files"])
    assert {"report.html", "report.json", "quarantine.csv"} <= set(one["run"]["files"])
    assert (opened["status"], opened["file"]) == ("opened", str(report))
    assert opened_file.read_text() == report.as_uri()
    assert f"The report of one is gone: {report}" in gone["error"]["message"]
    assert "no run two" in missing["error"]["message"]


@pytest.mark.usefixtures("stores")
def test_a_run_that_died_can_be_shown_and_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a report, the state still shows the start, and how to resume."""
    State.open(load_settings()).start_run("dead", {"target": ["T", "r", "e"]})
    State.open(load_settings()).start_run("again", {})
    State.open(load_settings()).record_replay("again", "dead")
    monkeypatch.setattr("webbrowser.open", lambda _: False)

    shown, replay = as_json("runs", "show", "dead"), as_json("runs", "show", "again")
    text = run("runs", "show", "dead").stdout
    never = as_json("runs", "open", "dead", code=2)
    folder = load_settings().runs_dir / "dead"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("there")
    unopened = run("runs", "open", "dead")

    assert shown["run"]["status"] == "running"
    assert shown["next"] == "enterprises migrate --resume dead"
    assert replay["next"] == "enterprises quarantine replay dead"
    assert "Resume  enterprises migrate --resume dead" in text
    assert "was never written" in never["error"]["message"]
    assert unopened.stdout == f"{(folder / 'report.html').absolute()}\n"
    assert "There is no browser here" in unopened.stderr


@pytest.mark.usefixtures("stores")
def test_the_quarantine_is_a_table_on_a_terminal() -> None:
    """At 80 columns each row must show its reasons and values, and nothing may act."""
    run("migrate", "--no-prefect", "--run-id", "one", code=3)
    with Terminal("quarantine", "show", "one", lines=60) as terminal:
        code = terminal.wait()
        lines = [line.rstrip() for line in terminal.screen.history]

    assert code == 0
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["source", "id", "reasons", "values"]
    (second,) = [line for line in lines if line.startswith("2 ")]
    assert second.split(maxsplit=2) == ["2", "name_blank", "name '   '"]
    assert any(
        line.strip() == "created 2024-01-05 12:34:56.789999+00" for line in lines
    )
    assert any("name '\\x1b[31m=2+3" in line for line in lines)
    assert any("[bold]xxx" in line for line in lines)
    assert "\x1b[31m" not in terminal.received
    assert len(lines) < 30


@pytest.mark.usefixtures("stores")
def test_the_quarantine_is_printed_as_csv() -> None:
    """It must be the file of the run, with its guard against formulas."""
    migrated = as_json("migrate", "--no-prefect", "--run-id", "one", code=3)

    printed = run("quarantine", "show", "--csv").stdout
    some = run("quarantine", "show", "--csv", "--id", "4").stdout
    both = as_json("quarantine", "show", "--csv", code=2)

    assert printed == Path(migrated["files"]["quarantine"]).read_text()
    (only,) = csv.DictReader(some.splitlines())
    assert (only["source_id"], only["created_date"]) == ("4", "infinity")
    assert "--csv and --json" in both["error"]["message"]
