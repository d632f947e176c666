"""The content of a run's page in Prefect: progress, counts, differences, files.

The files are the report. The page is a summary of them, without values of rows, which
Prefect would keep. A page that cannot be created, e.g. without an API, changes no
verdict.

A page lists the content of the run itself before that of its tasks, each in no order.
So the verdict belongs to the run, and everything else to a task.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from socket import gethostname
from typing import Any

from prefect import task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from flows.models import Difference
from flows.reconciliation.report import ReconciliationReport
from flows.reports.validation_results import reason_lines
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

    def create() -> None:
        made.append(create_progress_artifact(key="migration-progress", **describe(0)))

    show_below("show-progress", create)

    def show(done: int) -> None:
        with tolerating():
            for artifact in made:
                update_progress_artifact(artifact, **describe(done))

    return show


def show_below(name: str, show: Callable[[], None]) -> None:
    """Create content in a task, so that the page lists it below the verdict."""
    with tolerating():
        # Without parameters, which Prefect would search for the results of tasks.
        below = task(name=name, cache_policy=NO_CACHE, persist_result=False)
        below(tolerating()(show))()


def show_migration(report: MigrationReport) -> None:
    """Show how a run of migrate ended."""
    show_verdict("migration", report, step_after_run(report).command)
    found, ledger = report.reconciliation, [asdict(report.ledger)]
    reasons = reason_lines(report.validation, report.quarantine)

    def show() -> None:
        show_table("migration-ledger", ledger, "Where the rows ended.")
        show_table("validation-reasons", reasons, "Rows by reason of the contract.")
        if found is not None:
            show_comparison("migration", found)

    show_below("show-counts", show)


def show_reconciliation(report: ReconciliationReport) -> None:
    """Show what a reconciliation found, and what is new in it."""
    show_verdict("reconciliation", report, step_after_reconciling(report).command)
    show_below("show-counts", lambda: show_comparison("reconciliation", report))


def show_comparison(kind: str, found: ReconciliationReport) -> None:
    """Show the counts by class, and the first differences without their values."""
    new = set(found.new_classes)
    classes = [
        {"class": name, "rows or items": count, "new": "new" if name in new else ""}
        for name, count in found.shown.items()
    ]
    show_table(f"{kind}-classes", classes, "Rows and items by class.")
    lines = difference_lines(found.found[:SHOWN_DIFFERENCES])
    said = f"{len(lines)} of {len(found.found)}; values and all others are in the files"
    show_table(f"{kind}-differences", lines, f"{said}.")


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


def show_table(key: str, lines: list[Any], description: str) -> None:
    """Show lines as a table; show nothing if there are none."""
    if lines:
        with tolerating():
            create_table_artifact(lines, key, description)


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
        create_markdown_artifact(text, f"{kind}-verdict")
