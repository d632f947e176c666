"""The contenders, each in a separate process: ``-m tests.benchmarks.contenders X``.

The environment names the stores, as it does for the program; ``ITEMS_FILE`` has the
ready-made items. Each contender prints its figures as JSON. Imports are inside the
functions, since ``put_df`` runs in another environment, without this program.
"""

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tests.benchmarks.meter import Meter, cpu_seconds

if TYPE_CHECKING:
    import pandas as pd

# Rows per partition, per row group of the ready-made items, and per load: the same
# for all contenders.
PARTITION_ROWS = 25_000


def load_by_program() -> None:
    """Load ready-made items with the program's loader."""
    from flows.load import load_items
    from flows.models import Outcome
    from flows.settings import load_settings
    from flows.stores.dynamodb.table import open_table

    table, meter, written = open_table(load_settings()), Meter(), 0
    for frame in _ready_made():
        with meter.running():
            report = load_items(frame, table, table_was_empty=True)
        written += report.count(Outcome.WRITTEN)
    meter.report(written)


def load_by_batch_writer() -> None:
    """Load ready-made items with boto3's batch writer."""
    import boto3

    table = boto3.resource("dynamodb").Table(_table_name())
    meter, written = Meter(), 0
    for frame in _ready_made():
        items = frame.drop(columns="source_id")
        with meter.running(), table.batch_writer() as batch:
            for item in items.to_dict("records"):
                batch.put_item(Item=item)
        written += len(items)
    meter.report(written)


def load_by_put_df() -> None:
    """Load ready-made items with awswrangler."""
    import awswrangler

    meter, written = Meter(), 0
    for frame in _ready_made():
        items = frame.drop(columns="source_id")
        with meter.running():
            awswrangler.dynamodb.put_df(items, _table_name())
        written += len(items)
    meter.report(written)


def extract_by_program() -> None:
    """Extract every partition with the program."""
    partitions, meter, read = _partitions(), Meter(), 0
    with meter.running():
        for frame in partitions:
            read += len(frame)
    meter.report(read)


def extract_by_read_sql() -> None:
    """Read the table with pandas."""
    from tests.benchmarks.straightforward import read_rows

    meter = Meter()
    with meter.running():
        rows = read_rows(os.environ["DATABASE_URL"])
    meter.report(len(rows))


def whole_by_program() -> None:
    """Migrate; report the CPU seconds before the reconciliation separately."""
    meter = Meter()
    with meter.running():
        begun = cpu_seconds()
        from flows import pipeline
        from flows.models import MigrateOptions

        moved: list[float] = []
        finish = pipeline.finish_run

        def finish_run(*arguments: Any) -> Any:
            moved.append(cpu_seconds() - begun)
            return finish(*arguments)

        pipeline.finish_run = finish_run
        options = MigrateOptions.model_validate_json(os.environ["MIGRATE_OPTIONS"])
        report = pipeline.migrate(options).asdict()
    ledger = report["ledger"]
    meter.report(
        ledger["written"],
        moving_cpu_seconds=round(moved[0], 2) if moved else None,
        status=report["status"],
        ledger=ledger,
        seconds=report["seconds"],
        capacity=report["capacity"],
    )


def whole_by_script() -> None:
    """Move and compare with the straightforward script."""
    meter = Meter()
    with meter.running():
        from tests.benchmarks.straightforward import move

        counts = move(os.environ["DATABASE_URL"], _table_name())
    meter.report(counts["both"], counts=counts)


def reconcile_by_program() -> None:
    """Reconcile the result of a migration."""
    meter = Meter()
    with meter.running():
        from flows import pipeline

        report = pipeline.reconcile().asdict()
    meter.report(report["matched"], status=report["status"])


def reconcile_by_merge() -> None:
    """Compare with a paginator and a merge."""
    meter = Meter()
    with meter.running():
        from tests.benchmarks.straightforward import reconcile

        counts = reconcile(os.environ["DATABASE_URL"], _table_name())
    meter.report(counts["both"], counts=counts)


def mapped_by_program() -> None:
    """Migrate twelve attributes of mixed types."""
    whole_by_program()


def mapped_by_script() -> None:
    """Move and compare twelve attributes of mixed types with a script."""
    meter = Meter()
    with meter.running():
        from tests.benchmarks.mapped import move

        counts = move(os.environ["DATABASE_URL"], _table_name())
    meter.report(counts["both"], counts=counts)


def mapped_reconcile_by_program() -> None:
    """Reconcile the result of the migration of twelve attributes."""
    reconcile_by_program()


def mapped_reconcile_by_script() -> None:
    """Compare twelve attributes of mixed types with a script."""
    meter = Meter()
    with meter.running():
        from tests.benchmarks.mapped import reconcile

        counts = reconcile(os.environ["DATABASE_URL"], _table_name())
    meter.report(counts["both"], counts=counts)


def make_items() -> None:
    """Write the items that the loaders load."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from flows.transform import transform_enterprises

    meter, made, writer = Meter(), 0, None
    with meter.running():
        for rows in _partitions():
            table = pa.Table.from_pandas(transform_enterprises(rows).astype("str"))
            writer = writer or pq.ParquetWriter(os.environ["ITEMS_FILE"], table.schema)
            writer.write_table(table)
            made += len(rows)
        if writer is not None:
            writer.close()
    meter.report(made)


def _partitions() -> "Iterator[pd.DataFrame]":
    """Import the modules; reading begins with the first partition."""
    from flows.extract import extract_enterprises, plan_extraction
    from flows.models import PartitionSpec
    from flows.settings import load_settings
    from flows.stores.postgres.schema import describe_source
    from flows.stores.postgres.session import open_source

    def read() -> "Iterator[pd.DataFrame]":
        settings = load_settings()
        with open_source(settings) as connection:
            source = describe_source(connection, settings)
            plan = plan_extraction(connection, source, PARTITION_ROWS)
            for number, lower, upper in plan.ranges:
                spec = PartitionSpec(
                    run_id="benchmark",
                    number=number,
                    source=source,
                    lower=lower,
                    upper=upper,
                )
                yield extract_enterprises(connection, spec)

    return read()


def _ready_made() -> "Iterator[pd.DataFrame]":
    import pyarrow.parquet as pq

    file = pq.ParquetFile(os.environ["ITEMS_FILE"])
    for number in range(file.num_row_groups):
        yield file.read_row_group(number).to_pandas().astype(object)


def _table_name() -> str:
    return os.environ["DYNAMODB_ENTERPRISE_TABLE"]


CONTENDERS: dict[str, Callable[[], None]] = {
    name: function
    for name, function in list(globals().items())
    if name.startswith(
        ("load_by", "extract_by", "whole_by", "reconcile_by", "mapped_", "make_")
    )
}

if __name__ == "__main__":
    CONTENDERS[sys.argv[1]]()
