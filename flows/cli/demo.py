"""``enterprises demo``: a migration between embedded stores."""

from collections.abc import Callable
from typing import Annotated

import typer

from flows.cli.exits import finish, reporting
from flows.cli.migrate import run_migration, start_prefect
from flows.cli.options import AsJson, Verbose
from flows.cli.output import say, say_done, show_kept
from flows.cli.progress import showing_progress
from flows.run.next_commands import step_after_demo
from flows.timing import Progress

PREFECT = "Prefect's server"


def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep both stores running.")
    ] = False,
    mapped: Annotated[
        bool,
        typer.Option(
            "--mapped", help="Migrate enterprises and products by a mapping file."
        ),
    ] = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Migrate a sample of 5,000 rows between two embedded stores."""
    with reporting(as_json=as_json, reads_settings=False):
        from flows.demo.stores import (
            MAPPED_QUARANTINED,
            SAMPLE_QUARANTINED,
            embedded_stores,
            use_own_prefect,
        )
        from flows.models import MigrateOptions

        use_own_prefect()
        say("Starting what the demo needs on this machine:")
        allowed = MAPPED_QUARANTINED if mapped else SAMPLE_QUARANTINED
        options = MigrateOptions(allow_quarantined=allowed)
        with showing_progress() as progress:
            started = _announcing(progress)

            def start_prefect_too() -> None:
                _start_prefect()
                started(PREFECT)

            with embedded_stores(
                keep=keep,
                mapped=mapped,
                meanwhile=start_prefect_too,
                started=started,
            ) as stores:
                say("Migrating the sample:")
                report = run_migration(options, progress, use_prefect=True)
                if keep:
                    pids = stores.postgres.pid, stores.dynamodb.pid
                    show_kept(stores.environment, *pids)
        finish(report, step_after_demo(report), as_json=as_json, verbose=verbose)


def _announcing(progress: Progress) -> Callable[[str], None]:
    """Show what is still starting; return what to call with each that is there."""
    awaited = ["PostgreSQL", "DynamoDB", PREFECT]

    def show() -> None:
        progress.begin(f"starting {', '.join(awaited) or 'the migration'}")

    def started(description: str) -> None:
        say_done(description)
        # Removed one by one, since threads start these side by side.
        for one in [*awaited]:
            if description.startswith(one):
                awaited.remove(one)
        show()

    show()
    return started


def _start_prefect() -> None:
    from flows.run.process_workers import warm_up

    # While the server starts.
    warm_up(1)
    start_prefect()
