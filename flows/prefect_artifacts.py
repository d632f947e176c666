"""The content of a run's page in Prefect: progress, counts, differences, files.

The files are the report. The page is a summary of them, without values of rows, which
Prefect would keep. A page that cannot be created, e.g. without an API, changes no
verdict.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
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
from flows.reports.validation_results import reason_lines
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
    found = report.reconciliation
    reasons = reason_lines(report.validation, report.quarantine)
    with tolerating():
        table("migration-ledger", [asdict(report.ledger)], "Where the rows ended.")
        table("validation-reasons", reasons, report.verdict)
        show_files("migration", report.files, report.verdict)
        if found is not None:
            show_comparison("migration", found)


def show_reconciliation(report: ReconciliationReport) -> None:
    """Show what a reconciliation found, and what is new in it."""
    said = f"{report.verdict} {report.appeared}"
    with tolerating():
        show_files("reconciliation", report.files or {}, said)
        show_comparison("reconciliation", report)


def show_comparison(kind: str, found: ReconciliationReport) -> None:
    """Show the counts by class, and the first differences without their values."""
    new = set(found.new_classes)
    classes = [
        {"class": name, "rows or items": count, "new": "new" if name in new else ""}
        for name, count in found.shown.items()
    ]
    table(f"{kind}-classes", classes, found.verdict)
    lines = difference_lines(found.found[:SHOWN_DIFFERENCES])
    said = f"{len(lines)} of {len(found.found)}; values and all others are in the files"
    table(f"{kind}-differences", lines, f"{said}.")


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


def show_files(kind: str, files: Any, verdict: str) -> None:
    """Show the report's Markdown, and a link to the full report."""
    text = verdict
    if files.get("report_markdown"):
        text = Path(files["report_markdown"]).read_text("utf-8")
    create_markdown_artifact(text, f"{kind}-verdict", description=verdict)
    if files.get("report"):
        path = Path(files["report"]).absolute()
        # A browser opens it on the machine that has it, and shows the path elsewhere.
        create_link_artifact(path.as_uri(), str(path), f"{kind}-report", verdict)


def table(key: str, lines: list[Any], description: str) -> None:
    """Show lines as a table."""
    create_table_artifact(lines, key, description)
