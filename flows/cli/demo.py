"""``enterprises demo``: a migration between embedded stores."""

from typing import Annotated

import typer

from flows.cli.exits import finish, reporting
from flows.cli.migrate import run_migration, start_prefect
from flows.cli.options import AsJson
from flows.cli.output import say, show_kept


def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep both stores running.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Migrate 5,000 sample rows between two embedded stores."""
    with reporting(as_json=as_json, reads_settings=False):
        from flows.demo.stores import (
            SAMPLE_QUARANTINED,
            embedded_stores,
            use_own_prefect,
        )
        from flows.models import MigrateOptions

        use_own_prefect()
        say("Starting PostgreSQL, DynamoDB and Prefect on this machine …")
        options = MigrateOptions(allow_quarantined=SAMPLE_QUARANTINED)
        with embedded_stores(keep=keep, meanwhile=start_prefect) as stores:
            say("Migrating the sample …")
            report = run_migration(options, use_prefect=True)
            if keep:
                show_kept(stores.environment, stores.postgres.pid, stores.dynamodb.pid)
        finish(report, as_json=as_json)
