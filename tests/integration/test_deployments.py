"""The deployments of ``prefect.yaml``, as a worker runs them from the checkout.

The store is the benchmarks' endpoint, slow enough here to interrupt a run midway.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import execute

from flows import pipeline
from flows.models import MigrateOptions
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import EnterpriseTable
from tests.benchmarks.endpoint import running_endpoint
from tests.support.canary import SECRETS, files_in, leaks, with_password
from tests.support.expected_items import enterprises, expected_items, fill
from tests.support.prefect_server import (
    ROOT,
    PrefectServer,
    artifacts_of,
    await_true,
    end,
    found,
    prefect,
    run_prefect,
)
from tests.support.source_database import new_database
from tests.support.target_table import open_at
from tests.support.webhook import Webhook, running_webhook

# The tests share one server, on one of the cores.
pytestmark = pytest.mark.xdist_group("prefect")

ROWS = 1_000
WRITE_UNITS = 250
SECONDS = 120
FULL = "migrate-enterprises/migrate-enterprises"
INCREMENTAL = "migrate-enterprises/migrate-incremental"
RECONCILE = "reconcile-enterprises/reconcile-enterprises"


@dataclass(frozen=True)
class Deployed:
    """All deployments, a worker for them, and the stores that it works between."""

    api: httpx.Client
    source: str
    table: EnterpriseTable
    environment: dict[str, str]
    hook: Webhook
    folder: Path

    def deployment(self, name: str) -> dict[str, Any]:
        """Return a deployment by its name."""
        return self.get(f"/deployments/name/{name}")

    def run(self, flow_run_id: str) -> dict[str, Any]:
        """Return a flow run as it is now."""
        return self.get(f"/flow_runs/{flow_run_id}")

    def get(self, path: str) -> dict[str, Any]:
        """Read one object of the server."""
        values: dict[str, Any] = self.api.get(path).raise_for_status().json()
        return values

    def post(self, path: str, content: Any) -> Any:
        """Create or change an object of the server."""
        return self.api.post(path, json=content).raise_for_status().json()

    def await_state(self, flow_run_id: str, *types: str) -> dict[str, Any]:
        """Wait until a flow run is in one of the given states; return it."""
        await_true(
            lambda: self.run(flow_run_id)["state"]["type"] in types, seconds=SECONDS
        )
        return self.run(flow_run_id)

    def schedule_soon(self, name: str) -> str:
        """Add a schedule to a deployment that is due at once; return its id.

        If the scheduler finds the first time in the past, it is due a minute later.
        """
        anchor = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
        schedule = {"interval": 60, "anchor_date": anchor}
        deployment = self.deployment(name)["id"]
        content = [{"active": True, "schedule": schedule}]
        self.post(f"/deployments/{deployment}/schedules", content)
        return str(deployment)

    def set_own_schedule(self, name: str, *, active: bool) -> None:
        """Switch a deployment's original schedule on or off."""
        deployment, own = self.deployment(name)["id"], self.own_schedule(name)["id"]
        path = f"/deployments/{deployment}/schedules/{own}"
        self.api.patch(path, json={"active": active}).raise_for_status()

    def own_schedule(self, name: str) -> dict[str, Any]:
        """Return a deployment's original schedule."""
        schedules = self.deployment(name)["schedules"]
        (own,) = (one for one in schedules if "cron" in one["schedule"])
        return dict(own)

    def await_scheduled(self, deployment: str) -> dict[str, Any]:
        """Wait until a scheduled run of a deployment has ended; return it."""
        ended = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}
        filters = {"deployment_id": {"any_": [deployment]}, "state": ended}
        await_true(
            lambda: bool(found(self.api, "flow_runs", flow_runs=filters)),
            seconds=SECONDS,
        )
        return found(self.api, "flow_runs", flow_runs=filters)[0]


@pytest.fixture(scope="module")
def deployed(
    prefect_server: PrefectServer,
    postgres_server: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    """Deploy all, and run a worker, with secrets only in its environment."""
    folder = tmp_path_factory.mktemp("worker")
    with (
        new_database(postgres_server) as database,
        running_endpoint(write_units=WRITE_UNITS) as endpoint,
        running_webhook() as hook,
        prefect_server.client() as api,
    ):
        fill(database.url, ROWS)
        table = open_at(endpoint, "Deployed")
        create_table(table)
        environment = SECRETS | {
            "DATABASE_URL": with_password(database.url),
            "DYNAMODB_ENDPOINT": endpoint,
            "DYNAMODB_ENTERPRISE_TABLE": table.name,
            "AWS_REGION": "eu-west-1",
            "RUNS_DIR": str(folder / "runs"),
            "STATE_URL": f"sqlite:///{folder}/state.db",
            "ALERT_WEBHOOK_URL": hook.url,
        }
        pool = {"name": "enterprises", "type": "process"}
        api.post("/work_pools/", json=pool).raise_for_status()
        with running_worker(prefect_server, environment, folder):
            run_prefect(prefect_server.api, "deploy", "--all")
            yield Deployed(api, database.url, table, environment, hook, folder)


@contextmanager
def running_worker(
    server: PrefectServer, environment: dict[str, str], folder: Path
) -> Iterator[None]:
    """Run a process worker for the length of a block."""
    own = {
        "PREFECT_API_URL": server.api,
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    with (
        (folder / "worker.log").open("w") as log,
        subprocess.Popen(
            [*prefect(), "worker", "start", "--pool", "enterprises"],
            env=os.environ | environment | own,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        ) as process,
    ):
        try:
            yield
        finally:
            end(process)


@pytest.fixture
def here(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    """Give runs of this process the same stores and the same state."""
    for name, value in deployed.environment.items():
        monkeypatch.setenv(name, value)
    return deployed


def test_a_cancelled_run_is_gone_on_with(here: Deployed) -> None:
    """A run cancelled from Prefect midway stops, calls the webhook, and can be resumed.

    Another run that is requested meanwhile is cancelled before it begins, without a
    call.
    """
    create = f"/deployments/{here.deployment(FULL)['id']}/create_flow_run"
    # Slow enough to leave time to request another run.
    options = {"partition_rows": 100, "max_write_units": 40}
    run = here.post(create, {"parameters": {"options": options}})
    await_true(
        lambda: len(enterprises(here.table.client, here.table.name)) >= 150,
        seconds=SECONDS,
    )
    second = here.await_state(here.post(create, {})["id"], "CANCELLED", "RUNNING")
    going_on = here.run(run["id"])["state"]["type"]
    cancelling = {"type": "CANCELLING", "name": "Cancelling"}
    here.post(f"/flow_runs/{run['id']}/set_state", {"state": cancelling})
    here.await_state(run["id"], "CANCELLED", "CRASHED", "FAILED", "COMPLETED")
    left = enterprises(here.table.client, here.table.name)
    (stopped,) = (here.folder / "runs").glob("*/report.json")
    outcome = json.loads(stopped.read_text("utf-8"))

    report = pipeline.migrate(MigrateOptions(resume="last"))

    assert (going_on, second["state"]["type"]) == ("RUNNING", "CANCELLED")
    assert second["run_count"] == 0
    assert here.run(run["id"])["state"]["type"] == "CANCELLED"
    assert 150 <= len(left) < ROWS
    assert [posted["event"] for posted in here.hook.posted] == ["cancelling"]
    assert here.hook.posted[0]["flow_run_id"] == run["id"]
    assert here.hook.posted[0]["run"].startswith("migrate full: localhost/test_")
    assert (report.status, report.resumed) == ("proven", True)
    assert outcome["status"] == "incomplete"
    assert "SIGTERM" in outcome["findings"][0]
    assert report.ledger.written + report.ledger.unchanged == report.ledger.read == ROWS
    assert enterprises(here.table.client, here.table.name) == expected_items(
        here.source
    )


def test_the_schedules_fire_and_their_pages_show_it(here: Deployed) -> None:
    """Deployed schedules are paused; they start runs in UTC, and the pages show them.

    With a newer FastAPI than the pinned one a deployment is refused, and with
    SQLAlchemy 2.1 no run is ever scheduled.
    """
    own = [here.own_schedule(name) for name in (INCREMENTAL, RECONCILE)]
    assert [schedule["active"] for schedule in own] == [False, False]
    pipeline.migrate()
    incremental, reconcile = map(here.schedule_soon, (INCREMENTAL, RECONCILE))
    moved = here.await_scheduled(incremental)
    compared = here.await_scheduled(reconcile)

    assert moved["state"]["type"] == compared["state"]["type"] == "COMPLETED"
    assert moved["auto_scheduled"]
    assert moved["name"].startswith("migrate incremental: localhost/test_")
    assert {"mode:incremental", "table:Deployed", "enterprises"} <= {*moved["tags"]}
    shown = artifacts_of(here.api, moved["id"])
    assert "of the rows stamped since" in shown["migration-verdict"]["data"]
    assert set(shown) == {"migration-verdict", "migration-progress"}
    shown = artifacts_of(here.api, compared["id"])
    text = shown["reconciliation-verdict"]["data"]
    assert f"{ROWS:,} of {ROWS:,} rows proven equal" in text
    await_true(
        lambda: "flows.run.start" in loggers_of(here, moved["id"]), seconds=SECONDS
    )
    due = [next_run(here, name) for name in (INCREMENTAL, RECONCILE)]
    for deployment in (incremental, reconcile):
        # Otherwise it is due again, perhaps when the worker ends.
        here.api.post(f"/deployments/{deployment}/pause_deployment").raise_for_status()
    assert due[0].minute == 0
    assert (due[1].hour, due[1].minute) == (5, 30)


def loggers_of(deployed: Deployed, flow_run_id: str) -> set[str]:
    """Return the modules that have log lines on a run's page."""
    logs = {"flow_run_id": {"any_": [flow_run_id]}}
    return {line["name"] for line in found(deployed.api, "logs", logs=logs)}


def test_what_worker_processes_say_is_on_the_page(here: Deployed) -> None:
    """Their lines arrive in another thread but still belong to the run."""
    create = f"/deployments/{here.deployment(FULL)['id']}/create_flow_run"
    options = {"partition_rows": 500, "workers": 2}
    run = here.post(create, {"parameters": {"options": options}})

    ended = here.await_state(run["id"], "COMPLETED", "FAILED", "CRASHED")

    assert ended["state"]["type"] == "COMPLETED"
    await_true(
        lambda: "flows.run.partition" in loggers_of(here, run["id"]), seconds=SECONDS
    )


def test_an_unproven_run_fails_with_its_verdict(here: Deployed) -> None:
    """It ends as failed with its message, and no traceback is on its page or logged."""
    execute(here.source, "INSERT INTO public.enterprises VALUES (1, ' ', now(), now())")
    try:
        create = f"/deployments/{here.deployment(FULL)['id']}/create_flow_run"
        run = here.post(create, {})
        ended = here.await_state(run["id"], "COMPLETED", "FAILED", "CRASHED")
    finally:
        execute(here.source, "DELETE FROM public.enterprises WHERE id = 1")

    assert (ended["state"]["type"], ended["state"]["name"]) == ("FAILED", "Failed")
    assert "1 rows are in quarantine" in ended["state"]["message"]
    await_true(
        lambda: "flows.run.start" in loggers_of(here, run["id"]), seconds=SECONDS
    )
    logs = {"flow_run_id": {"any_": [run["id"]]}}
    lines = [line["message"] for line in found(here.api, "logs", logs=logs)]
    log = here.folder / "worker.log"
    ending = "Finished in state Failed"
    await_true(lambda: ending in log.read_text("utf-8"), seconds=SECONDS)
    # The process logs its end a moment later, and nothing else shows it.
    time.sleep(2)
    assert "Traceback" not in "\n".join([*lines, log.read_text("utf-8")])


def next_run(deployed: Deployed, name: str) -> datetime:
    """Switch a deployment's original schedule on; return its due time in UTC."""
    deployed.set_own_schedule(name, active=True)
    scheduled = {
        "deployment_id": {"any_": [deployed.deployment(name)["id"]]},
        "state": {"type": {"any_": ["SCHEDULED"]}},
    }

    def times() -> list[datetime]:
        runs = found(deployed.api, "flow_runs", flow_runs=scheduled)
        due = [datetime.fromisoformat(run["expected_start_time"]) for run in runs]
        # The schedule that the test added is not due at whole seconds.
        return [time for time in due if time.microsecond == 0]

    await_true(lambda: bool(times()), seconds=SECONDS)
    return min(times()).astimezone(UTC)


def test_parameters_are_described_checked_and_no_secrets(here: Deployed) -> None:
    """A deployment's page explains each option, and refuses invalid values."""
    full = here.deployment(FULL)
    schema = full["parameter_openapi_schema"]
    options = schema["definitions"]["MigrateOptions"]["properties"]
    wrong = {"parameters": {"options": {"partition_rows": 0}}}
    unknown = {"parameters": {"options": {"password": "x"}}}
    path = f"/deployments/{full['id']}/create_flow_run"

    answers = [here.api.post(path, json=body) for body in (wrong, unknown)]

    assert [answer.status_code for answer in answers] == [409, 409]
    assert all(option.get("description") for option in options.values())
    assert "description" in schema["properties"]["options"]
    sample = here.deployment(RECONCILE)["parameter_openapi_schema"]["properties"]
    assert "no proof" in sample["sample"]["description"]
    assert "Read units" in sample["max_read_units"]["description"]


def test_no_secret_leaves_the_workers_environment(
    deployed: Deployed, prefect_server: PrefectServer
) -> None:
    """No output or file of a worker or of the server may contain a secret."""
    said = list(files_in(deployed.folder))

    assert any(place.endswith("worker.log") and said for place, said in said)
    assert leaks([*said, *files_in(prefect_server.home)]) == []
