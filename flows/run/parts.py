"""The parts of a run, one per entity: its rows, its partitions and its plan."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from flows.errors import SourceError
from flows.extract import ExtractionPlan, plan_extraction
from flows.models import (
    MigrateOptions,
    PartitionSpec,
    SourceTable,
    add_counts,
    is_usual,
)
from flows.planning.estimate import Measured, measure_rows
from flows.run.preflight import Stores
from flows.run.replay import ids_to_replay, rows_gone
from flows.run.schema_drift import other_columns_changed, unusual_rows
from flows.run.trial import Trial, pick_ids, plan_trial
from flows.state.runs import PastRun

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EntityRun:
    """The part of a run that moves one entity."""

    rows: int
    # What all its partitions have in common.
    spec: PartitionSpec
    partitions: tuple[PartitionSpec, ...]
    warnings: tuple[str, ...] = ()
    measured: Measured | None = None
    trial: Trial | None = None
    # Whether only the rows with some ids are moved.
    chosen: bool = False

    @property
    def source(self) -> SourceTable:
        """Return the source of the entity."""
        return self.spec.source

    @property
    def ids(self) -> tuple[str, ...] | None:
        """Return the ids of the rows that a replay or a trial moves; else None."""
        if not self.chosen:
            return None
        return tuple(one for spec in self.partitions for one in spec.ids or ())


def plan_entities(
    options: MigrateOptions, stores: Stores, spec: PartitionSpec, past: PastRun | None
) -> tuple[EntityRun, ...]:
    """Find the partitions of each entity, numbered through; nothing is written.

    *spec* has what all partitions of the run have in common. A resumed run has only the
    unfinished partitions of the *past* one.

    Raises:
        SourceError: there are no rows, or a text id is not a UUID.
        SettingsError: the quarantine to replay has no rows.
    """
    number, parts = 0, list[EntityRun]()
    replayed = _rows_to_replay(stores, options)
    for source in stores.sources:
        one = replace(spec, source=source)
        if replayed is not None:
            part = _plan_replay(
                options, stores.of(source), one, replayed[source.entity]
            )
        elif options.limit is not None:
            part = _plan_trial(options, stores.of(source), one, options.limit)
        else:
            part = _plan_entity(options, stores.of(source), one, past)
        if past is None:
            renumbered = _numbered(part.partitions, number)
            part = replace(part, partitions=tuple(renumbered))
        number += len(part.partitions)
        parts.append(part)
    _require_rows(parts, options)
    return tuple(parts)


def _plan_entity(
    options: MigrateOptions, stores: Stores, spec: PartitionSpec, past: PastRun | None
) -> EntityRun:
    source, since = stores.source, spec.since
    rows = options.partition_rows
    plan = plan_extraction(stores.connection, source, rows, since=since)
    plan = replace(plan, warnings=(*plan.warnings, *_drift(stores, plan, options)))
    measured = None
    # Only of the built-in items does SQL know the size.
    if is_usual(source) and not (since or past):
        measured = measure_rows(
            stores.connection,
            source,
            provenance=stores.settings.item_provenance,
            rows=plan.rows,
            indexes=stores.table.indexes,
        )
    spec = _with_duplicates(spec, plan)
    ranges = past.pending.get(source.entity, ()) if past else plan.ranges
    partitions = tuple(spec.of_ranges(ranges))
    return EntityRun(plan.rows, spec, partitions, plan.warnings, measured)


def _plan_trial(
    options: MigrateOptions, stores: Stores, spec: PartitionSpec, limit: int
) -> EntityRun:
    """Pick the rows of a trial; there are no others in its partitions."""
    plan = plan_trial(stores)
    warnings = _drift(stores, plan, options)
    ids = pick_ids(stores.connection, stores.source, limit)
    spec = _with_duplicates(spec, plan)
    return EntityRun(
        rows=len(ids),
        spec=spec,
        partitions=tuple(spec.of_ids(ids, options.partition_rows)),
        warnings=(*plan.warnings, *warnings),
        trial=Trial(len(ids), plan.rows),
        chosen=True,
    )


def _plan_replay(
    options: MigrateOptions, stores: Stores, spec: PartitionSpec, ids: Sequence[str]
) -> EntityRun:
    """Find the rows that are in quarantine, regardless of the rest of the table."""
    source, rows = stores.source, options.partition_rows
    plan = plan_extraction(stores.connection, source, rows, since=spec.since)
    there, gone = rows_gone(stores.connection, source, ids)
    spec = _with_duplicates(spec, plan)
    return EntityRun(
        rows=there,
        spec=spec,
        partitions=tuple(spec.of_ids(ids, rows)),
        warnings=(*plan.warnings, *_drift(stores, plan, options), *gone),
        chosen=True,
    )


def _rows_to_replay(
    stores: Stores, options: MigrateOptions
) -> dict[str, list[str]] | None:
    if options.replay is None:
        return None
    entities = [source.entity for source in stores.sources]
    return ids_to_replay(stores.state, stores.migration, options.replay, entities)


def _with_duplicates(spec: PartitionSpec, plan: ExtractionPlan) -> PartitionSpec:
    return replace(
        spec, duplicate_ids=plan.duplicate_ids, duplicate_keys=plan.duplicate_keys
    )


def _numbered(
    partitions: Sequence[PartitionSpec], before: int
) -> Iterator[PartitionSpec]:
    """Yield partitions with numbers that follow those of the entities *before*."""
    for number, spec in enumerate(partitions, before + 1):
        yield replace(spec, number=number)


def _require_rows(parts: Sequence[EntityRun], options: MigrateOptions) -> None:
    """Refuse a source without rows; of several entities, one may have none.

    Raises:
        SourceError: no entity has a row.
    """
    chosen = options.replay is not None
    if options.allow_empty or options.since or chosen or any(one.rows for one in parts):
        return
    names = " and ".join(one.source.name for one in parts)
    message = f"{names} {'has' if len(parts) == 1 else 'have'} no rows."
    raise SourceError(message, "Give --allow-empty if that is right.")


def _drift(
    stores: Stores, plan: ExtractionPlan, options: MigrateOptions
) -> tuple[str, ...]:
    """Return warnings about columns and row count, compared with the last run."""
    key = stores.source_key(stores.source)
    warnings = other_columns_changed(
        stores.columns(stores.source)["types"], stores.state.source.last_columns(key)
    )
    if options.since is None and options.replay is None and options.limit is None:
        profile = stores.state.source.last_profile(key)
        warnings = (*warnings, *unusual_rows(plan.rows, profile))
    for warning in warnings:
        logger.warning("%s", warning)
    return warnings


def measured_of(parts: Sequence[EntityRun]) -> Measured | None:
    """Return what all items of a run measure; None if one entity was not measured."""
    measures = [one.measured for one in parts]
    total: Measured | None = None
    for one in measures:
        if one is None:
            return None
        total = one if total is None else total + one
    return total


def trial_of(parts: Sequence[EntityRun]) -> Trial | None:
    """Return the size of a trial of all entities; None for another run."""
    sizes = [one.trial for one in parts if one.trial]
    if not sizes:
        return None
    total = add_counts(*({"rows": one.rows, "of": one.of} for one in sizes))
    return Trial(total["rows"], total["of"])
