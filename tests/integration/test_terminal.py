"""What people see: commands on a terminal of 80 columns."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from flows.doctor.diagnosis import Status
from flows.settings import load_settings
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import open_table
from tests.support.terminal import CTRL_C, Terminal

ROWS = """
CREATE TABLE enterprises (id int PRIMARY KEY, name text, created_at timestamptz,
    updated_at timestamptz);
INSERT INTO enterprises SELECT n, 'Name ' || n, now(), now()
    FROM generate_series(1, 40) AS n;
"""


@pytest.fixture(autouse=True)
def stores(
    database_url: str,
    moto_endpoint: str,
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Configure a source of 40 rows and an empty table in the environment."""
    change(database_url, ROWS)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DYNAMODB_ENDPOINT", moto_endpoint)
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)
    create_table(open_table(load_settings()))


def change(url: str, statement: str) -> None:
    """Run a statement in the source."""
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute(statement)


def lines_of(terminal: Terminal) -> list[str]:
    """Return the lines that are left, without empty ones."""
    return [line for line in terminal.screen.history if line]


@pytest.fixture
def moved() -> Iterator[list[str]]:
    """Migrate on a terminal; yield its lines."""
    with Terminal("migrate", "--no-prefect") as terminal:
        assert terminal.wait(60) == 0
        for phase in ("Starting", "Moving"):
            assert f"{phase}" in terminal.received
        yield lines_of(terminal)


def test_the_verdict_comes_first_and_fits(moved: list[str]) -> None:
    """A proven run shows verdict, next step, counts that are not zero, and files."""
    assert moved[0].startswith("Proven: 40 of 40 rows proven equal")
    step = next(n for n, line in enumerate(moved) if line.startswith("Next: "))
    files = moved.index("Files:")
    counts = " ".join(moved[step:files])
    assert "read 40, written 40" in counts
    assert " 0" not in counts
    assert "Seconds" not in counts
    assert max(map(len, moved)) <= 80


@pytest.mark.usefixtures("moved")
def test_differences_are_shown_field_by_field(database_url: str) -> None:
    """The first five keys show source against target, with escaped values."""
    change(
        database_url,
        "UPDATE enterprises SET name = E'New\\x1b[2J' || repeat('x', 99) WHERE id <= 9",
    )

    with Terminal("reconcile") as terminal:
        assert terminal.wait(60) == 3
        lines = lines_of(terminal)

    assert lines[0].startswith("Different: 9 mismatched")
    assert "  enterprises reconcile --repair" in lines
    shown = [line for line in lines if "enterprise_name" in line]
    assert len(shown) == 5
    assert all(line.split()[0] == "mismatched" for line in shown)
    assert all(line.split()[1].isdigit() for line in shown)
    assert "New\\x1b[2Jx" in shown[0]
    assert "Name " in shown[0]
    assert max(map(len, lines)) <= 80


@pytest.mark.usefixtures("moved")
def test_a_planned_repair_says_what_writes_it(database_url: str) -> None:
    """Without --yes nothing is written; what is left needs another option."""
    change(database_url, "DELETE FROM enterprises WHERE id = 1")
    change(database_url, "UPDATE enterprises SET name = 'New' WHERE id = 2")

    with Terminal("reconcile", "--repair") as terminal:
        assert terminal.wait(60) == 3
        lines = lines_of(terminal)

    said = " ".join(lines)
    assert "Items without a row are deleted only with --delete-extra." in said
    assert "Nothing was written. --yes makes 1 change:" in said
    assert "  enterprises reconcile --repair --yes" in lines


def dry_run(allowed: str) -> list[str]:
    """Check a run on a terminal; return its lines."""
    with Terminal("migrate", "--dry-run", "--allow-quarantined", allowed) as terminal:
        assert terminal.wait(60) == 0
        return lines_of(terminal)


def test_a_dry_run_says_what_was_checked() -> None:
    """It must say that nothing was written, and print the command that runs it."""
    lines = dry_run("7")

    assert "nothing was written" in " ".join(lines)
    assert "  enterprises migrate --allow-quarantined 7" in lines


def test_a_dry_run_of_bad_rows_says_how_many_are_not_allowed(database_url: str) -> None:
    """If more rows are bad than are allowed, the next step must be to look at them."""
    change(database_url, "UPDATE enterprises SET name = ' ' WHERE id <= 5")

    lines = dry_run("4")

    said = " ".join(lines)
    assert "5 rows would be put in quarantine, more than are allowed." in said
    assert "  enterprises validate" in lines
    assert "nothing was written" in said


def test_bad_rows_are_named_by_their_ids(database_url: str) -> None:
    """Each reason has the ids of three of its rows."""
    change(database_url, "UPDATE enterprises SET name = ' ' WHERE id <= 5")

    with Terminal("validate") as terminal:
        assert terminal.wait(60) == 3
        lines = lines_of(terminal)

    assert "  name_blank: source ids 1, 2, 3" in lines
    assert "  enterprises migrate --allow-quarantined 5" in lines


def test_ctrl_c_names_the_run_to_resume() -> None:
    """An interrupted run leaves no progress on the screen, and says how to resume."""
    options = ["--no-prefect", "--partition-rows", "1", "--max-write-units", "1"]
    with Terminal("migrate", *options) as terminal:
        terminal.wait_for("Moving: ", 60)
        terminal.wait_for("waits for the write cap", 60)
        terminal.send(CTRL_C)
        assert terminal.wait(30) == 130
        lines = lines_of(terminal)

    assert not [line for line in lines if line.startswith("Moving")]
    (resume,) = [line for line in lines if line.startswith("Resume with: ")]
    assert "enterprises migrate --resume " in resume


def test_findings_are_filled_below_each_other() -> None:
    """Findings are filled below their beginning; a command to copy is not broken."""
    with Terminal("doctor") as terminal:
        assert terminal.wait(60) in {0, 2}
        lines = lines_of(terminal)

    started = [line for line in lines if line.split(maxsplit=1)[0] in set(Status)]
    assert len(started) > 5
    assert max(map(len, started)) <= 80
    assert "         -> aws dynamodb update-continuous-backups" in "\n".join(lines)
