"""The Prefect flow, on a real Prefect server."""

import json
import os
from contextlib import closing
from pathlib import Path

import httpx
import psycopg2
import pytest
from distributed import LocalCluster
from prefect_server import await_true, found, newest_run, run_prefect

from flows import doctor_runs, partition
from flows.diagnosis import Examination
from flows.errors import SourceError, SourceLost
from flows.migrate import migrate_enterprises
from flows.models import Ledger, MigrateOptions, PartitionLedger, PartitionSpec

# One server, on one of the cores.
pytestmark = pytest.mark.xdist_group("prefect")


def newest_tasks(api: httpx.Client) -> tuple[str, list[str]]:
    """Return the state of the newest flow run, and the names of its task runs."""
    flow_run = newest_run(api)
    tasks = found(api, "task_runs", flow_runs={"id": {"any_": [flow_run["id"]]}})
    return flow_run["state"]["type"], sorted(task["name"] for task in tasks)


@pytest.mark.usefixtures("source", "table")
def test_the_flow_proves_what_the_plain_driver_proves(api: httpx.Client) -> None:
    """A flow run ends proven, with one named task run a partition."""
    report = migrate_enterprises(MigrateOptions(partition_rows=2))

    assert report.status == "proven"
    assert report.ledger == Ledger(read=5, written=5)
    # The server takes states in as events, a moment after the flow has returned.
    await_true(
        lambda: (
            newest_tasks(api) == ("COMPLETED", [f"partition-{n}" for n in (1, 2, 3)])
        ),
        seconds=60,
    )


@pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)
@pytest.mark.usefixtures("source", "table", "api")
def test_the_tasks_of_a_flow_may_be_done_on_a_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the runner dask a task of Prefect waits for a worker of Dask."""
    monkeypatch.setenv("STATE_URL", f"sqlite:///{tmp_path}/state.db")
    with LocalCluster(
        n_workers=1,
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
        env=dict(os.environ),
    ) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        report = migrate_enterprises(MigrateOptions(partition_rows=2, runner="dask"))

    assert report.status == "proven"
    assert report.ledger == Ledger(read=5, written=5)


@pytest.mark.usefixtures("table")
def test_the_reasons_are_an_artifact_of_the_run(source: str, api: httpx.Client) -> None:
    """The run's page shows which reasons were met, how often, and no row's value."""
    with closing(psycopg2.connect(source)) as connection, connection:
        connection.cursor().execute(
            "INSERT INTO enterprises VALUES (1, ' ', now(), now()),"
            " (2, NULL, NULL, NULL), (3, 'S3cret ', now(), now())"
        )

    migrate_enterprises(MigrateOptions(allow_quarantined=2))

    filters = {"key": {"any_": ["validation-reasons"]}}
    (artifact, *_) = found(api, "artifacts", artifacts=filters, sort="CREATED_DESC")
    assert json.loads(artifact["data"]) == [
        {"reason": "name_blank", "rows": 1, "severity": "critical"},
        {"reason": "name_missing", "rows": 1, "severity": "critical"},
        {"reason": "timestamps_missing", "rows": 1, "severity": "critical"},
        {"reason": "created_date_in_future", "rows": 1, "severity": "warning"},
        {"reason": "name_control_characters", "rows": 1, "severity": "warning"},
        {"reason": "name_padded", "rows": 2, "severity": "warning"},
    ]
    assert "S3cret" not in str(artifact)


@pytest.mark.usefixtures("source", "table", "api")
def test_a_lost_connection_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition whose source went away is done again; the run is proven."""
    calls: list[int] = []
    real = partition.migrate_partition

    def lose_the_first(spec: PartitionSpec) -> PartitionLedger:
        calls.append(spec.number)
        if len(calls) == 1:
            raise SourceLost("the connection was lost")
        return real(spec)

    monkeypatch.setattr(partition, "migrate_partition", lose_the_first)

    report = migrate_enterprises(MigrateOptions())

    assert calls == [1, 1]
    assert report.status == "proven"


@pytest.mark.usefixtures("table", "api")
def test_a_refusal_reaches_the_caller_as_itself(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a check refuses must come out of the flow as the same error."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    with pytest.raises(SourceError, match=r"public\.enterprises is not in"):
        migrate_enterprises(MigrateOptions())


def test_a_deployed_schedule_fires(api: httpx.Client) -> None:
    """With the pinned versions a deployment is accepted and its schedule makes runs.

    Newer FastAPI refuses it, and on SQLAlchemy 2.1 no run is ever scheduled.
    """
    url = str(api.base_url).rstrip("/")
    run_prefect(url, "work-pool", "create", "--type", "process", "enterprises")
    run_prefect(url, "deploy", "--all")
    run_prefect(
        url, "deployment", "schedule", "create", "--interval", "3600", DEPLOYMENT
    )

    scheduled = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    await_true(lambda: bool(found(api, "flow_runs", flow_runs=scheduled)), seconds=90)


DEPLOYMENT = "migrate-enterprises/migrate-enterprises"


def test_a_flow_run_that_has_died_is_found(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor must find by the server itself what runs there and nowhere else."""
    monkeypatch.setattr(doctor_runs, "BEGINNING_SECONDS", 0)
    before = doctor_runs.check_prefect(Examination(lease={}))
    for flow_name in ("migrate-enterprises", "another"):
        flow = api.post("/flows/", json={"name": flow_name}).json()
        made = {"flow_id": flow["id"], "name": f"dead-{flow_name}"}
        flow_run = api.post("/flow_runs/", json=made).json()
        running = {"state": {"type": "RUNNING"}, "force": True}
        api.post(f"/flow_runs/{flow_run['id']}/set_state", json=running)

    dead = doctor_runs.check_prefect(Examination(lease={}))

    assert before.status == "ok"
    assert dead.status == "fail"
    assert "dead-migrate-enterprises" in dead.found
    assert "dead-another" not in dead.found
    assert "prefect flow-run delete" in dead.remedy
