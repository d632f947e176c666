"""The command: what it refuses, what it prints, and its exit codes."""

import json
import os
import pty
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.options import prefect_is_configured
from flows.demo.stores import use_own_prefect
from flows.settings import load_settings
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import open_table

COMMANDS = (
    "demo",
    "migrate",
    "validate",
    "reconcile",
    "create-table",
    "serve",
    "iam-policy",
    "doctor",
    "plan",
)
PASSWORD = "c4nary-pässword"


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments))


def refusal(*arguments: str) -> dict[str, str]:
    """Run a command that must refuse; return the error of its JSON."""
    result = run(*arguments, "--json")

    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert PASSWORD not in result.output
    values = json.loads(result.stdout)
    assert values["status"] == "refused"
    assert set(values["error"]) == {"code", "message", "remedy"}
    error: dict[str, str] = values["error"]
    return error


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command: str) -> None:
    """Each command must have a help text and the option --json."""
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "--json" in result.output


def test_a_missing_source_is_named_with_its_variable() -> None:
    """Without a source the error must name the variable to set."""
    error = refusal("migrate", "--set", "AWS_REGION=eu-west-1")

    assert error["code"] == "SettingsError"
    assert "DATABASE_URL is not set" in error["message"]
    assert "postgresql://" in error["remedy"]


def test_a_missing_region_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region the table is ambiguous."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://localhost/x")

    assert "AWS_REGION is not set" in refusal("migrate")["message"]


def test_an_unknown_storage_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mode that does not exist must never fall back to a default."""
    monkeypatch.setenv("STORAGE_MODE", "dynamo")

    error = refusal("reconcile")

    assert "STORAGE_MODE" in error["message"]
    assert "'postgres' or 'dynamodb'" in error["message"]


def test_an_unreachable_database_is_named_without_its_password(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message must name host, port, database and user, and no secret."""
    url = f"postgresql://ana:{PASSWORD}@127.0.0.1:{closed_port}/shop"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    error = refusal("migrate")

    assert f"127.0.0.1:{closed_port}, database shop, user ana" in error["message"]


def test_an_unreachable_endpoint_is_named(
    database_url: str, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DynamoDB that does not answer is refused within seconds, with its address."""
    _fill(database_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DYNAMODB_ENDPOINT", f"http://127.0.0.1:{closed_port}")

    error = refusal("migrate")

    assert f"http://127.0.0.1:{closed_port}" in error["message"]
    assert "DYNAMODB_ENDPOINT" in error["remedy"]


def test_a_missing_table_names_the_command_that_makes_it(
    database_url: str, endpoint: str, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing table is refused; create-table creates it, once only."""
    _fill(database_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DYNAMODB_ENDPOINT", endpoint)
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)

    error = refusal("migrate")
    made = json.loads(run("create-table", "--json").stdout)
    again = json.loads(run("create-table", "--json").stdout)

    assert table_name in error["message"]
    assert "enterprises create-table" in error["remedy"]
    assert (made["status"], again["status"]) == ("created", "exists")


def test_migrate_reconcile_and_validate_agree(
    database_url: str, endpoint: str, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three commands must end with the exit code and JSON of their verdicts."""
    _fill(database_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DYNAMODB_ENDPOINT", endpoint)
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)
    run("create-table")

    valid = run("validate", "--json")
    migrated = run("migrate", "--no-prefect", "--json")
    reconciled = run("reconcile", "--json")

    assert json.loads(valid.stdout)["status"] == "valid"
    values = json.loads(migrated.stdout)
    assert (migrated.exit_code, values["status"]) == (0, "proven")
    assert values["ledger"]["written"] == 2
    assert Path(values["files"]["report"]).is_file()
    found = json.loads(reconciled.stdout)
    assert (reconciled.exit_code, found["status"]) == (0, "clean")
    assert found["matched"] == found["source_rows"] == found["target_items"] == 2
    assert values["next"] is found["next"] is None
    assert json.loads(valid.stdout)["next"] == "enterprises plan"
    assert Path(found["files"]["differences_csv"]).is_file()


@pytest.fixture
def filled(
    database_url: str,
    moto_endpoint: str,
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Configure a filled source and an empty table in the environment."""
    _fill(database_url)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DYNAMODB_ENDPOINT", moto_endpoint)
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)
    run("create-table")


@pytest.mark.usefixtures("filled")
def test_the_cutover_is_declared_shown_and_revoked() -> None:
    """Once declared, migrate is refused with the marker's time until it is revoked."""
    asked = run("cutover", "declare")
    declared = json.loads(run("cutover", "declare", "--yes", "--json").stdout)
    shown = json.loads(run("cutover", "status", "--json").stdout)
    error = refusal("migrate", "--no-prefect")
    unasked = run("cutover", "revoke", "--json")
    still = json.loads(run("cutover", "status", "--json").stdout)
    revoked = run("cutover", "revoke", "--yes")

    assert asked.exit_code == unasked.exit_code == 2
    assert "--yes" in json.loads(unasked.stdout)["error"]["remedy"]
    assert still["status"] == "declared"
    assert declared["status"] == shown["status"] == "declared"
    assert declared["declared_at"] == shown["declared_at"]
    assert error["code"] == "CutoverDeclared"
    assert declared["declared_at"] in error["message"]
    assert "--after-cutover" in error["remedy"]
    assert revoked.stdout == "The cutover is revoked.\n"
    assert json.loads(run("cutover", "status", "--json").stdout)["declared_at"] is None


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("answer", "state"), [("n", "declared"), ("y", "revoked")])
def test_a_revocation_is_asked_for_on_a_terminal(answer: str, state: str) -> None:
    """A typing mistake must not let runs overwrite the application's items."""
    run("cutover", "declare", "--yes")
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "flows.cli", "cutover", "revoke"],
        stdin=terminal,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(terminal)
    os.close(keyboard)

    left = json.loads(run("cutover", "status", "--json").stdout)["status"]
    assert "Revoke the cutover of table Test-" in done.stderr
    assert done.returncode == (0 if state == "revoked" else 2)
    assert left == ("not declared" if state == "revoked" else "declared")


@pytest.mark.usefixtures("filled")
def test_two_who_declare_the_cutover_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second process must not mistake the lease of the first for its lease."""
    held: list[Lease] = []

    def hold(_: object, lease: Lease) -> dict[str, str]:
        lease.acquire()
        held.append(lease)
        return {"declared_at": "soon"}

    monkeypatch.setenv("LEASE_SECONDS", "300")
    with monkeypatch.context() as patch:
        patch.setattr("flows.stores.dynamodb.cutover_marker.declare_cutover", hold)
        run("cutover", "declare", "--yes")

    second = run("cutover", "declare", "--yes", "--json")

    assert held[0]._seconds == 300
    assert (second.exit_code, json.loads(second.stdout)["status"]) == (5, "refused")


@pytest.mark.usefixtures("filled")
def test_a_held_lease_ends_with_five() -> None:
    """Another active run causes exit 5, and the JSON names the holder."""
    lease = Lease(open_table(load_settings()), "nightly@host:1", 30)
    lease.acquire()

    result = run("migrate", "--no-prefect", "--json")
    lease.release()

    values = json.loads(result.stdout)
    error = values["error"]
    assert (result.exit_code, values["next"]) == (5, "enterprises status")
    assert error["code"] == "LeaseHeld"
    assert "nightly@host:1" in error["message"]


def test_an_unproven_run_ends_with_three(
    database_url: str,
    moto_endpoint: str,
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row in quarantine that was not allowed causes exit 3, with and without JSON."""
    _fill(database_url, name=" ")
    # One row is equal to its item: without any, nothing is proven.
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.cursor().execute(
            "INSERT INTO enterprises VALUES (3, 'Good', now(), now())"
        )
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("DYNAMODB_ENDPOINT", moto_endpoint)
    monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", table_name)
    run("create-table")

    result = run("migrate", "--no-prefect")
    allowed = run("migrate", "--no-prefect", "--allow-quarantined", "2")

    assert result.exit_code == 3
    assert "Unproven: 2 rows are in quarantine, 0 allowed" in result.stdout
    assert allowed.exit_code == 0
    assert run("validate", "--json").exit_code == 3


@pytest.mark.usefixtures("filled")
def test_what_is_not_proven_names_the_next_command(database_url: str) -> None:
    """The next command must show the cause, and use the settings of this one."""
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.cursor().execute("UPDATE enterprises SET name = ' ' WHERE id = 1")
    setting = ["--set", "SOURCE_ID_COLUMN=id"]

    unproven = json.loads(run("migrate", "--no-prefect", "--json", *setting).stdout)
    with closing(psycopg2.connect(database_url)) as connection, connection:
        connection.cursor().execute("UPDATE enterprises SET name = 'New' WHERE id = 2")
    different = json.loads(run("reconcile", "--json").stdout)
    planned = json.loads(run("reconcile", "--repair", "--json").stdout)
    sampled = json.loads(run("reconcile", "--sample", "1", "--json").stdout)

    of_run = f"enterprises quarantine show {unproven['run_id']}"
    assert unproven["next"] == f"{of_run} --set SOURCE_ID_COLUMN=id"
    assert different["next"] == "enterprises reconcile --repair"
    assert planned["status"] == "different"
    assert planned["next"] == "enterprises reconcile --repair --yes"
    assert sampled["next"] == "enterprises reconcile"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("SOURCE_TABEL=x", "there is no such setting"),
        ("DATABASE_URL=postgresql://x", "a secret is not accepted"),
        ("AWS_SECRET_ACCESS_KEY=x", "a secret is not accepted"),
    ],
)
def test_settings_of_the_command_line_are_checked(pair: str, message: str) -> None:
    """A misspelled setting and a secret in the process list are both refused."""
    assert message in refusal("migrate", "--set", pair)["message"]


def test_settings_of_the_command_line_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """--set must override the environment."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/x")
    monkeypatch.setenv("DYNAMODB_ENDPOINT", "http://10.0.0.1:8000")

    error = refusal("migrate", "--set", "DYNAMODB_ENDPOINT=http://127.0.0.1:8000")

    assert "PostgreSQL at 127.0.0.1:1" in error["message"]


def test_clear_text_off_loopback_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An http:// endpoint on another machine would send the data in clear text."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/x")
    monkeypatch.setenv("DYNAMODB_ENDPOINT", "http://10.0.0.1:8000")

    error = refusal("create-table")

    assert "http://10.0.0.1:8000 would send the data in clear text" in error["message"]
    assert "--allow-insecure-endpoint" in error["remedy"]


@pytest.mark.parametrize("run_id", ["a/b", "../x", "", "x" * 65])
def test_a_run_id_cannot_leave_its_folder(run_id: str) -> None:
    """A run's name becomes a folder, so it must not contain a path."""
    assert "--run-id" in refusal("migrate", "--run-id", run_id)["message"]


def test_a_fault_of_the_program_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An internal error ends with 1, and a file to report that contains no value."""

    def fail(**_: object) -> None:
        raise RuntimeError(PASSWORD)

    monkeypatch.setattr("flows.pipeline.reconcile", fail)

    result = run("reconcile")

    assert result.exit_code == 1
    assert "Internal error (RuntimeError)" in result.stderr
    file = Path(result.stderr.split("Please report it with ")[1].strip().rstrip("."))
    text = file.read_text("utf-8")
    file.unlink()
    assert "in fail" in text
    assert PASSWORD not in text + result.output


def test_a_fault_of_the_program_is_told_where_nothing_can_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If there is no room for the file, no traceback may replace it."""

    def fail(**_: object) -> None:
        raise RuntimeError(PASSWORD)

    monkeypatch.setattr("flows.pipeline.reconcile", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    result = run("reconcile")

    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "its traceback could not be written" in result.stderr
    assert PASSWORD not in result.output


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ("", False),
        ('active = "local"\n[profiles.local]\n', False),
        (
            'active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "http://x/api"\n',
            True,
        ),
        ("not toml", False),
    ],
)
def test_a_configured_prefect_is_found_without_importing_it(
    profiles: str, *, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API in the active profile turns migrate into a flow; nothing else does."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    (tmp_path / "profiles.toml").write_text(profiles, "utf-8")

    assert prefect_is_configured() is expected
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    assert prefect_is_configured() is True


def test_a_first_flow_in_a_terminal_is_tracked_by_nobody(tmp_path: Path) -> None:
    """In a terminal, Prefect's client announces what it collects; a thread sends it.

    The server that it starts must collect nothing either, and has two minutes to start.
    """
    reader, terminal = pty.openpty()
    # Not the environment of this machine: in tests, Prefect collects nothing anyway.
    environment = {"PATH": os.environ["PATH"], "PREFECT_HOME": str(tmp_path)}
    code = (
        f"import sys, threading; sys.path[:0] = {sys.path}\n"
        "import flows.prefect_flows\n"
        "from prefect.settings import get_current_settings\n"
        "server = get_current_settings().server\n"
        "print(server.analytics_enabled, server.ephemeral.startup_timeout_seconds)\n"
        "print(*(t.name for t in threading.enumerate()))"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        stdout=terminal,
        stderr=terminal,
        check=True,
    )
    os.close(terminal)
    said = os.read(reader, 100_000)
    os.close(reader)

    assert said == b"False 120\r\nMainThread\r\n"


def test_the_demos_prefect_is_its_own_and_closed_to_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Anyone can read the database that Prefect creates: its folder must be private."""
    theirs = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_HOME")
    for name in theirs:
        monkeypatch.setenv(name, "theirs")

    use_own_prefect()

    home = Path(os.environ["PREFECT_HOME"])
    assert home.is_relative_to(tmp_path)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert [name for name in theirs if os.environ.get(name) == "theirs"] == []


def _fill(url: str, name: str = "Acme") -> None:
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute(
            "CREATE TABLE enterprises (id int PRIMARY KEY, name text, created_at"
            " timestamptz, updated_at timestamptz);"
            "INSERT INTO enterprises SELECT n, %s, now(), now()"
            " FROM generate_series(1, 2) AS n",
            [name],
        )


@pytest.mark.parametrize(
    "arguments",
    [("--yes",), ("--delete-extra",), ("--repair", "--sample", "5")],
)
def test_options_of_a_repair_need_one(arguments: tuple[str, ...]) -> None:
    """An option of a repair without a repair must be refused, not ignored."""
    result = run("reconcile", *arguments)

    assert result.exit_code == 2
    assert "--repair" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "helped"),
    [
        (["migrate", "--nosuch"], "migrate"),
        (["migrate", "--partition-rows", "x"], "migrate"),
        (["quarantine", "show", "a", "b"], "quarantine show"),
        (["cutover", "nosuch"], "cutover"),
    ],
)
def test_a_wrong_argument_is_refused_for_programs_too(
    arguments: list[str], helped: str
) -> None:
    """With --json the error must be the one object, and name the help to read."""
    plain, result = run(*arguments), run(*arguments, "--json")

    values = json.loads(result.stdout)
    assert (plain.exit_code, plain.stdout, result.exit_code) == (2, "", 2)
    assert values["error"].pop("message") in " ".join(result.stderr.split())
    assert values == {
        "status": "refused",
        "error": {"code": "UsageError", "remedy": f"See: enterprises {helped} --help"},
        "next": f"enterprises {helped} --help",
    }


def test_a_fault_of_the_program_is_an_object_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A calling program must get an object even after an internal error."""

    def fail(**_: object) -> None:
        raise KeyError(PASSWORD)

    monkeypatch.setattr("flows.pipeline.reconcile", fail)

    result = run("reconcile", "--json")

    values = json.loads(result.stdout)
    Path(values["error"]["remedy"].split(" with ")[1].rstrip(".")).unlink()
    assert (result.exit_code, values["status"], values["next"]) == (1, "failed", None)
    assert values["error"]["code"] == "KeyError"
    assert PASSWORD not in result.output


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("folder", ["~/runs", "runs:2024", "a/~/runs"])
def test_files_are_written_to_any_folder(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No library may misinterpret a part of a path after the load."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNS_DIR", folder)
    monkeypatch.setenv("STATE_URL", f"sqlite:///{folder}/state.db")

    migrated = run("migrate", "--no-prefect", "--json")
    reconciled = run("reconcile", "--json")

    place = tmp_path / folder.replace("~/", "home/" if folder[0] == "~" else "~/")
    values, found = json.loads(migrated.stdout), json.loads(reconciled.stdout)
    assert (values["status"], found["status"]) == ("proven", "clean"), migrated.output
    folders = [place / values["run_id"], Path(found["files"]["differences"]).parent]
    assert {path.suffix for path in folders[0].iterdir()} >= {".parquet", ".html"}
    assert (tmp_path / folders[1]).is_relative_to(place)
    assert (place / "state.db").is_file()


def test_the_demo_says_at_once_that_its_extra_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error must come before Prefect's server starts, and name no package index."""

    def start() -> None:
        pytest.fail("Prefect was started")

    monkeypatch.setitem(sys.modules, "moto", None)
    monkeypatch.setattr("flows.cli.demo.start_prefect", start)
    # The demo sets this variable for its own process.
    monkeypatch.setenv("PREFECT_HOME", os.environ["PREFECT_HOME"])

    error = refusal("demo")

    assert "not installed (moto)" in error["message"]
    assert "extra `embedded`" in error["remedy"]
    assert "pip install" not in error["remedy"]
