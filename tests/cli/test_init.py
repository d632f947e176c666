"""``enterprises init``: questions on a terminal, answers on the command line."""

import json
import stat
from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn
from typer.testing import CliRunner

from flows.cli.app import app
from flows.settings import load_settings
from tests.support.source_database import (
    SourceDatabase,
    await_refusal,
    demanding_password,
    new_role,
)
from tests.support.terminal import CTRL_C, CTRL_D, Terminal

PASSWORD = "it's a $ecret\\"
# Two columns may be the name, the times have no zone, and one column is of no use.
TABLE = """
CREATE TABLE shop.companies (
    id bigint PRIMARY KEY, enterprise_name text, name text, created_at timestamp,
    updated_at timestamp, notes text)
"""


@pytest.fixture
def source(database_url: str) -> SourceDatabase:
    """Create a table that needs answers."""
    database = SourceDatabase(database_url)
    database.run(
        "CREATE SCHEMA shop",
        TABLE,
        "CREATE TABLE shop.orders (id int, company bigint REFERENCES shop.companies)",
    )
    return database


def invoke(*arguments: str, typed: str | None = None) -> tuple[int, dict[str, object]]:
    """Run init in this process, without a terminal; return its exit code and JSON."""
    done = CliRunner().invoke(app, ["init", *arguments, "--json"], input=typed)
    assert "Traceback" not in done.output
    values: dict[str, object] = json.loads(done.stdout)
    return done.exit_code, values


def error_of(*arguments: str, typed: str | None = None) -> dict[str, str]:
    """Run init, which must refuse; return its error."""
    code, values = invoke(*arguments, typed=typed)
    assert (code, values["status"]) == (2, "refused")
    error: dict[str, str] = values["error"]  # type: ignore[assignment]
    return error


def test_the_questions_lead_to_a_file_that_works(
    source: SourceDatabase, moto_endpoint: str, table_name: str, tmp_path: Path
) -> None:
    """What is answered on a terminal must be tried, shown, and written for the owner.

    The password must not appear on the screen, and what is unclear must be asked.
    """
    parts = parse_dsn(source.url)
    with Terminal("init", folder=tmp_path) as terminal:
        terminal.answer("Database URL, or Enter")
        terminal.answer("Host [localhost]", parts["host"])
        terminal.answer("Port [5432]", parts.get("port", ""))
        terminal.answer("Database", parts["dbname"])
        terminal.answer("User", parts["user"])
        terminal.answer("Password", PASSWORD, hidden=True)
        terminal.answer("Source table [public.enterprises]", "shop.companies")
        terminal.answer("Column with the name (enterprise_name, name)", "name")
        terminal.answer("Time zone", "Europe/Nowhere")
        terminal.wait_for("'Europe/Nowhere' is not known to PostgreSQL")
        terminal.answer("Source table [shop.companies]")
        terminal.answer("[name]")
        terminal.answer("e.g. Europe/Paris", "Europe/Paris")
        terminal.answer("DynamoDB endpoint", moto_endpoint)
        terminal.answer("AWS region [us-east-1]")
        terminal.answer("DynamoDB table [EnterpriseConfig]", table_name)
        code = terminal.wait()
        lines = [line.split() for line in terminal.text.splitlines()]

    assert code == 0
    assert PASSWORD not in terminal.received
    assert "WARNING" not in terminal.text
    for row in ("name text name", "updated_at timestamp updated"):
        assert row.split() in lines
    for left in ("enterprise_name", "notes"):
        assert [left, "text", "left", "behind"] in lines
    assert "Refer to it: shop.orders (company)" in terminal.text
    assert "ok       PostgreSQL" in terminal.text
    assert lines[-1] == ["Next:", "enterprises", "create-table"]
    assert max(map(len, terminal.screen.history)) <= 80
    file = tmp_path / ".env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "env" in path.name] == [".env"]
    settings = load_settings()
    assert settings.pgpassword is not None
    assert settings.pgpassword.get_secret_value() == PASSWORD
    assert settings.source_arguments()["dbname"] == parts["dbname"]
    assert settings.source_table == "shop.companies"
    assert settings.source_name_column == "name"
    assert settings.source_timezone == "Europe/Paris"
    assert settings.dynamodb_enterprise_table == table_name


def test_nothing_is_written_before_the_connection_works(
    closed_port: int, tmp_path: Path
) -> None:
    """A database that does not answer is asked for again; Ctrl-C leaves nothing."""
    with Terminal("init", folder=tmp_path) as terminal:
        terminal.answer("Database URL", f"postgresql://ana@127.0.0.1:{closed_port}/app")
        terminal.answer("Password (hidden, Enter for none)", hidden=True)
        terminal.wait_for("cannot be reached")
        terminal.answer("Database URL, or Enter to give its parts")
        terminal.wait_for("Host [localhost]")
        terminal.send(CTRL_C)
        code = terminal.wait()

    assert code == 130
    assert "enterprises: interrupted." in terminal.text
    assert "Traceback" not in terminal.text
    assert list(tmp_path.iterdir()) == []


def test_a_password_that_is_missing_is_asked_for(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that the environment names without it must need no other answer."""
    database = SourceDatabase(database_url)
    with new_role(database) as role, demanding_password(database, role):
        monkeypatch.setenv("DATABASE_URL", database.as_user(role).url)
        await_refusal(database.as_user(role))
        with Terminal("init", folder=tmp_path) as terminal:
            terminal.wait_for("no password supplied")
            terminal.answer("Password (hidden", "wrong", hidden=True)
            terminal.wait_for("password authentication failed")
            terminal.answer("Password (hidden", "right", hidden=True)
            terminal.wait_for("Source table [public.enterprises]")
            terminal.send(CTRL_D)
            code = terminal.wait()

    assert code == 130
    assert list(tmp_path.iterdir()) == []


def test_the_answers_may_be_on_the_command_line(
    source: SourceDatabase,
    moto_endpoint: str,
    table_name: str,
    tmp_path: Path,
) -> None:
    """Without a terminal the same file is written, once; JSON names its settings."""
    answers = [
        "--set",
        "SOURCE_TABLE=shop.companies",
        "--set",
        f"DYNAMODB_ENDPOINT={moto_endpoint}",
        "--set",
        f"DYNAMODB_ENTERPRISE_TABLE={table_name}",
    ]
    url = ["--database-url", source.url]

    unclear = error_of(*url, *answers)
    answers += ["--set", "SOURCE_NAME_COLUMN=name"]
    zoneless = error_of(*url, *answers)
    answers += ["--set", "SOURCE_TIMEZONE=UTC", "--set", "SENDERS=4"]
    written_before = list(tmp_path.iterdir())
    code, values = invoke(*url, *answers)
    again = error_of(*url, *answers)

    assert "Both enterprise_name and name may be the name column" in unclear["message"]
    assert "SOURCE_NAME_COLUMN" in unclear["remedy"]
    assert "no time zone" in zoneless["message"]
    assert written_before == []
    assert (code, values["status"]) == (0, "written")
    assert values["file"] == str(tmp_path / ".env")
    assert values["next"] == "enterprises create-table"
    assert values["doctor"]["status"] == "unfit"  # type: ignore[index]
    columns = values["source"]["columns"]  # type: ignore[index]
    assert columns["name"] == {"type": "text", "becomes": "name"}
    assert columns["notes"] == {"type": "text", "becomes": None}
    assert {"DATABASE_URL", "SOURCE_TIMEZONE", "SENDERS"} <= set(values["settings"])  # type: ignore[call-overload]
    assert str(tmp_path / ".env") in again["message"]
    assert "exists already" in again["message"]


def test_a_password_comes_from_a_file_or_standard_input(
    source: SourceDatabase,
    moto_endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the command line other users would see it, so it is refused there."""
    url = source.as_user("postgres", "s3cret").url
    (tmp_path / "url").write_text(f"{url}\n")
    answers = ["--set", f"DYNAMODB_ENDPOINT={moto_endpoint}"]
    for name, value in {
        "SOURCE_TABLE": "shop.companies",
        "SOURCE_NAME_COLUMN": "name",
        "SOURCE_TIMEZONE": "UTC",
    }.items():
        monkeypatch.setenv(name, value)

    unnamed = error_of()
    refused = error_of("--database-url", url)
    both = error_of("--database-url", source.url, "--database-url-file", "url")
    gone = error_of("--database-url-file", "gone")
    code, values = invoke("--database-url-file", "url", *answers)
    (tmp_path / ".env").rename(tmp_path / "first")
    second, _ = invoke("--database-url-file", "-", *answers, typed=f"{url}\n")

    assert "--database-url-file FILE" in unnamed["remedy"]
    assert "--database-url has a password" in refused["message"]
    assert "s3cret" not in str(refused)
    assert "both given" in both["message"]
    assert "--database-url-file gone cannot be read" in gone["message"]
    assert (code, second) == (0, 0)
    assert "s3cret" not in json.dumps(values)
    assert (tmp_path / ".env").read_text() == (tmp_path / "first").read_text()
    assert "s3cret" in (tmp_path / "first").read_text()
