"""The removal of trials from the table.

It deletes only the items that trials created, that no other run has sent, and that are
as the trials left them.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from os import getpid
from secrets import token_hex
from socket import gethostname
from typing import Any, Literal, Self

from flows.errors import Incomplete, SettingsError, TargetError
from flows.models import MigrateOptions, Report
from flows.run.deletions import (
    OurItem,
    delete_unless_changed,
    is_as_left,
    save_deleted,
)
from flows.run.next_commands import NextStep, make_command, record_command
from flows.run.preflight import Stores
from flows.run.trial import (
    NOT_OF_A_TRIAL,
    created_items,
    in_chunks,
    read_items,
    refuse_options,
    removal_command,
    require_before_cutover,
)
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.permission_probes import forbidden
from flows.timing import require_time

logger = logging.getLogger(__name__)

# The owner of the lease of a removal, which is no run in the state.
REMOVAL = "undo-trial"


@dataclass(frozen=True)
class Counts:
    """The items of trials by what the removal found and did."""

    removed: int = 0
    # They differ from what the trials left, or have further attributes.
    changed: int = 0
    gone: int = 0
    # Another run has sent them too.
    rightful: int = 0

    def __add__(self, other: Self) -> Self:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return type(self)(*(one + more for one, more in pairs))


@dataclass(frozen=True, repr=False)
class RemovalReport(Report):
    """The result of removing the items of trials; *planned* if nothing was deleted."""

    details = frozenset({"Capacity"})
    trials: tuple[str, ...]
    items: Counts
    target: dict[str, str]
    capacity: dict[str, float]
    planned: bool = False

    @property
    def status(self) -> Literal["undone", "planned"]:
        """Return whether items were removed, or only counted."""
        return "planned" if self.planned else "undone"

    @property
    def verdict(self) -> str:
        """Return the result as one sentence."""
        ends = {
            "removed": "would be removed" if self.planned else "were removed",
            "changed": "were changed since and are kept",
            "gone": "are gone already",
            "rightful": "were sent by another run too and are kept",
        }
        counts = asdict(self.items)
        parts = [
            f"{counts[name]:,} {end}" for name, end in ends.items() if counts[name]
        ]
        start = self.status.capitalize() if self.items.removed else "Nothing to undo"
        if not parts:
            return f"{start}: trials created no items."
        return f"{start}: of the items that trials created, {', '.join(parts)}."

    @property
    def step(self) -> NextStep:
        """Return what comes next; no command if other runs have all the items."""
        items = self.items
        if self.planned and items.removed:
            return NextStep("Nothing was deleted. To delete them:", removal_command())
        others = items.removed + items.changed + items.gone
        if self.planned or (items.rightful and not others):
            return NextStep("Nothing is left to do.")
        return NextStep("To move all rows:", make_command("migrate"))

    def asdict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "status": self.status,
            "statement": self.verdict,
            "trials": list(self.trials),
            "items": asdict(self.items),
            "target": self.target,
            "capacity": self.capacity,
        }

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the counts as tables."""
        counts = asdict(self.items)
        if self.planned:
            counts = {"to remove": counts.pop("removed"), **counts}
        return [("Items of trials", counts), ("Capacity", self.capacity)]


def require_removal_options(options: MigrateOptions) -> None:
    """Refuse options that a removal cannot have.

    Raises:
        SettingsError: one of them is set.
    """
    refuse_options(options, "--undo-trial", ("limit", "run_id", *NOT_OF_A_TRIAL))


def remove_trials(stores: Stores, *, planned: bool = False) -> RemovalReport:
    """Remove the items that trials created, and that nobody else has sent or changed.

    If *planned*, they are only counted. A removal that stops is resumed by another.

    Raises:
        SettingsError: this state has no trial of the migration.
        CutoverDeclared: the application owns the items.
        LeaseHeld: a run is under way.
        Incomplete: the removal stopped before its end.
    """
    trials = stores.state.trials.of_migration(stores.migration)
    if not trials:
        message = "--undo-trial: this state has no trial of this migration."
        remedy = "Set STATE_URL and the other settings to those of the trial; begin"
        remedy += " one with: enterprises migrate --limit 100"
        raise SettingsError(message, remedy)
    require_before_cutover(stores, "Leave the items to the application")
    if planned:
        counts = _remove(stores, trials[-1], planned=True)
    else:
        with _leasing(stores):
            counts = _remove(stores, trials[-1])
    report = RemovalReport(
        trials=tuple(trials),
        items=counts,
        target=stores.target,
        capacity=stores.table.capacity.asdict(),
        planned=planned,
    )
    logger.info("%s", report.verdict)
    return report


@contextmanager
def _leasing(stores: Stores) -> Iterator[None]:
    """Hold the lease; an error of the table stops the removal, which can be resumed."""
    owner = f"{REMOVAL}@{gethostname()}:{getpid()}-{token_hex(3)}"
    lease = Lease(stores.table, owner, stores.settings.lease_seconds)
    # Waits for the end of the lease of a removal that was killed.
    lease.acquire(resumed=REMOVAL)
    record_command(removal_command())
    try:
        with lease.heartbeat():
            yield
    except TargetError as error:
        remedy = error.remedy
        if forbidden(error) and "DeleteItem" in error.message:
            remedy = "Allow dynamodb:DeleteItem on enterprises, which this policy has:"
            remedy += " enterprises iam-policy --for migrate --with-deletes"
        raise Incomplete(error.message, remedy) from None
    finally:
        lease.release()
    record_command(None)


def _remove(stores: Stores, run_id: str, *, planned: bool = False) -> Counts:
    """Remove chunk by chunk; the ids of each are durable before its first deletion."""
    total = Counts()
    for source in stores.sources:
        total += _remove_of(stores.of(source), run_id, planned=planned)
    return total


def _remove_of(stores: Stores, run_id: str, *, planned: bool) -> Counts:
    created = created_items(stores)
    left, ids = created.left, sorted(created.left)
    removed = changed = gone = 0
    progress = stores.context.progress
    progress.begin("removing the items of trials", len(ids))
    for chunk in in_chunks(ids):
        require_time(stores.table.deadline)
        there = read_items(stores, {one: left[one].key for one in chunk})
        mine = [
            left[one]
            for one, item in there
            if is_as_left(stores, item, left[one], whole=True)
        ]
        done = len(mine) if planned else _delete(stores, run_id, mine)
        removed += done
        changed += len(there) - done
        gone += len(chunk) - len(there)
        progress.advance(len(chunk))
    return Counts(removed, changed, gone, created.rightful)


def _delete(stores: Stores, run_id: str, items: Sequence[OurItem]) -> int:
    """Delete some items unless they have just changed; return how many are gone."""
    if items:
        # Otherwise a later run would take them for deleted by the application.
        save_deleted(stores, run_id, items)
    return sum(delete_unless_changed(stores, one, whole=True) for one in items)
