"""What a run remembers: runs, partitions, their manifests and their ledgers.

SQLAlchemy on ``STATE_URL``; SQLite by default. A partition's manifest is durable
before the partition is sent, its ledger after; both are one row each, so that a crash
leaves either all of it or nothing.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from flows.errors import Incomplete, SettingsError
from flows.models import LastWrite, Ledger, PartitionLedger, PartitionSpec
from flows.settings import Settings
from flows.state import manifest
from flows.state.reconciliations import ReconciliationMemory
from flows.state.source import NO_REPLAY, QUARANTINE_COLUMNS, SourceMemory
from flows.state.tables import (
    make_engine,
    make_tables,
    manifests,
    not_opened,
    partitions,
    replays,
    runs,
    shown,
    sources,
)
from flows.state.upgrade import move_former_tables

__all__ = ["QUARANTINE_COLUMNS", "PastRun", "State", "fingerprint"]

PARTITION_COLUMNS = ("run_id", "number", "lower", "upper")


@dataclass(frozen=True)
class PastRun:
    """A run that can be gone on with: its name and its unfinished key ranges."""

    run_id: str
    since: str | None
    pending: tuple[tuple[int, str | None, str | None], ...]
    highest: int


def fingerprint(identity: dict[str, Any]) -> str:
    """Return the digest of what makes two runs the same migration."""
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


# The status of a repair's run, which nobody can resume.
REPAIR = "repair"


class State(SourceMemory, ReconciliationMemory):
    """The run's memory, in the database of ``STATE_URL``."""

    def __init__(self, engine: sa.Engine, url: str) -> None:
        self._engine = engine
        self._url = url

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the state; make its tables unless they exist, and move former ones.

        Raises:
            SettingsError: the database cannot be opened.
            Incomplete: its disk is full.
        """
        text = settings.state_url.get_secret_value()
        try:
            engine = make_engine(text)
            move_former_tables(engine)
            make_tables(engine)
        except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
            raise not_opened(text, error) from None
        return cls(engine, text)

    def require_new(self, run_id: str) -> None:
        """Refuse a run id that is taken.

        Raises:
            SettingsError: a run of this id is there.
        """
        with self._transaction() as connection:
            if connection.scalar(sa.select(runs.c.run_id).filter_by(run_id=run_id)):
                message = f"A run {run_id} is there already."
                remedy = f"Give another --run-id, or: --resume {run_id}"
                raise SettingsError(message, remedy)

    def require_run(self, run_id: str, identity: dict[str, Any]) -> None:
        """Refuse a run that is not in this state, or there as another migration.

        Raises:
            SettingsError: the run is missing or belongs to another migration.
        """
        with self._transaction() as connection:
            run = connection.execute(sa.select(runs).filter_by(run_id=run_id)).first()
        if run is None:
            message = f"There is no run {run_id} in its state."
            raise SettingsError(message, "Check STATE_URL.")
        _require_same(run, identity)

    def start_run(
        self,
        run_id: str,
        identity: dict[str, Any],
        specs: Sequence[PartitionSpec] = (),
        *,
        since: str | None = None,
        watermark: str | None = None,
    ) -> None:
        """Record a new run with all its partitions, in one step."""
        row = {
            "run_id": run_id,
            "status": "running",
            "started_at": datetime.now(UTC),
            "fingerprint": fingerprint(identity),
            "identity": identity,
            "since": since,
            "watermark": watermark,
        }
        planned = [
            {name: getattr(spec, name) for name in PARTITION_COLUMNS} | {"attempts": 0}
            for spec in specs
        ]
        with self._transaction() as connection:
            connection.execute(sa.insert(runs).values(row))
            if planned:
                connection.execute(sa.insert(partitions), planned)

    def forget_run(self, run_id: str) -> None:
        """Delete a run that was refused before it wrote anything."""
        with self._transaction() as connection:
            for table in (partitions, sources, replays, runs):
                connection.execute(sa.delete(table).filter_by(run_id=run_id))

    def resumable(self, wanted: str, identity: dict[str, Any]) -> PastRun | None:
        """Find the run to go on with, by its id or as the ``last`` one.

        None where the last is wanted and no run was ever begun.

        Raises:
            SettingsError: there is none, it is proven, or it was another migration.
        """
        query = sa.select(runs).order_by(runs.c.started_at.desc()).limit(1)
        query = query.where(runs.c.status != REPAIR)
        if wanted == "last":
            query = query.where(NO_REPLAY)
        else:
            self.require_no_replay(wanted)
            query = query.where(runs.c.run_id == wanted)
        with self._transaction() as connection:
            last = connection.execute(query).first()
            if last is None and wanted == "last":
                return None
            run = _require_resumable(wanted, last, identity)
            found = connection.execute(
                sa.select(partitions)
                .where(partitions.c.run_id == run.run_id)
                .order_by(partitions.c.number)
            ).all()
        # Beside the first, one without bounds is what a resume moved once more: it is
        # not to be read as the whole table, but compared and moved anew.
        pending = tuple(
            (row.number, row.lower, row.upper)
            for row in found
            if (row.ledger is None or row.quarantine)
            and (row.number == 1 or row.lower or row.upper)
        )
        highest = max((row.number for row in found), default=0)
        return PastRun(run.run_id, run.since, pending, highest)

    def resume_run(self, run_id: str, watermark: str) -> None:
        """Record that a run goes on, under a new snapshot with its *watermark*.

        What has quarantined rows is undone: they may have been mended.
        """
        change = {"watermark": watermark, "status": "running"}
        parts = sa.select(partitions.c.number, partitions.c.quarantine)
        with self._transaction() as connection:
            connection.execute(sa.update(runs).filter_by(run_id=run_id).values(change))
            found = connection.execute(parts.filter_by(run_id=run_id)).all()
            numbers = [number for number, quarantine in found if quarantine]
            here = partitions.c.number.in_(numbers)
            undone = sa.update(partitions).filter_by(run_id=run_id).where(here)
            nothing = {"ledger": sa.null(), "quarantine": sa.null()}
            connection.execute(undone.values(nothing))

    def last_watermark(self, migration: str) -> str:
        """Return the time since which a run must read, after those that are proven.

        A run of what changed counts where it read from the former watermark on, or
        from before it: what was stamped between them was read by neither.

        Raises:
            SettingsError: no run over the whole table was proven yet.
        """
        query = (
            sa.select(runs.c.since, runs.c.watermark)
            .where(runs.c.fingerprint == migration)
            .where(runs.c.status == "proven")
            .where(NO_REPLAY)
            .order_by(runs.c.started_at)
        )
        with self._transaction() as connection:
            proven = connection.execute(query).all()
        watermark = None
        for run in proven:
            if run.since is None or (watermark and not _is_after(run.since, watermark)):
                watermark = run.watermark
        if watermark is None:
            message = "--since last: no run of this migration has been proven yet."
            raise SettingsError(message, "Run once without --since.")
        return str(watermark)

    def finish_run(self, run_id: str, status: str, report: dict[str, Any]) -> None:
        """Record how a run ended, with its report."""
        change = {"status": status, "finished_at": datetime.now(UTC), "report": report}
        with self._transaction() as connection:
            connection.execute(sa.update(runs).filter_by(run_id=run_id).values(change))

    def begin_partition(self, spec: PartitionSpec) -> int:
        """Record that a partition is begun; return which attempt this is, from 1."""
        here = sa.and_(
            partitions.c.run_id == spec.run_id, partitions.c.number == spec.number
        )
        # Counted by the database: two that begin at once may not both be the first.
        again = {"attempts": partitions.c.attempts + 1}
        named = {name: getattr(spec, name) for name in PARTITION_COLUMNS}
        with self._transaction() as connection:
            change = sa.update(partitions).where(here).values(again)
            if connection.execute(change).rowcount == 0:
                first = sa.insert(partitions).values(named | {"attempts": 1})
                connection.execute(first)
            attempts = sa.select(partitions.c.attempts).where(here)
            return int(connection.execute(attempts).scalar_one())

    def save_manifest(self, spec: PartitionSpec, items: pd.DataFrame) -> None:
        """Make durable what is about to be sent: keys, stamps and digests."""
        row = {
            "run_id": spec.run_id,
            "number": spec.number,
            "rows": len(items),
            "data": manifest.encode(items),
        }
        with self._transaction() as connection:
            connection.execute(sa.insert(manifests).values(row))

    def save_deletions(self, run_id: str, ids: Sequence[str]) -> None:
        """Make durable which items are about to be deleted."""
        row = {
            "run_id": run_id,
            "number": 0,
            "rows": len(ids),
            "data": manifest.encode_ids(ids),
            "outcomes": manifest.DELETED * len(ids),
        }
        with self._transaction() as connection:
            connection.execute(sa.insert(manifests).values(row))

    def finish_partition(
        self,
        report: PartitionLedger,
        rows: pd.DataFrame,
        outcomes: Sequence[str] = (),
    ) -> None:
        """Record a partition's ledger, quarantined rows and outcomes, in one step."""
        here = {"run_id": report.run_id, "number": report.number}
        change = {"ledger": asdict(report), "quarantine": rows.to_dict("records")}
        letters = "".join(outcome[0] for outcome in outcomes).encode()
        last = sa.select(sa.func.max(manifests.c.serial)).filter_by(**here)
        with self._transaction() as connection:
            connection.execute(sa.update(partitions).filter_by(**here).values(change))
            sent = sa.update(manifests).filter_by(serial=connection.scalar(last))
            connection.execute(sent.values(outcomes=letters))

    def ledgers(self, run_id: str) -> list[PartitionLedger]:
        """Return the ledgers of a run's finished partitions, in key order."""
        query = (
            sa.select(partitions.c.ledger)
            .where(partitions.c.run_id == run_id)
            .where(partitions.c.ledger.is_not(None))
            .order_by(partitions.c.number)
        )
        with self._transaction() as connection:
            found = connection.scalars(query).all()
        return [
            PartitionLedger(**(row | {"ledger": Ledger(**row["ledger"])}))
            for row in found
            if row
        ]

    def manifests(self, run_id: str) -> Iterator[tuple[pa.Table, np.ndarray]]:
        """Yield the last manifest of each partition, with each row's outcome.

        In the order in which the partitions were planned. An outcome is a letter; the
        letters are empty while a partition is not done.
        """
        last = (
            sa.select(sa.func.max(manifests.c.serial))
            .where(manifests.c.run_id == run_id, manifests.c.number > 0)
            .group_by(manifests.c.number)
            .order_by(manifests.c.number)
        )
        return self._read_manifests(last)

    def _log(self, *run_ids: str) -> Iterator[tuple[pa.Table, np.ndarray]]:
        """Yield all manifests of runs, in the order in which they were saved."""
        saved = (
            sa.select(manifests.c.serial)
            .where(manifests.c.run_id.in_(run_ids))
            .order_by(manifests.c.serial)
        )
        return self._read_manifests(saved)

    def _read_manifests(
        self, serials: sa.Select[tuple[int]]
    ) -> Iterator[tuple[pa.Table, np.ndarray]]:
        columns = sa.select(manifests.c.data, manifests.c.outcomes)
        with self._transaction() as connection:
            for serial in connection.scalars(serials).all():
                row = connection.execute(columns.filter_by(serial=serial)).one()
                letters = np.frombuffer(row.outcomes or b"", "S1")
                yield manifest.decode(row.data), letters

    def count_written(
        self, run_id: str, apart_from: set[str], rows: set[str] | None = None
    ) -> int:
        """Count the keys that a run wrote, apart from some ids.

        A resumed run has read its partitions under more than one snapshot: there *rows*
        are the source ids of the last. What is gone since does not count, and what was
        moved twice counts once.
        """
        return manifest.count_written(self._log(run_id), apart_from, rows)

    def known_items(self, migration: str, ids: set[str]) -> dict[str, LastWrite]:
        """Return what runs of this migration left of some items, by id."""
        return manifest.trace_items(self._log(*self.past_runs(migration)), ids)

    def past_runs(self, migration: str) -> list[str]:
        """Return the ids of all runs of the same migration, the oldest first."""
        query = (
            sa.select(runs.c.run_id)
            .where(runs.c.fingerprint == migration)
            .order_by(runs.c.started_at)
        )
        with self._transaction() as connection:
            return list(connection.scalars(query))

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None)
            kind = type(cause or error).__name__
            message = (
                f"The state{shown(self._url)} cannot be used: {kind}"
                f" {cause if self._engine.dialect.name == 'sqlite' else ''}"
            )
            remedy = "Make room or repair the database, then run again."
            raise Incomplete(message.rstrip(), remedy) from None


def _is_after(one: str, other: str) -> bool:
    return datetime.fromisoformat(one) > datetime.fromisoformat(other)


def _require_resumable(
    wanted: str, run: sa.Row[Any] | None, identity: dict[str, Any]
) -> sa.Row[Any]:
    if run is None:
        message = f"--resume {wanted}: there is no such run in the state."
        raise SettingsError(message, "Check STATE_URL, or run without --resume.")
    _require_same(run, identity)
    if run.status == "proven":
        message = f"Run {run.run_id} is proven: there is nothing to resume."
        raise SettingsError(message, "Run again without --resume.")
    return run


def _require_same(run: sa.Row[Any], identity: dict[str, Any]) -> None:
    if run.fingerprint != fingerprint(identity):
        changed = [k for k, v in identity.items() if run.identity.get(k) != v]
        message = f"Run {run.run_id} was of another {', '.join(changed)}."
        raise SettingsError(message, "Set the settings as they were, or run anew.")
