"""Runs on the workers of a Dask cluster: a lost worker must not lose any data.

The source is a real PostgreSQL, the target is DynamoDB Local from AWS, and the workers
are processes that know only their environment.
"""

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg2
import pytest
from conftest import free_port
from distributed import Client, LocalCluster

from flows import pipeline
from flows.errors import LeaseHeld, SettingsError
from flows.models import MigrateOptions
from flows.run import dask_workers
from flows.stores.dynamodb.lease import LEASE
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import EnterpriseTable
from tests.benchmarks.endpoint import read_consumption, running_endpoint
from tests.support.expected_items import all_items, enterprises, expected_items, fill
from tests.support.target_table import open_at

ROWS = 1_500
COMMAND = [sys.executable, "-m", "flows.cli", "migrate", "--no-prefect", "--json"]
OPTIONS = ["--runner", "dask", "--partition-rows", "125"]
DASK = MigrateOptions(runner="dask", partition_rows=125)
SECONDS = 120
UNDER_WAY = (
    "SELECT count(*) FROM enterprise_migration_partition"
    " WHERE attempts > 0 AND ledger IS NULL"
)

NAMES = (
    "DATABASE_URL",
    "DYNAMODB_ENDPOINT",
    "DYNAMODB_ENTERPRISE_TABLE",
    "AWS_REGION",
    "STATE_URL",
    "LEASE_SECONDS",
)

StartCluster = Callable[..., LocalCluster]

# Tests share workers, so that each worker imports everything only once.
pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.slow]


@pytest.fixture
def target(
    dynamodb_local: str,
    table_name: str,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> EnterpriseTable:
    """Fill the source, create its target, and name both in the environment."""
    fill(database_url, ROWS)
    table = open_at(dynamodb_local, table_name)
    create_table(table)
    state = f"sqlite:///{tmp_path}/state.db"
    values = (database_url, table.endpoint, table.name, "eu-west-1", state, "15")
    for name, value in zip(NAMES, values, strict=True):
        monkeypatch.setenv(name, value)
    return table


def new_cluster(workers: int, environment: dict[str, str]) -> LocalCluster:
    """Start a scheduler and worker processes with this environment."""
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
        env=environment,
    )


@pytest.fixture
def start_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[StartCluster]:
    """Return a function that starts workers here and exports the scheduler address."""
    with ExitStack() as stack:

        def start(workers: int = 2, **changed: str) -> LocalCluster:
            made = new_cluster(workers, dict(os.environ) | changed)
            stack.enter_context(made)
            monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", made.scheduler_address)
            return made

        yield start


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[LocalCluster]:
    """Run two workers for the tests that do not end any."""
    with new_cluster(2, dict(os.environ)) as made:
        yield made


@pytest.fixture
def use_shared_cluster(
    shared_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Return a function that sets the shared workers' environment, with changes."""
    address = shared_cluster.scheduler_address

    def use(**changed: str) -> None:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
        values = dict(os.environ) | changed
        code = f"import os; os.environ.clear(); os.environ.update({values!r})"
        with Client(address, set_as_default=False) as client:
            client.run(exec, code)

    return use


def ask(url: str, query: str) -> int:
    """Return the number that a query of the state yields."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        (number,) = cursor.fetchone() or (0,)
        return int(number)


def await_true(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, or fail."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> tuple[int, Any, str]:
    """Wait for the end; return the exit code, the JSON and the error output."""
    output, errors = process.communicate(timeout=SECONDS)
    assert "Traceback" not in errors, errors
    return process.returncode, json.loads(output), errors


def start_run(*options: str) -> subprocess.Popen[str]:
    """Start the command, as its users do."""
    return subprocess.Popen(
        [*COMMAND, *OPTIONS, *options],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_killed_worker_loses_nothing(
    start_cluster: StartCluster,
    target: EnterpriseTable,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another worker repeats the partition of a killed one, and the run is proven.

    The state is in PostgreSQL here, as it is for several machines.
    """
    monkeypatch.setenv("STATE_URL", database_url)
    made = start_cluster()
    with start_run("--max-write-units", "300") as run:
        await_true(lambda: len(enterprises(target.client, target.name)) > ROWS / 3)
        await_true(lambda: ask(database_url, UNDER_WAY) == 2)
        os.kill(made.workers[0].pid, signal.SIGKILL)
        code, values, errors = ended(run)

    assert (code, values["status"], values["resumed"]) == (0, "proven", False), errors
    assert values["ledger"]["read"] == ROWS
    assert enterprises(target.client, target.name) == expected_items(database_url)
    attempts = "SELECT max(attempts) FROM enterprise_migration_partition"
    assert ask(database_url, attempts) == 2
    assert "Dask workers were lost" in errors
    # The driver cannot verify that the worker is dead, so it must keep the lease.
    assert target.get_own(LEASE) is not None


def test_a_run_told_to_stop_stops_the_workers(
    use_shared_cluster: Callable[..., None], target: EnterpriseTable, database_url: str
) -> None:
    """After SIGTERM no worker may write, and a resume must end; the lease is free."""
    use_shared_cluster()
    with start_run("--max-write-units", "300") as run:
        await_true(lambda: len(enterprises(target.client, target.name)) > 0)
        run.send_signal(signal.SIGTERM)
        code, values, errors = ended(run)
    left = all_items(target.client, target.name)

    assert (code, values["status"]) == (4, "incomplete")
    assert 0 < len(left) < ROWS
    # If a worker was not stopped in time, the lease stays and the run reports it.
    assert target.get_own(LEASE) is None or "workers were" in errors, errors

    report = pipeline.migrate(DASK.model_copy(update={"resume": "last"}))

    assert report.status == "proven"
    assert enterprises(target.client, target.name) == expected_items(database_url)


@pytest.mark.usefixtures("target")
def test_the_cap_is_shared_out(
    use_shared_cluster: Callable[..., None],
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All workers together must keep to the rate, second by second."""
    with running_endpoint() as url:
        create_table(open_at(url, table_name))
        monkeypatch.setenv("DYNAMODB_ENDPOINT", url)
        use_shared_cluster()
        report = pipeline.migrate(DASK.model_copy(update={"max_write_units": 400.0}))
        seconds = read_consumption(url)["seconds"]

    units = [second.get("write_units", 0) for second in seconds]
    assert report.status == "proven"
    assert sum(units) >= ROWS
    assert max(units) <= 400 * 1.1 + 2 * 25


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STATE_URL", "sqlite:///{folder}/another.db", "no run"),
        ("ID_NAMESPACE", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "namespace"),
        ("DATABASE_URL", "postgresql://another/source", "source"),
        ("DYNAMODB_ENTERPRISE_TABLE", "Another", "target"),
    ],
)
def test_a_worker_with_other_settings_is_refused(
    name: str,
    value: str,
    said: str,
    use_shared_cluster: Callable[..., None],
    target: EnterpriseTable,
) -> None:
    """A worker with another migration's settings stops it before the first write."""
    create_table(open_at(target.endpoint, "Another"))
    use_shared_cluster(**{name: value.format(folder=Path.cwd())})

    with pytest.raises(SettingsError, match=said) as refusal:
        pipeline.migrate(DASK)

    assert "STATE_URL" in refusal.value.remedy
    assert all_items(target.client, target.name) == {}


def test_a_run_whose_last_worker_is_gone_can_be_resumed(
    start_cluster: StartCluster,
    target: EnterpriseTable,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any worker a run ends as incomplete; nothing waits forever."""
    monkeypatch.setattr(dask_workers, "WORKER_CHECK_SECONDS", 0.2)
    monkeypatch.setattr(dask_workers, "NO_WORKER_SECONDS", 1.0)
    made = start_cluster(1)

    def end_worker() -> None:
        await_true(lambda: len(enterprises(target.client, target.name)) > 0)
        made.scale(0)

    ending = Thread(target=end_worker)
    ending.start()
    report = pipeline.migrate(DASK.model_copy(update={"max_write_units": 200.0}))
    ending.join()

    assert report.status == "incomplete"
    assert "No Dask worker" in str(report.stopped)
    with pytest.raises(LeaseHeld):
        pipeline.migrate()
    resumed = pipeline.migrate(MigrateOptions(resume="last"))
    assert resumed.status == "proven"
    assert enterprises(target.client, target.name) == expected_items(database_url)


@pytest.mark.usefixtures("target")
@pytest.mark.parametrize("address", [None, "tcp://127.0.0.1:{port}", "nonsense://x"])
def test_an_unreachable_scheduler_is_refused(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with 2 and names the setting to correct."""
    monkeypatch.setattr(dask_workers, "CONNECT_SECONDS", 1)
    if address is not None:
        address = address.format(port=free_port())
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)

    with pytest.raises(SettingsError) as refusal:
        pipeline.migrate(DASK)

    assert refusal.value.exit_code == 2
    assert (address or "is not set") in refusal.value.message
    assert "dask scheduler" in refusal.value.remedy
    assert not Path("state.db").exists()


def test_a_scheduler_without_workers_is_refused(
    start_cluster: StartCluster,
    target: EnterpriseTable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run without workers is refused, and the remedy shows how to start one."""
    monkeypatch.setattr(dask_workers, "CONNECT_SECONDS", 1)
    start_cluster(0)

    with pytest.raises(SettingsError, match="has no workers") as refusal:
        pipeline.migrate(DASK)

    assert "dask worker" in refusal.value.remedy
    assert all_items(target.client, target.name) == {}


def test_without_its_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If distributed is not installed, the refusal names the extra to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "distributed" else find(name),
    )

    with pytest.raises(SettingsError) as refusal:
        pipeline.migrate(DASK)

    assert "[dask]" in refusal.value.remedy
