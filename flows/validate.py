"""Validation of either side as it is now against its suite; nothing is written."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice

import numpy as np
import pandas as pd
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.extract import extract_enterprises, plan_extraction, sample_ids
from flows.models import (
    ITEM_ATTRIBUTES,
    PROVENANCE_ATTRIBUTES,
    Item,
    MigrateOptions,
    PartitionSpec,
    SourceTable,
)
from flows.prepare import MadeItems, make_items
from flows.run.preflight import read_target_indexes
from flows.run.process_workers import warm_up
from flows.settings import load_settings
from flows.stores.dynamodb.indexes import key_limits
from flows.stores.dynamodb.schema import require_table
from flows.stores.dynamodb.table import open_table
from flows.stores.postgres.snapshots import describe_held
from flows.stores.postgres.watch import open_watched
from flows.timing import Progress
from validation.report import ValidationReport
from validation.validate import validate_enterprises, validate_items

PART_ITEMS = 25_000


def validate(
    options: MigrateOptions | None = None, *, progress: Progress | None = None
) -> tuple[ValidationReport, ValidationReport]:
    """Validate the rows, and the items that they would become; write nothing.

    Raises:
        Refused: the source cannot be read as requested, or the table's indexes would
            refuse every item.
    """
    warm_up(1)
    settings = load_settings()
    limits = key_limits(read_target_indexes(settings))
    options, progress = options or MigrateOptions(), progress or Progress()
    made: list[MadeItems] = []
    with open_watched(settings) as (connection, _):
        source = describe_held(connection, settings)
        plan = plan_extraction(connection, source, options.partition_rows)
        spec = PartitionSpec("validate", 0, source, duplicate_ids=plan.duplicate_ids)
        progress.begin("validating rows and their items", plan.rows)
        for partition in spec.of_ranges(plan.ranges):
            rows = extract_enterprises(connection, partition)
            made.append(make_items(rows, source, settings, limits))
            progress.advance(len(rows))
    return (
        ValidationReport.merged([one.row_report for one in made]),
        ValidationReport.merged([one.item_report for one in made]),
    )


def validate_source(
    options: MigrateOptions | None = None,
    *,
    sample: int | None = None,
    progress: Progress | None = None,
) -> ValidationReport:
    """Validate the rows of the source, or a random *sample* of that many rows.

    Raises:
        Refused: the source cannot be read as requested.
    """
    settings = load_settings()
    rows = (options or MigrateOptions()).partition_rows
    with open_watched(settings) as (connection, _):
        source = describe_held(connection, settings)
        specs, total = _specs(connection, source, rows, sample)
        progress = progress or Progress()
        progress.begin("validating rows", total)
        reports = []
        for spec in specs:
            part = extract_enterprises(connection, spec)
            reports.append(validate_enterprises(part))
            progress.advance(len(part))
    return ValidationReport.merged(reports)


def validate_target(
    *, sample: int | None = None, progress: Progress | None = None
) -> ValidationReport:
    """Validate the enterprises that are in the table, or the first *sample* of them.

    Raises:
        Refused: the table cannot be read as requested.
    """
    settings = load_settings()
    table = open_table(settings)
    require_table(table)
    items = chain.from_iterable(table.scan((*ITEM_ATTRIBUTES, *PROVENANCE_ATTRIBUTES)))
    chosen = islice(items, sample)
    reports = [validate_items(_frame([], 0))]
    seen = 0
    progress = progress or Progress()
    progress.begin("validating items")
    while part := list(islice(chosen, PART_ITEMS)):
        reports.append(validate_items(_frame(part, seen)))
        seen += len(part)
        progress.advance(len(part))
    return ValidationReport.merged(reports)


def _specs(
    connection: Connection, source: SourceTable, rows: int, sample: int | None
) -> tuple[list[PartitionSpec], int]:
    """Return the partitions to read, and the number of their rows."""
    plan = plan_extraction(connection, source, rows)
    whole = PartitionSpec(
        run_id="validate", number=1, source=source, duplicate_ids=plan.duplicate_ids
    )
    if sample is not None:
        ids = sample_ids(connection, source, sample)
        return [replace(whole, ids=ids)], len(ids)
    return list(whole.of_ranges(plan.ranges)), plan.rows


def _frame(items: Sequence[Item], first: int) -> pd.DataFrame:
    """Return unchanged items as a frame; a label is an item's position in the scan."""
    columns = [*ITEM_ATTRIBUTES]
    if any(name in item for item in items for name in PROVENANCE_ATTRIBUTES):
        columns += PROVENANCE_ATTRIBUTES
    rows = [[item.get(name) for name in columns] for item in items]
    labels = np.arange(first, first + len(rows))
    frame = pd.DataFrame(rows, columns=columns, index=labels, dtype=object)
    # Items have no source id, so their id identifies them.
    return frame.assign(source_id=frame["id"])
