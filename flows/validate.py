"""Validation of either side as it is now against its suite; nothing is written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice

import numpy as np
import pandas as pd
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.extract import extract_enterprises, plan_extraction, sample_ids
from flows.mapping import load_mapping
from flows.mapping.model import Mapping
from flows.models import (
    ENTERPRISE_TABLE,
    PROVENANCE_ATTRIBUTES,
    Item,
    MigrateOptions,
    PartitionSpec,
    SourceTable,
)
from flows.prepare import MadeItems, make_items, subject_of
from flows.run.preflight import read_target_indexes
from flows.run.process_workers import warm_up
from flows.settings import Settings, load_settings
from flows.stores.dynamodb.indexes import key_limits
from flows.stores.dynamodb.schema import require_table
from flows.stores.dynamodb.table import filter_of, open_table
from flows.stores.postgres.schema import describe_sources
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
    options, progress = options or MigrateOptions(), progress or Progress()
    made: list[MadeItems] = []
    with _opened(options) as (connection, settings, sources):
        limits = key_limits(read_target_indexes(settings, sources))
        for source in sources:
            plan = plan_extraction(connection, source, options.partition_rows)
            whole = PartitionSpec(
                "validate",
                0,
                source,
                duplicate_ids=plan.duplicate_ids,
                duplicate_keys=plan.duplicate_keys,
            )
            progress.begin("validating rows and their items", plan.rows)
            for partition in whole.of_ranges(plan.ranges):
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
    options, progress = options or MigrateOptions(), progress or Progress()
    reports = []
    with _opened(options) as (connection, _, sources):
        for source in sources:
            specs, total = _specs(connection, source, options.partition_rows, sample)
            progress.begin("validating rows", total)
            for spec in specs:
                part = extract_enterprises(connection, spec)
                reports.append(validate_enterprises(part, subject=subject_of(source)))
                progress.advance(len(part))
    return ValidationReport.merged(reports)


def validate_target(
    *, sample: int | None = None, progress: Progress | None = None
) -> ValidationReport:
    """Validate the items that are in the table, or the first *sample* of each entity.

    Raises:
        Refused: the table cannot be read as requested, or the source is needed and
            cannot be described.
    """
    settings = load_settings()
    mapping = load_mapping(settings)
    table = open_table(settings)
    require_table(table)
    progress = progress or Progress()
    reports = []
    for source in _sources_of_items(settings, mapping):
        subject = subject_of(source)
        attributes = source.attributes_with(provenance=True)
        pages = table.scan(attributes, filter_of(source))
        chosen = islice(chain.from_iterable(pages), sample)
        reports.append(validate_items(_frame([], 0, source), subject=subject))
        seen = 0
        progress.begin("validating items")
        while part := list(islice(chosen, PART_ITEMS)):
            reports.append(validate_items(_frame(part, seen, source), subject=subject))
            seen += len(part)
            progress.advance(len(part))
    return ValidationReport.merged(reports)


@contextmanager
def _opened(
    options: MigrateOptions,
) -> Iterator[tuple[Connection, Settings, tuple[SourceTable, ...]]]:
    """Lock and describe the sources of the entities that the options name, or all."""
    settings, wanted = load_settings(), options.entity
    # Before anything connects, since the file may have faults.
    mapping = load_mapping(settings)
    with open_watched(settings) as (connection, _):
        sources = describe_held(connection, settings, mapping)
        chosen = (one for one in sources if not wanted or one.entity in wanted)
        yield connection, settings, tuple(chosen)


def _sources_of_items(
    settings: Settings, mapping: Mapping | None
) -> tuple[SourceTable, ...]:
    """Return the sources whose items are validated; the built-in one is known."""
    if mapping is None:
        return (ENTERPRISE_TABLE,)
    with open_watched(settings) as (connection, _):
        return describe_sources(connection, settings, mapping, whole=False)


def _specs(
    connection: Connection, source: SourceTable, rows: int, sample: int | None
) -> tuple[list[PartitionSpec], int]:
    """Return the partitions to read, and the number of their rows."""
    plan = plan_extraction(connection, source, rows)
    whole = PartitionSpec(
        run_id="validate",
        number=1,
        source=source,
        duplicate_ids=plan.duplicate_ids,
        duplicate_keys=plan.duplicate_keys,
    )
    if sample is not None:
        ids = sample_ids(connection, source, sample)
        return [replace(whole, ids=ids)], len(ids)
    return list(whole.of_ranges(plan.ranges)), plan.rows


def _frame(items: Sequence[Item], first: int, source: SourceTable) -> pd.DataFrame:
    """Return unchanged items as a frame; a label is an item's position in the scan."""
    columns = [*source.item_attributes]
    if any(name in item for item in items for name in PROVENANCE_ATTRIBUTES):
        columns += PROVENANCE_ATTRIBUTES
    rows = [[item.get(name) for name in columns] for item in items]
    labels = np.arange(first, first + len(rows))
    frame = pd.DataFrame(rows, columns=columns, index=labels, dtype=object)
    # Items have no source id, so their id identifies them.
    return frame.assign(source_id=frame["id"])
