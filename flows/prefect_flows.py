"""The Prefect flows: thin tasks over the driver in ``flows.pipeline``.

No class is defined here: Prefect loads this file under another module name.
``flows.prefect_artifacts`` creates the content of the pages of its runs.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from typing import Annotated, Any

# Prefect reads its settings when it is imported; settings of the user win.
for _name, _value in {
    # Usage statistics of the server, and of the client.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,validation",
    # The same functions are called outside of flows too, by notebooks.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}.items():
    os.environ.setdefault(_name, _value)

from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import TerminationSignal
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed
from prefect.utilities.urls import url_for
from pydantic import Field

from flows import pipeline
from flows.errors import (
    CutoverDeclared,
    LeaseHeld,
    MigrationError,
    SettingsError,
    Unproven,
)
from flows.models import MigrateOptions
from flows.prefect_alerts import send_alert
from flows.prefect_artifacts import (
    read_run,
    show_migration,
    show_reconciliation,
    tag_run,
)
from flows.prefect_tasks import PrefectRunner, compare, hide_faults
from flows.reconciliation.report import ReconciliationReport
from flows.run.report import MigrationReport
from flows.settings import load_settings
from flows.settings.project import describe_origin
from flows.timing import Progress, logging_progress

logger = logging.getLogger(__name__)

WITHOUT_PREFECT = (
    "Start `prefect server start` and set PREFECT_API_URL to it, or give --no-prefect."
)


def alert(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send an alert: a run has failed, crashed, or was cancelled."""
    name = read_run(flow_run).name
    send_alert(
        f"{name}: {state.name}. {state.message or ''}".strip(),
        event=state.type.value.lower(),
        flow=flow.name,
        run=name,
        flow_run_id=str(flow_run.id),
        page=url_for("flow-run", obj_id=flow_run.id),
    )


ALERTS: dict[str, Any] = {
    name: [alert] for name in ("on_failure", "on_crashed", "on_cancellation")
}


# The progress that a caller in this process watches: Prefect passes a flow only values
# that it can store.
watched: ContextVar[Progress | None] = ContextVar("watched", default=None)


def describe_run() -> dict[str, str]:
    """Return mode, source and table of the current run, without secrets."""
    parameters = flow_run.parameters
    modes = {
        "resume": "resume",
        "replay": "replay",
        "since": "incremental",
        "limit": "trial",
    }
    options = parameters.get("options")
    mode = next((modes[name] for name in modes if getattr(options, name, None)), "full")
    if parameters.get("sample"):
        mode = "sample"
    try:
        settings = load_settings()
        source = settings.source_arguments()
    except MigrationError:
        # The flow itself reports the error.
        return {"mode": mode}
    host = str(source.get("host") or source.get("service") or "")
    host = "localhost" if not host or host.startswith("/") else host
    return {
        "mode": mode,
        "source": f"{host}/{source.get('dbname', '')}",
        "from": settings.source_table,
        "table": settings.dynamodb_enterprise_table,
    }


def name_run() -> str:
    """Return a readable name of a run: its mode, its source and its table."""
    about = describe_run()
    name = f"{flow_run.flow_name.partition('-')[0]} {about['mode']}"
    if "source" not in about:
        return name
    return f"{name}: {about['source']} {about['from']}, {about['table']}"


def prepare_run() -> None:
    """Tag the run, and show its log lines on its page."""
    tag_run(*(f"{name}:{what}" for name, what in describe_run().items()))
    if deployment.id is not None:
        # No other code sets a level there.
        logging.getLogger("flows").setLevel(logging.INFO)
        logger.info("settings: %s", describe_origin())


def fail_with(error: MigrationError) -> State[None]:
    """End the run as failed, with the error's message and without a traceback.

    Prefect raises the error where the flow is called.
    """
    return Failed(message=str(error), data=error)


def is_fault(record: logging.LogRecord) -> bool:
    """Return whether a log line is about a fault, not about a ``MigrationError``."""
    return not (record.exc_info and isinstance(record.exc_info[1], MigrationError))


# The process of a deployed run logs again, with a traceback, why the flow failed.
for _name in ("prefect.engine", "prefect.flow_runs"):
    logging.getLogger(_name).addFilter(is_fault)


@flow(
    name="migrate-enterprises", flow_run_name=name_run, persist_result=False, **ALERTS
)
def migrate_enterprises(
    options: MigrateOptions | None = None,
) -> MigrationReport | State[None]:
    """Move the enterprises from PostgreSQL to DynamoDB, and prove it.

    A deployment's incremental run ends as completed, named Skipped, once the cutover is
    declared and while another run is in progress, so that its schedule can stay active.

    Args:
        options: Options of the run; the stores are those of the worker's environment.

    Raises:
        Unproven: the run finished without a proof.
        Incomplete: the run stopped before its end.
    """
    options = options or MigrateOptions()
    try:
        prepare_run()
        with _following() as progress:
            report = hide_faults(pipeline.migrate)(
                options,
                runner=lambda inner: PrefectRunner(inner, options.workers),
                progress=progress,
                signals=(TerminationSignal,),
            )
        show_migration(report)
        report.raise_for_failures()
    except MigrationError as error:
        fenced = isinstance(error, (CutoverDeclared, LeaseHeld))
        if fenced and deployment.id is not None and options.since is not None:
            return Completed(name="Skipped", message=error.message)
        return fail_with(error)
    return report


@flow(
    name="reconcile-enterprises", flow_run_name=name_run, persist_result=False, **ALERTS
)
def reconcile_enterprises(
    sample: Annotated[
        int | None,
        Field(ge=1, description="Compare this many random rows; that is no proof."),
    ] = None,
    max_read_units: Annotated[
        float | None,
        Field(ge=1, description="Read units per second that the run may consume."),
    ] = None,
    allow_empty: Annotated[  # noqa: FBT002 - a parameter of a deployment
        bool, Field(description="Accept a source without rows.")
    ] = False,
) -> ReconciliationReport | State[None]:
    """Compare every row with every item, and send an alert if a difference is new.

    If the previous reconciliation had all classes of differences already, the run ends
    as completed, named Different: no second alert is sent. If it proves nothing, as the
    previous one did, it ends as completed, named Unproven. If it is not clean while a
    migration is in progress, it ends as completed, named Skipped.

    Args:
        sample: Compare this many random rows; that is no proof.
        max_read_units: Read units per second that the run may consume from the table.
        allow_empty: Accept a source without rows.

    Raises:
        Unproven: a class of differences is new, or nothing is proven for the first
            time.
    """
    try:
        prepare_run()
        report = compare(sample, max_read_units, allow_empty=allow_empty)
    except MigrationError as error:
        return fail_with(error)
    show_reconciliation(report)
    if report.under_way and report.status != "clean":
        return Completed(name="Skipped", message=report.verdict)
    known = [past["status"] for past in report.history[-2:-1]]
    if report.new_classes or (report.status == "unproven" and "unproven" not in known):
        verdict = Unproven(f"{report.verdict} {report.appeared}", _where(report))
        verdict.report = report
        return fail_with(verdict)
    if report.status in {"different", "unproven"}:
        name = report.status.capitalize()
        return Completed(name=name, message=report.verdict)
    return report


@contextmanager
def _following() -> Iterator[Progress]:
    """Yield the progress that the caller watches, or else one that is logged."""
    if (progress := watched.get()) is not None:
        yield progress
        return
    progress = Progress()
    with logging_progress(progress):
        yield progress


def _where(report: ReconciliationReport) -> str:
    return f"See {(report.files or {}).get('report')}."


def start_server() -> None:
    """Ensure that a Prefect API answers: the configured one, or an ephemeral server.

    Raises:
        SettingsError: no Prefect API answers.
    """
    try:
        with get_client(sync_client=True) as client:
            where = client.api_url.copy_with(userinfo=b"")
            failed = client.api_healthcheck()
    except (OSError, RuntimeError, ValueError) as error:
        message = f"No Prefect API is set, and none could be started: {error}"
        raise SettingsError(message, WITHOUT_PREFECT) from None
    answer = getattr(getattr(failed, "response", None), "status_code", None)
    # Not every Prefect API has a health endpoint.
    if failed is not None and answer != HTTPStatus.NOT_FOUND:
        message = f"The Prefect API at {where} is unhealthy ({type(failed).__name__})."
        raise SettingsError(message, WITHOUT_PREFECT)
