"""Past runs of a state: which of them can be resumed, and which are proven."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from flows.errors import SettingsError
from flows.mapping.compare import changes_between
from flows.models.partitions import KeyRange
from flows.state.source import NO_REPLAY
from flows.state.tables import partitions, runs, sources


@dataclass(frozen=True)
class PastRun:
    """A run that can be resumed: its id and its unfinished key ranges, by entity.

    The entities are all that have partitions, in the order in which they were planned.
    *highest* is the highest number of all partitions.
    """

    run_id: str
    since: str | None
    pending: dict[str, tuple[KeyRange, ...]]
    highest: int


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Return the digest of what makes two runs the same migration."""
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def require_same(
    run: sa.Row[Any], identity: Mapping[str, Any], mapping: Mapping[str, Any] | None
) -> None:
    """Refuse a run of another migration, or of another mapping.

    Raises:
        SettingsError: the run is of another one.
    """
    if run.fingerprint != fingerprint(identity):
        changed = [k for k, v in identity.items() if run.identity.get(k) != v]
        message = f"Run {run.run_id} began with another {', '.join(changed)}."
        raise SettingsError(message, "Restore its settings, or begin a new run.")
    changes = _describe_changes(run.mapping, mapping)
    if changes:
        message = f"Run {run.run_id} began with another mapping file: {changes}."
        raise SettingsError(message, "Restore the file, or begin a new run.")


def require_resumable(
    wanted: str,
    run: sa.Row[Any] | None,
    identity: Mapping[str, Any],
    mapping: Mapping[str, Any] | None,
) -> sa.Row[Any]:
    """Return the run that is wanted for a resume.

    Raises:
        SettingsError: the run is missing, proven, or of another migration or mapping.
    """
    if run is None:
        message = f"--resume {wanted}: there is no such run in the state."
        raise SettingsError(message, "Check STATE_URL, or run without --resume.")
    require_same(run, identity, mapping)
    if run.status == "proven":
        message = f"Run {run.run_id} is proven: there is nothing to resume."
        raise SettingsError(message, "Run again without --resume.")
    return run


def read_past_run(connection: sa.Connection, run: sa.Row[Any]) -> PastRun:
    """Read the unfinished key ranges of a run.

    A partition that was not planned has rows that a resume moved again. It has no range
    and must not be read as the whole table: its rows are compared and moved anew.
    """
    found = connection.execute(
        sa.select(partitions).filter_by(run_id=run.run_id).order_by(partitions.c.number)
    ).all()
    pending: dict[str, list[KeyRange]] = {}
    for row in found:
        ranges = pending.setdefault(row.entity, [])
        if row.planned and (row.ledger is None or row.quarantine):
            ranges.append((row.number, row.lower, row.upper))
    highest = max((row.number for row in found), default=0)
    by_entity = {entity: tuple(ranges) for entity, ranges in pending.items()}
    return PastRun(run.run_id, run.since, by_entity, highest)


def select_proven(migration: str, source: str | None, *columns: Any) -> sa.Select[Any]:
    """Return a query of a migration's proven runs, the oldest first, without replays.

    With the key of a *source*, only runs that read it count.
    """
    query = (
        sa.select(*columns)
        .where(runs.c.fingerprint == migration, runs.c.status == "proven", NO_REPLAY)
        .order_by(runs.c.started_at)
    )
    if source is None:
        return query
    readers = sa.select(sources.c.run_id).where(sources.c.source == source)
    return query.where(runs.c.run_id.in_(readers))


def _describe_changes(
    began: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> str:
    """Return what differs between a run's mapping and that of now; empty if nothing."""
    if began is None or now is None:
        if began is now:
            return ""
        return "it had none" if began is None else "there is none now"
    return "; ".join(changes_between(began, now))
