"""Secrets stay in their settings, however a run ends.

Each kind of run has secrets with a unique word. The word may then appear in no output,
log or file, and neither on Prefect's server nor in its home.
"""

import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import httpx
import psycopg2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows import pipeline
from flows.cli.app import app
from flows.models import PartitionLedger, PartitionSpec
from flows.run import partition
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.canary import PASSWORD, SECRETS, files_in, leaks, with_password
from tests.support.fault_proxy import FaultProxy
from tests.support.faults import error
from tests.support.hostile_rows import HOSTILE
from tests.support.prefect_server import PrefectServer, await_true, newest_run
from tests.support.source_database import (
    SourceDatabase,
    await_refusal,
    demanding_password,
    new_role,
)
from tests.support.target_table import put

# The tests share one server, on one of the cores.
pytestmark = [
    pytest.mark.xdist_group("prefect"),
    pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True),
]

KEY_OF_42 = "ENT#3500a20a-fa32-5543-842f-da54bef06c63"
NAME = "Acme GmbH"


@dataclass
class Said:
    """The output and the files of runs, in every place."""

    api: httpx.Client
    server: PrefectServer
    folder: Path
    caplog: pytest.LogCaptureFixture
    capfd: pytest.CaptureFixture[str]

    def run(self, *options: str) -> Result:
        """Migrate as a Prefect flow, and wait until the server has processed it."""
        arguments = ["migrate", "--prefect", "--json", *options]
        result = CliRunner().invoke(app, arguments)
        await_true(lambda: is_over(self.api), seconds=60)
        return result

    def parts(self, result: Result) -> Iterator[tuple[str, bytes]]:
        """Yield each place with its content."""
        yield "output", result.output.encode()
        yield "streams", "".join(self.capfd.readouterr()).encode()
        yield "logs", self.caplog.text.encode()
        for report in re.findall(r"/\S*enterprises-fault-\w+\.log", result.output):
            yield report, Path(report).read_bytes()
        yield from files_in(self.folder)
        yield from self.prefect()

    def prefect(self) -> Iterator[tuple[str, bytes]]:
        """Yield the files of Prefect, here and on its server."""
        yield from files_in(self.server.home)
        yield from files_in(Path(os.environ["PREFECT_HOME"]))


def is_over(api: httpx.Client) -> bool:
    """Return whether the server has processed the end of the newest run."""
    return newest_run(api)["state"]["type"] in {"COMPLETED", "FAILED", "CRASHED"}


@pytest.fixture
def said(
    api: httpx.Client,
    prefect_server: PrefectServer,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Said]:
    """Set all secrets, and capture all logs, including those at DEBUG."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "flows")
    silent = [logging.getLogger(name) for name in ("prefect", "prefect.flow_runs")]
    apart = [logger for logger in silent if not logger.propagate]
    for logger in apart:
        logger.addHandler(caplog.handler)
    yield Said(api, prefect_server, Path.cwd(), caplog, capfd)
    for logger in apart:
        logger.removeHandler(caplog.handler)


@dataclass
class Setting:
    """The parts that a kind of run may change before it begins."""

    source: str
    table: EnterpriseTable
    monkeypatch: pytest.MonkeyPatch
    stack: ExitStack

    def name_source(self, url: str) -> None:
        """Set the source, with the password in its URL."""
        self.monkeypatch.setenv("DATABASE_URL", with_password(url))


def nothing_wrong(_: Setting) -> None:
    """Change nothing."""


def hostile_rows(setting: Setting) -> None:
    """Add rows that are quarantined or hard to print."""
    add_hostile_rows(setting.source)


def add_hostile_rows(url: str) -> None:
    """Add them to the source's table."""
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.set_client_encoding("UTF8")
        connection.cursor().executemany(
            "INSERT INTO enterprises VALUES (%s, %s, %s, %s)",
            [(n, r.name, r.created, r.updated) for n, r in enumerate(HOSTILE, 1000)],
        )


def wrong_password(setting: Setting) -> None:
    """Name a role whose password the server refuses."""
    database = SourceDatabase(setting.source)
    role = setting.stack.enter_context(new_role(database))
    setting.stack.enter_context(demanding_password(database, role))
    stranger = database.as_user(role)
    await_refusal(stranger)
    setting.name_source(stranger.url)


def no_database(setting: Setting) -> None:
    """Name a server that does not exist."""
    setting.name_source("postgresql://ana@127.0.0.1:1/shop")


def unquoted_password(setting: Setting) -> None:
    """Write the unquoted password into the URL."""
    url = f"postgresql://ana:{PASSWORD}@127.0.0.1:1/shop"
    setting.monkeypatch.setenv("DATABASE_URL", url)


def no_source_table(setting: Setting) -> None:
    """Drop the source's table."""
    SourceDatabase(setting.source).run("DROP TABLE enterprises")


def no_target_table(setting: Setting) -> None:
    """Name a target that does not exist."""
    setting.monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", "Nowhere")


def no_state(setting: Setting) -> None:
    """Name a state that does not exist, with its password."""
    url = with_password("postgresql://ana@127.0.0.1:1/state")
    setting.monkeypatch.setenv("STATE_URL", url)


def failing(code: str, operation: str) -> Callable[[Setting], None]:
    """Return a change that makes the table always answer an operation with an error."""

    def fail(setting: Setting) -> None:
        proxy = setting.stack.enter_context(FaultProxy(setting.table.endpoint))
        proxy.add(error(code), operation=operation)
        setting.monkeypatch.setenv("DYNAMODB_ENDPOINT", proxy.url)

    return fail


def a_bug(setting: Setting) -> None:
    """Make a partition raise an error that contains secrets and rows."""

    def fail(_: PartitionSpec) -> NoReturn:
        text = f"{os.environ['DATABASE_URL']} {SECRETS} {NAME}"
        raise ValueError(text)

    bug: Callable[[PartitionSpec], PartitionLedger] = fail
    setting.monkeypatch.setattr(partition, "migrate_partition", bug)


THROTTLED = "ProvisionedThroughputExceededException"
KINDS = {
    "good": (nothing_wrong, 0, '"status": "proven"'),
    "quarantined rows": (hostile_rows, 3, "rows are in quarantine"),
    "wrong password": (wrong_password, 2, "password authentication failed"),
    "no database": (no_database, 2, "cannot be reached"),
    "unquoted password": (unquoted_password, 2, "is ambiguous"),
    "no source table": (no_source_table, 2, "public.enterprises is not in"),
    "no target table": (no_target_table, 2, "enterprises create-table"),
    "no state": (no_state, 2, "cannot be opened"),
    "throttled": (failing(THROTTLED, "BatchWriteItem"), 4, "deadline"),
    "credentials refused": (
        failing("UnrecognizedClientException", "BatchWriteItem"),
        4,
        "Check AWS_ACCESS_KEY_ID",
    ),
    "a bug": (a_bug, 1, "Internal error ("),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_said_or_kept(
    kind: str,
    source: str,
    table: EnterpriseTable,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However a run ends, no part of a secret may be found outside of its setting."""
    prepare, code, words = KINDS[kind]
    with ExitStack() as stack:
        setting = Setting(source, table, monkeypatch, stack)
        setting.name_source(source)
        prepare(setting)
        result = said.run(*(("--deadline", "4") if code == 4 else ()))

    assert (result.exit_code, words in result.output) == (code, True), result.output
    assert leaks(said.parts(result)) == []


@pytest.mark.usefixtures("source")
def test_prefect_keeps_no_row(table: EnterpriseTable, said: Said) -> None:
    """Names of enterprises must stay in the stores and the files of the run.

    The run is not proven here, and its report has differences.
    """
    pipeline.migrate()
    foreign = {"PK": KEY_OF_42, "SK": "METADATA", "entity_type": "x", "name": "Other"}
    put(table, foreign)
    result = said.run()
    assert result.exit_code == 3, result.output

    report = Path(json.loads(result.stdout)["files"]["report"])
    assert NAME in report.with_name("differences.csv").read_text("utf-8")
    assert leaks(said.prefect(), "partition-1")
    assert leaks(said.prefect(), NAME) == []


@pytest.mark.usefixtures("source", "table")
def test_what_is_kept_is_the_owners_alone(said: Said) -> None:
    """State, reports and differences must be inaccessible to other users."""
    said.run()
    CliRunner().invoke(app, ["reconcile", "--json"])

    runs = said.folder / "data" / "runs"
    kept = [runs / "state.db", *(path for path in runs.iterdir() if path.is_dir())]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o077 for path in kept}
    assert len(kept) == 3
    assert set(modes.values()) == {0}, modes
