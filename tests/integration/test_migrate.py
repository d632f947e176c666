"""The Prefect flows on a real Prefect server, and the content of their pages."""

import json
import os
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import httpx
import nbformat
import prefect.settings
import psycopg2
import pytest
from conftest import execute
from distributed import LocalCluster
from nbclient import NotebookClient
from typer.testing import CliRunner

from flows import pipeline, prefect_artifacts
from flows.cli.app import app
from flows.doctor import runs
from flows.doctor.diagnosis import CheckContext
from flows.errors import (
    Incomplete,
    LeaseHeld,
    SettingsError,
    SourceError,
    SourceLost,
    Unproven,
)
from flows.models import Ledger, MigrateOptions, PartitionLedger, PartitionSpec
from flows.prefect_flows import migrate_enterprises, reconcile_enterprises, start_server
from flows.run import partition
from flows.run.context import RunContext
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from tests.support.prefect_server import artifacts_of, await_true, found, newest_run
from tests.support.webhook import running_webhook

# The tests share one server, on one of the cores.
pytestmark = pytest.mark.xdist_group("prefect")

ACME = "3500a20a-fa32-5543-842f-da54bef06c63"


@pytest.fixture
def endpoint(dynamodb_local: str) -> str:
    """Direct all of these tests to DynamoDB Local."""
    return dynamodb_local


def newest_tasks(api: httpx.Client) -> tuple[str, list[str]]:
    """Return the state of the newest flow run, and the names of its task runs."""
    flow_run = newest_run(api)
    tasks = found(api, "task_runs", flow_runs={"id": {"any_": [flow_run["id"]]}})
    return flow_run["state"]["type"], sorted(task["name"] for task in tasks)


@pytest.mark.usefixtures("source", "table")
def test_the_flow_proves_what_the_plain_driver_proves(api: httpx.Client) -> None:
    """A flow run ends proven, with one named task run per partition."""
    report = migrate_enterprises(MigrateOptions(partition_rows=2))

    assert report.status == "proven"
    assert report.ledger == Ledger(read=5, written=5)
    # The server processes states as events, a moment after the flow has returned.
    await_true(
        lambda: (
            newest_tasks(api) == ("COMPLETED", [f"partition-{n}" for n in (1, 2, 3)])
        ),
        seconds=60,
    )


@pytest.mark.usefixtures("source", "table", "api")
def test_the_tasks_of_a_flow_may_be_done_on_a_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the dask runner a Prefect task waits for a Dask worker."""
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


@pytest.mark.usefixtures("source", "table", "api")
def test_a_notebook_runs_the_flow(tmp_path: Path) -> None:
    """In a kernel, which already has an event loop, the flow is called directly."""
    cells = [
        "from flows.prefect_flows import migrate_enterprises",
        "migrate_enterprises().status",
    ]
    notebook = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)])
    where = {"metadata": {"path": str(tmp_path)}}

    NotebookClient(notebook, timeout=240, resources=where).execute()

    assert notebook.cells[-1].outputs[-1]["data"]["text/plain"] == "'proven'"


@pytest.mark.usefixtures("table")
def test_the_reasons_are_on_the_page_of_the_run(source: str, api: httpx.Client) -> None:
    """The run's page shows the reasons and their counts, but no value of a row."""
    with closing(psycopg2.connect(source)) as connection, connection:
        connection.cursor().execute(
            "INSERT INTO enterprises VALUES (1, ' ', now(), now()),"
            " (2, NULL, NULL, NULL), (3, 'S3cret ', now(), now())"
        )

    migrate_enterprises(MigrateOptions(allow_quarantined=2))

    shown = artifacts_of(api, newest_run(api)["id"])
    text = shown["migration-verdict"]["data"]
    for line in ("name_blank | 1 |", "name_missing | 1 |", "name_padded | "):
        assert f"\n| {line}" in text
    assert "S3cret" not in str(shown)


def drop_acme(table: EnterpriseTable) -> None:
    """Delete an item, as an application would."""
    key = to_wire({"PK": f"ENT#{ACME}", "SK": "METADATA"})
    table.client.delete_item(TableName=table.name, Key=key)


def data_of(artifact: dict[str, Any]) -> Any:
    """Return the rows of a table artifact."""
    return json.loads(artifact["data"])


@pytest.mark.usefixtures("source")
def test_the_page_of_a_run_shows_it(api: httpx.Client, table: EnterpriseTable) -> None:
    """The page must show its name, progress, ledger, verdict and the report's place.

    Source, table and mode distinguish it.
    """
    report = migrate_enterprises(MigrateOptions(partition_rows=2))

    page = newest_run(api)
    shown = artifacts_of(api, page["id"])
    assert page["name"].startswith("migrate full: localhost/test_")
    assert page["name"].endswith(f" public.enterprises, {table.name}")
    assert {"mode:full", f"table:{table.name}", "from:public.enterprises"} <= {
        *page["tags"]
    }
    assert shown["migration-progress"]["data"] == 100.0
    assert shown["migration-progress"]["description"] == "3 of 3 partitions are done."
    assert set(shown) == {"migration-verdict", "migration-progress"}
    text = shown["migration-verdict"]["data"]
    parts = ["5 of 5 rows proven equal", "\n## Files", "\n## Ledger", "\n## Recon"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert f"{report.run_id}/report.html`" in text
    assert "file://" not in str(shown)


@pytest.mark.usefixtures("source")
def test_the_bar_moves_with_each_partition(
    table: EnterpriseTable, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's page must show the number of finished partitions during the run."""
    assert table.name
    seen: list[float] = []
    real = partition.migrate_partition

    def look(spec: PartitionSpec, context: RunContext) -> PartitionLedger:
        ledger = real(spec, context)
        shown = artifacts_of(api, newest_run(api)["id"])
        seen.append(shown["migration-progress"]["data"])
        return ledger

    monkeypatch.setattr(partition, "migrate_partition", look)

    migrate_enterprises(MigrateOptions(partition_rows=1))

    assert seen[0] == 0.0
    assert 20.0 <= seen[-1] < 100.0
    assert seen == sorted(seen)


@pytest.mark.usefixtures("source", "table", "api")
def test_a_page_that_cannot_be_made_changes_no_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run is proven even if Prefect cannot show its artifacts."""

    def refuse(*_: object, **__: object) -> None:
        message = "the API is gone"
        raise httpx.ConnectError(message)

    for name in ("progress", "table", "markdown"):
        monkeypatch.setattr(prefect_artifacts, f"create_{name}_artifact", refuse)
    monkeypatch.setattr(prefect_artifacts, "update_progress_artifact", refuse)

    assert migrate_enterprises(MigrateOptions(partition_rows=2)).status == "proven"
    assert reconcile_enterprises().status == "clean"


@pytest.mark.usefixtures("source")
def test_a_new_class_of_differences_calls_somebody_once(
    table: EnterpriseTable, api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new class fails the run and is posted; a known class does neither.

    The page has the differing keys, but no value.
    """
    pipeline.migrate()
    with running_webhook() as hook:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", hook.url)
        clean = reconcile_enterprises()
        drop_acme(table)
        with pytest.raises(Unproven, match="previous reconciliation: missing"):
            reconcile_enterprises()
        page = newest_run(api)
        again = reconcile_enterprises(return_state=True)

    (posted,) = hook.posted
    shown = artifacts_of(api, page["id"])
    assert clean.status == "clean"
    assert (again.type, again.name) == ("COMPLETED", "Different")
    assert posted["event"] == "failed"
    assert "New since the previous reconciliation: missing" in posted["text"]
    assert page["name"].startswith("reconcile full: localhost/test_")
    assert data_of(shown["reconciliation-differences"]) == [
        {"class": "missing", "source id": "42", "id": ACME, "fields": ""}
    ]
    text = shown["reconciliation-verdict"]["data"]
    assert "Different: 1 missing" in text
    assert "## Next\n\n`enterprises reconcile --repair`\n" in text
    assert "/report.html`" in text


@pytest.mark.usefixtures("source", "api")
def test_an_hourly_run_that_meets_another_is_skipped(
    table: EnterpriseTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment's incremental run posts nothing then; a full run fails and posts."""
    pipeline.migrate()
    Lease(table, "another", 30).acquire()
    with running_webhook() as hook:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", hook.url)
        monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "hourly")
        state = migrate_enterprises(MigrateOptions(since="last"), return_state=True)
        skipped = (state.type, state.name, len(hook.posted))
        with pytest.raises(LeaseHeld, match="Run another holds"):
            migrate_enterprises()

    assert skipped == ("COMPLETED", "Skipped", 0)
    assert "Run another holds" in str(state.message)
    assert len(hook.posted) == 1


@pytest.mark.usefixtures("table", "api")
def test_a_failing_run_calls_somebody_whose_webhook_may_fail_too(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run must end as it would without a webhook, whatever the webhook answers."""
    execute(source, "INSERT INTO public.enterprises VALUES (1, ' ', now(), now())")
    with running_webhook(status=500) as hook:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", hook.url)
        with pytest.raises(Unproven, match="1 rows are in quarantine"):
            migrate_enterprises()

    (posted,) = hook.posted
    assert "1 rows are in quarantine" in posted["text"]
    assert posted["flow"] == "migrate-enterprises"


@pytest.mark.usefixtures("source", "table", "api")
def test_a_lost_connection_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition whose connection was lost is retried; the run is proven."""
    calls: list[int] = []
    real = partition.migrate_partition

    def lose_the_first(spec: PartitionSpec, context: RunContext) -> PartitionLedger:
        calls.append(spec.number)
        if len(calls) == 1:
            raise SourceLost("the connection was lost")
        return real(spec, context)

    monkeypatch.setattr(partition, "migrate_partition", lose_the_first)

    report = migrate_enterprises(MigrateOptions())

    assert calls == [1, 1]
    assert report.status == "proven"


@pytest.mark.usefixtures("source", "table", "api")
def test_what_no_retry_can_help_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that must stop stops the run; Prefect does not retry it."""
    calls: list[int] = []

    def stop(spec: PartitionSpec, _: RunContext) -> PartitionLedger:
        calls.append(spec.number)
        message = "the lease was lost"
        raise Incomplete(message)

    monkeypatch.setattr(partition, "migrate_partition", stop)

    with pytest.raises(Incomplete, match="the lease was lost"):
        migrate_enterprises(MigrateOptions())

    assert calls == [1]


@pytest.mark.usefixtures("table", "api")
def test_a_refusal_reaches_the_caller_as_itself(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flow must raise the refusal of a check as the same error."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    with pytest.raises(SourceError, match=r"public\.enterprises is not in"):
        migrate_enterprises(MigrateOptions())


@pytest.mark.usefixtures("source", "table")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"PREFECT_API_URL": "http://127.0.0.1:{port}/api"}, "127.0.0.1:{port}/api"),
        (
            {"PREFECT_API_URL": None, "PREFECT_SERVER_EPHEMERAL_ENABLED": False},
            "No Prefect API is set",
        ),
    ],
    ids=["down", "none"],
)
def test_without_a_prefect_api_a_flow_is_refused(
    items: Callable[[], dict[str, Any]],
    closed_port: int,
    changed: dict[str, Any],
    said: str,
) -> None:
    """The refusal names the API and the way to run without it, as a settings error."""
    values = {
        getattr(prefect.settings, name): str(value).format(port=closed_port)
        if value
        else value
        for name, value in changed.items()
    }
    with prefect.settings.temporary_settings(values):
        result = CliRunner().invoke(app, ["migrate", "--prefect", "--json"])

    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (2, "SettingsError")
    assert said.format(port=closed_port) in error["message"]
    assert "--no-prefect" in error["remedy"]
    assert items() == {}


@pytest.mark.parametrize(("status", "refused"), [(404, False), (401, True)])
def test_an_api_is_refused_for_its_answer(status: int, *, refused: bool) -> None:
    """An API without a health path is accepted; a wrong key is refused."""
    with running_webhook(status=status) as server:
        values = {prefect.settings.PREFECT_API_URL: server.url}
        with (
            prefect.settings.temporary_settings(values),
            pytest.raises(SettingsError, match="unhealthy")
            if refused
            else nullcontext(),
        ):
            start_server()


def test_a_flow_run_that_has_died_is_found(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor must find a run that is running only according to the server."""
    monkeypatch.setattr(runs, "BEGINNING_SECONDS", 0)
    before = runs.check_prefect(CheckContext(lease={}))
    for flow_name in ("migrate-enterprises", "another"):
        flow = api.post("/flows/", json={"name": flow_name}).json()
        made = {"flow_id": flow["id"], "name": f"dead-{flow_name}"}
        flow_run = api.post("/flow_runs/", json=made).json()
        running = {"state": {"type": "RUNNING"}, "force": True}
        api.post(f"/flow_runs/{flow_run['id']}/set_state", json=running)

    dead = runs.check_prefect(CheckContext(lease={}))

    assert before.status == "ok"
    assert dead.status == "fail"
    assert "dead-migrate-enterprises" in dead.found
    assert "dead-another" not in dead.found
    assert "prefect flow-run delete" in dead.remedy
