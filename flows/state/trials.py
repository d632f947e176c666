"""The trials of a migration: their runs, and the items that they created."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from flows.errors import SettingsError
from flows.models import ENTITY_TYPE, LastWrite
from flows.state.database import Database
from flows.state.manifest import (
    CODES,
    Entry,
    ManifestLog,
    attributes_in,
    follow,
    keys_in,
    trace_items,
)
from flows.state.tables import TRIAL, runs

# After these letters an item that was not there before may be there.
CREATING = {CODES["written"], CODES["failed"], b""}


@dataclass(frozen=True)
class TrialItems:
    """The items that trials created, as the trials left them.

    ``left`` has by id those that no other run of the same target has sent; ``rightful``
    counts the others.
    """

    left: Mapping[str, LastWrite]
    rightful: int


class TrialMemory:
    """The part of the state that describes trials."""

    def __init__(self, database: Database, log: ManifestLog) -> None:
        self._database = database
        self._log = log

    def of_migration(self, migration: str) -> list[str]:
        """Return the ids of a migration's trials, the oldest first."""
        query = (
            sa.select(runs.c.run_id)
            .where(runs.c.fingerprint == migration, runs.c.status == TRIAL)
            .order_by(runs.c.started_at)
        )
        with self._database.transaction() as connection:
            return list(connection.scalars(query))

    def created(
        self, migration: str, identity: Mapping[str, Any], entity: str = ENTITY_TYPE
    ) -> TrialItems:
        """Return the items of an entity that the trials of a migration created.

        An item that another run has sent too belongs to that run, even if the run is of
        another migration into the target of *identity*, such as one that names the same
        source by another host.
        """
        items: dict[str, LastWrite] = {}
        for run_id in self.of_migration(migration):
            _follow_trial(items, self._log.of_trial(run_id, entity))
        others = runs.c.run_id.in_(self._others(identity)) if items else sa.false()
        claimed = trace_items(self._log.of_runs(others), set(items))
        left = {key: items[key] for key in items.keys() - claimed.keys()}
        return TrialItems(left, len(items) - len(left))

    def require_none(self, run_id: str) -> None:
        """Refuse to resume a trial, which is repeated instead.

        Raises:
            SettingsError: the run is a trial.
        """
        query = sa.select(runs.c.status).filter_by(run_id=run_id)
        with self._database.transaction() as connection:
            status = connection.scalar(query)
        if status == TRIAL:
            message = f"Run {run_id} is a trial: it cannot be resumed."
            remedy = "Repeat it with --limit, or migrate all rows: enterprises migrate"
            raise SettingsError(message, remedy)

    def _others(self, identity: Mapping[str, Any]) -> list[str]:
        """Return the runs into the same target that are not trials."""
        query = sa.select(runs.c.run_id, runs.c.identity).where(runs.c.status != TRIAL)
        with self._database.transaction() as connection:
            found = connection.execute(query).all()
        target = [identity.get(name) for name in ("target", "account")]
        return [
            run_id
            for run_id, other in found
            if [other.get(name) for name in ("target", "account")] == target
        ]


def _follow_trial(items: dict[str, LastWrite], log: Iterable[Entry]) -> None:
    """Follow the items that trials created through one more trial.

    An item that was there before, and not as an earlier trial left it, is not the
    trial's, whatever the trial wrote to it.
    """
    before: set[str] = set()
    for table, letters in log:
        ids, digests = (table[name].to_pylist() for name in ("id", "digest"))
        keys, attributes = keys_in(table), attributes_in(table)
        outcomes = letters.tolist() if len(letters) else [b""] * len(ids)
        for key, left, at, outcome in zip(ids, digests, keys, outcomes, strict=True):
            if outcome == CODES["there"]:
                before.add(key)
                items.pop(key, None)
            elif key not in before and (outcome in CREATING or key in items):
                trace = follow(items.get(key), left, outcome, attributes)
                if trace is not None:
                    items[key] = replace(trace, key=at or trace.key)
