"""The content of a run's page in Prefect: progress, counts, differences, files.

The files are the report. The page is a summary of them, without values of rows, which
Prefect would keep. A page that cannot be created, e.g. without an API, changes no
verdict.

A page lists its artifacts in no order, so one of them has the verdict and all counts
below it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname
from typing import Any

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from flows.models import Difference
from flows.reconciliation.report import ReconciliationReport
from flows.run.next_commands import step_after_reconciling, step_after_run
from flows.run.report import MigrationReport

logger = logging.getLogger(__name__)

SHOWN_DIFFERENCES = 100
PERCENT = 100.0


@contextmanager
def tolerating() -> Iterator[None]:
    """Log a warning instead of raising if Prefect does not accept the content."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        logger.warning("the page in Prefect is incomplete: %s", type(error).__name__)


def tag_run(*tags: str) -> None:
    """Add tags to the current run."""
    with tolerating(), get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags=sorted({*flow_run.tags, *tags}))


def read_run(run: FlowRun) -> FlowRun:
    """Return a run as it is now: a worker knows only its original name."""
    with tolerating(), get_client(sync_client=True) as client:
        return client.read_flow_run(run.id)
    return run


def show_progress(total: int) -> Callable[[int], None]:
    """Show that none of *total* partitions is done; return a function for the next."""

    def describe(done: int) -> dict[str, Any]:
        share = PERCENT * done / total if total else PERCENT
        said = f"{done} of {total} partitions are done."
        return {"progress": round(share, 1), "description": said}

    # Prefect's types include coroutines.
    made: list[Any] = []
    with tolerating():
        made.append(create_progress_artifact(key="migration-progress", **describe(0)))

    def show(done: int) -> None:
        with tolerating():
            for artifact in made:
                update_progress_artifact(artifact, **describe(done))

    return show


def show_migration(report: MigrationReport) -> None:
    """Show how a run of migrate ended."""
    show_verdict("migration", report, step_after_run(report).command)
    if report.reconciliation is not None:
        show_differences("migration", report.reconciliation.found)


def show_reconciliation(report: ReconciliationReport) -> None:
    """Show what a reconciliation found, and what is new in it."""
    show_verdict("reconciliation", report, step_after_reconciling(report).command)
    show_differences("reconciliation", report.found)


def show_differences(kind: str, found: Sequence[Difference]) -> None:
    """Show the first differences without their values, if there are any."""
    if not found:
        return
    lines = difference_lines(found[:SHOWN_DIFFERENCES])
    said = f"{len(lines)} of {len(found)}; values and all others are in the files."
    with tolerating():
        create_table_artifact(lines, f"{kind}-differences", said)


def difference_lines(found: Sequence[Difference]) -> list[dict[str, str]]:
    """Return a line for each difference: its key, and the names of its fields."""
    return [
        {
            "class": one.kind,
            "source id": one.source_id or "",
            "id": one.id,
            "fields": ", ".join(one.fields),
        }
        for one in found
    ]


def show_verdict(
    kind: str, report: MigrationReport | ReconciliationReport, command: str | None
) -> None:
    """Show the verdict, the command that comes next, the files, and all counts.

    The files are on the machine of the worker. A page of Prefect cannot link to them,
    so their paths are shown as code.
    """
    with tolerating():
        files = {name: path for name, path in (report.files or {}).items() if path}
        text = report.verdict
        if "report_markdown" in files:
            text = Path(files["report_markdown"]).read_text("utf-8")
        verdict, *tables = text.partition("\n## ")
        lines = [f"\n## Next\n\n`{command}`\n"] if command else []
        lines += ["\n## Files\n", f"On {gethostname()}:\n"]
        lines += [f"- `{Path(path).absolute()}`" for path in files.values()]
        text = "".join([verdict, "\n".join(lines), "\n", *tables])
        create_markdown_artifact(text, f"{kind}-verdict", report.verdict)
