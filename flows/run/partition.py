"""All steps of one partition: the input is a plain value, the output a plain ledger.

Every runner calls ``migrate_partition``, wherever it runs the partitions.
"""

import logging
import time
from dataclasses import replace
from functools import partial
from threading import Lock
from time import thread_time

import pandas as pd

from flows.errors import SnapshotLost, SourceError, SourceLocked, SourceLost
from flows.extract import extract_enterprises
from flows.load import LoadReport, load_items
from flows.models import Ledger, Outcome, PartitionLedger, PartitionSpec
from flows.prepare import flag_quarantined, make_items
from flows.run.context import RunContext
from flows.settings import Settings
from flows.state.runs import State
from flows.stores.dynamodb.backoff import Backoff
from flows.stores.dynamodb.indexes import key_limits
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import BATCH_ITEMS
from flows.stores.postgres.session import open_source
from flows.timing import Stopwatch

logger = logging.getLogger(__name__)

READS = 3
# If two threads run partitions, one is prepared while another is loaded. Two that are
# loaded at once would end at once, and leave the table idle.
_preparing, _loading = Lock(), Lock()


def migrate_partition(spec: PartitionSpec, context: RunContext) -> PartitionLedger:
    """Run all steps of one partition, and record its ledger.

    It opens its own connections, with the settings of the *context*, and writes only
    while the run of *spec* holds its lease. Repeated calls for the same partition
    converge: the items that are there are read and compared.

    Raises:
        Incomplete: the lease was lost, the deadline passed, or a store is unreachable.
    """
    begun, watch = thread_time(), Stopwatch()
    # A worker keeps its context for life, so the context has no run's deadline.
    context = replace(context, deadline=spec.deadline)
    state, table = State.open(context.settings), context.open_table()
    table.indexes = spec.indexes
    with _preparing:
        # A partition that was submitted before the run was stopped must not begin.
        context.writes.raise_if_stopped()
        attempt = state.begin_partition(spec)
        with watch.timing("extract"):
            rows = _read_rows(context.settings, spec, table.backoff())
        flag_quarantined(rows, spec.source, _quarantined_references(state, spec))
        limits = key_limits(spec.indexes)
        made = make_items(rows, spec.source, context.settings, limits)
        context.writes.raise_if_stopped()
        state.manifests.save(spec, made.items)
    with _loading:
        context.writes.raise_if_stopped()
        loading = [time.time()]
        lease = Lease(table, spec.owner, context.settings.lease_seconds)
        with watch.timing("load"), lease.heartbeat():
            loaded = load_items(
                made.items,
                table,
                table_was_empty=spec.table_was_empty and attempt == 1,
                known=partial(state.manifests.known_items, spec.lineage),
                after_cutover=spec.after_cutover,
                concurrency=context.settings.senders,
                progress=context.progress,
            )
        loading.append(time.time())
        quarantine = made.quarantine(loaded.refused)
        report = PartitionLedger(
            run_id=spec.run_id,
            number=spec.number,
            ledger=_count(len(rows), loaded, len(quarantine)),
            validation=made.validation,
            seconds={**watch.seconds, **made.seconds},
            capacity=table.capacity.asdict(),
            spent={"cpu": thread_time() - begun + loaded.cpu}
            | _waiting_seconds(
                watch, loaded, table.capacity.paused, context.settings.senders
            ),
            loading=loading,
        )
        state.finish_partition(report, quarantine, list(loaded.outcomes.values()))
    logger.info("partition %s: %s", spec.number, report.ledger.describe())
    return report


def _quarantined_references(state: State, spec: PartitionSpec) -> dict[str, set[str]]:
    """Return the rows, by entity, that this run has put in quarantine so far.

    The entities that come before the partition's in the mapping are done.
    """
    entities = {one.reference.entity for one in spec.source.references if one.reference}
    return {
        entity: set(state.source.quarantine(spec.run_id, entity)["source_id"])
        for entity in entities - {spec.source.entity}
    }


def _count(rows: int, loaded: LoadReport, quarantined: int) -> Ledger:
    return Ledger(
        read=rows,
        written=loaded.count(Outcome.WRITTEN),
        unchanged=loaded.count(Outcome.UNCHANGED),
        kept_newer=loaded.count(Outcome.KEPT_NEWER),
        quarantined=quarantined,
        failed=loaded.count(Outcome.FAILED),
    )


def _waiting_seconds(
    watch: Stopwatch, loaded: LoadReport, paused: float, concurrency: int
) -> dict[str, float]:
    """Return how many seconds the partition waited for source, rate and table."""
    senders = min(concurrency, len(loaded.outcomes) // BATCH_ITEMS + 1)
    loading = watch.seconds["load"] - watch.cpu["load"] - loaded.cpu
    return {
        "source": watch.seconds["extract"] - watch.cpu["extract"],
        "rate": paused / senders,
        "table": loading - paused / senders,
    }


def _read_rows(
    settings: Settings, spec: PartitionSpec, backoff: Backoff
) -> pd.DataFrame:
    """Read the partition, and retry if its session is terminated or refused.

    Raises:
        SourceLocked: another session has locked the table.
        SourceError: the session was refused each time.
        SourceLost: the session was terminated each time, or the snapshot is gone.
        Incomplete: the run was stopped, or the deadline passed.
    """
    opened = partial(
        open_source,
        settings,
        spec.snapshot,
        session=spec.session,
        deadline=spec.deadline,
    )
    for _ in range(READS - 1):
        try:
            with opened() as source:
                return extract_enterprises(source, spec)
        except (SnapshotLost, SourceLocked):
            raise
        except (SourceLost, SourceError) as error:
            logger.warning("partition %s is read again: %s", spec.number, error.message)
            backoff.wait()
    with opened() as source:
        return extract_enterprises(source, spec)
