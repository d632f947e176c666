"""Repair of the differences that a reconciliation found, with the loader of a run.

Every write has a condition, and nothing is written unless requested.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from os import getpid
from socket import gethostname

from flows.errors import (
    ConditionFailed,
    Incomplete,
    ItemRejected,
    SettingsError,
    SourceLocked,
    TargetError,
)
from flows.extract import plan_extraction
from flows.models import (
    LOADABLE,
    Difference,
    DifferenceClass,
    PartitionSpec,
    add_counts,
)
from flows.reconciliation.report import ReconciliationReport
from flows.run.deletions import OurItem, delete_as_left, ours_among
from flows.run.keys import keys_of_rows
from flows.run.partition import migrate_partition
from flows.run.preflight import Stores
from flows.state.tables import REPAIR
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.origin import record_origin
from flows.stores.postgres.session_limits import require_sessions

logger = logging.getLogger(__name__)

REPAIR_ROWS = 25_000


@dataclass(frozen=True)
class RepairOptions:
    """The options of a repair; without *yes* it is only planned."""

    yes: bool = False
    delete_extra: bool = False
    max_deletes: int = 100
    replace_foreign: bool = False


@dataclass(frozen=True)
class RepairPlan:
    """The changes of a repair by key, and the number of differences that it leaves.

    ``write`` and ``replace`` have differences, ``delete`` has items that our runs left.
    """

    write: tuple[Difference, ...]
    replace: tuple[Difference, ...]
    delete: tuple[OurItem, ...]
    left: int

    def asdict(self) -> dict[str, int]:
        """Return the counts."""
        return {
            "write": len(self.write),
            "replace_foreign": len(self.replace),
            "delete_extra": len(self.delete),
            "left": self.left,
        }


def plan_repair(
    stores: Stores, report: ReconciliationReport, options: RepairOptions
) -> RepairPlan:
    """Plan the repair of the differences, as far as the options allow it.

    Only items in our manifests are deleted or taken from another ``entity_type``.

    Raises:
        SettingsError: the plan has more deletions than *options* allow.
    """
    rows = [d for d in report.found if d.kind in LOADABLE]
    foreign = [d for d in rows if "entity_type" in d.fields]
    write = [d for d in rows if "entity_type" not in d.fields]
    foreign_ours: list[Difference] = []
    delete: list[OurItem] = []
    if options.replace_foreign:
        known = stores.state.manifests.known_items(
            stores.migration, {d.id for d in foreign}
        )
        foreign_ours = [d for d in foreign if d.id in known]
    if options.delete_extra:
        delete = ours_among(stores, report)
    if len(delete) > options.max_deletes:
        message = (
            f"{len(delete)} items are to be deleted, but --max-deletes allows"
            f" {options.max_deletes}."
        )
        raise SettingsError(message, "Check them, then raise --max-deletes.")
    wrong = sum(
        d.kind in {DifferenceClass.EXTRA, DifferenceClass.MALFORMED}
        for d in report.found
    )
    left = len(rows) - len(write) - len(foreign_ours) + wrong - len(delete)
    return RepairPlan(tuple(write), tuple(foreign_ours), tuple(delete), left)


def repair_differences(
    stores: Stores, plan: RepairPlan, run_id: str, snapshot: str
) -> dict[str, float]:
    """Carry out the plan under the lease, with rows of the session's *snapshot*.

    Return the capacity that it consumed, except that of the stores' own table.

    Raises:
        CutoverDeclared: the application owns the items.
        LeaseHeld: a run is under way.
        SourceError: PostgreSQL has no second session, or opens it on another server.
        Incomplete: the repair stopped before its end; reconcile again to see what is
            left.
    """
    require_sessions(stores.settings, stores.connection, 1)
    with _leasing(stores, run_id) as owner:
        # Recorded as ended: after a crash, the next reconciliation finds what is left.
        since, state = stores.watermark, stores.state
        state.start_run(run_id, stores.identity, since=since, watermark=since)
        state.finish_run(run_id, REPAIR, {})
        for difference in plan.replace:
            _make_ours(stores, difference)
        spent, number = [], 0
        for source in stores.sources:
            ids = [
                str(d.source_id)
                for d in (*plan.write, *plan.replace)
                if d.entity == source.entity
            ]
            spec = replace(stores.spec(source, run_id, snapshot), owner=owner)
            for part in _partitions(stores, spec, ids, number):
                number = part.number
                spent.append(migrate_partition(part, stores.context).capacity)
        delete_as_left(stores, run_id, plan.delete)
    return add_counts(*spent)


@contextmanager
def _leasing(stores: Stores, run_id: str) -> Iterator[str]:
    owner = f"{run_id}@{gethostname()}:{getpid()}"
    lease = Lease(stores.table, owner, stores.settings.lease_seconds)
    lease.acquire()
    try:
        with lease.heartbeat():
            record_origin(stores.table, stores.origin)
            yield owner
    except (SourceLocked, TargetError) as error:
        raise Incomplete(error.message, error.remedy) from None
    finally:
        lease.release()


def _partitions(
    stores: Stores, spec: PartitionSpec, ids: Sequence[str], before: int
) -> Iterator[PartitionSpec]:
    """Yield the partitions of some ids, numbered after those *before*."""
    if not ids:
        return
    plan = plan_extraction(stores.connection, spec.source, 1_000_000)
    spec = replace(
        spec, duplicate_ids=plan.duplicate_ids, duplicate_keys=plan.duplicate_keys
    )
    for part in spec.of_ids(ids, REPAIR_ROWS):
        yield replace(part, number=before + part.number)


def _make_ours(stores: Stores, difference: Difference) -> None:
    """Make an item one of its entity again, if its type is still as it was read."""
    sources = {one.entity: one for one in stores.sources}
    part = stores.of(sources[difference.entity])
    sides = difference.fields["entity_type"]
    (_, (partition_key, sort_key)), *_ = keys_of_rows(
        part, [str(difference.source_id)]
    ).values()
    key = {"PK": partition_key, "SK": sort_key}
    own = key | {"entity_type": str(sides["source"])}
    theirs = sides["target"]
    seen = {} if theirs is None else {"entity_type": theirs}
    # The item has just changed, perhaps by our request whose answer was lost, or the
    # store refused it: the loader reads it again, and leaves it unless it is of its
    # entity.
    with suppress(ConditionFailed, ItemRejected):
        for attempt in stores.table.attempts():
            with attempt:
                stores.table.update(dict(own), key | seen)
