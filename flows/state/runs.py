"""The state of runs: runs, partitions, their manifests and their ledgers.

SQLAlchemy on ``STATE_URL``; SQLite by default. A partition's manifest is durable
before the partition is sent, its ledger after. Each is one row, so that a crash leaves
either all of it or nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Self

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from flows.errors import SettingsError
from flows.models import Ledger, PartitionLedger, PartitionSpec
from flows.settings import Settings
from flows.state.database import Database, make_engine, make_state_error
from flows.state.manifest import ManifestLog, encode_outcomes
from flows.state.past_runs import (
    PastRun,
    fingerprint,
    read_past_run,
    require_resumable,
    require_same,
    select_proven,
)
from flows.state.reconciliations import ReconciliationMemory
from flows.state.source import NO_REPLAY, QUARANTINE_COLUMNS, SourceMemory
from flows.state.tables import ONE_SHOT, manifests, partitions, replays, runs, sources
from flows.state.trials import TrialMemory
from flows.state.upgrade import upgrade

__all__ = ["QUARANTINE_COLUMNS", "PastRun", "State", "fingerprint"]

PARTITION_COLUMNS = ("run_id", "number", "lower", "upper")


class State:
    """The state of runs, in the database of ``STATE_URL``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.manifests = ManifestLog(database)
        self.source = SourceMemory(database, self.manifests)
        self.reconciliations = ReconciliationMemory(database)
        self.trials = TrialMemory(database, self.manifests)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the state; create its tables, or upgrade those of an earlier version.

        Raises:
            SettingsError: the database cannot be opened, or has a newer version.
            Incomplete: the disk of the database is full.
        """
        text = settings.state_url.get_secret_value()
        try:
            engine = make_engine(text)
            upgrade(engine, text)
        except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
            raise make_state_error(text, error) from None
        return cls(Database(engine, text))

    def require_new(self, run_id: str) -> None:
        """Refuse a run id that is taken.

        Raises:
            SettingsError: a run with this id exists.
        """
        with self._database.transaction() as connection:
            if connection.scalar(sa.select(runs.c.run_id).filter_by(run_id=run_id)):
                message = f"Run {run_id} already exists."
                remedy = f"Give another --run-id, or: --resume {run_id}"
                raise SettingsError(message, remedy)

    def require_run(
        self,
        run_id: str,
        identity: dict[str, Any],
        mapping: dict[str, Any] | None = None,
    ) -> None:
        """Raise unless this state has the run, of the same migration and *mapping*.

        Raises:
            SettingsError: the run is missing or belongs to another migration or
                mapping.
        """
        with self._database.transaction() as connection:
            run = connection.execute(sa.select(runs).filter_by(run_id=run_id)).first()
        if run is None:
            message = f"There is no run {run_id} in its state."
            raise SettingsError(message, "Check STATE_URL.")
        require_same(run, identity, mapping)

    def start_run(  # noqa: PLR0913 - each is independent
        self,
        run_id: str,
        identity: dict[str, Any],
        specs: Sequence[PartitionSpec] = (),
        *,
        since: str | None = None,
        watermark: str | None = None,
        status: str = "running",
        mapping: dict[str, Any] | None = None,
    ) -> None:
        """Record a new run with all its partitions, in one transaction.

        *mapping* is plain, without defaults; None stands for the built-in one.
        """
        row = {
            "run_id": run_id,
            "status": status,
            "started_at": datetime.now(UTC),
            "fingerprint": fingerprint(identity),
            "identity": identity,
            "since": since,
            "watermark": watermark,
            "mapping": mapping,
        }
        planned = [_describe_partition(spec) | {"attempts": 0} for spec in specs]
        with self._database.transaction() as connection:
            connection.execute(sa.insert(runs).values(row))
            if planned:
                connection.execute(sa.insert(partitions), planned)

    def forget_run(self, run_id: str) -> None:
        """Delete a run that was refused before it wrote anything."""
        with self._database.transaction() as connection:
            for table in (partitions, sources, replays, runs):
                connection.execute(sa.delete(table).filter_by(run_id=run_id))

    def resumable(
        self,
        wanted: str,
        identity: dict[str, Any],
        mapping: dict[str, Any] | None = None,
    ) -> PastRun | None:
        """Find the run to resume, by its id or as the ``last`` one.

        Return None if the last is wanted and no run was ever begun.

        Raises:
            SettingsError: the run is missing, proven, or of another migration or
                mapping.
        """
        query = sa.select(runs).order_by(runs.c.started_at.desc()).limit(1)
        query = query.where(runs.c.status.not_in(ONE_SHOT))
        if wanted == "last":
            query = query.where(NO_REPLAY)
        else:
            self.require_no_replay(wanted)
            self.trials.require_none(wanted)
            query = query.where(runs.c.run_id == wanted)
        with self._database.transaction() as connection:
            last = connection.execute(query).first()
            if last is None and wanted == "last":
                return None
            run = require_resumable(wanted, last, identity, mapping)
            return read_past_run(connection, run)

    def resume_run(self, run_id: str, watermark: str) -> None:
        """Record that a run resumes, under a new snapshot with its *watermark*.

        Partitions with quarantined rows are reset: the rows may have been corrected.
        """
        change = {"watermark": watermark, "status": "running"}
        parts = sa.select(partitions.c.number, partitions.c.quarantine)
        with self._database.transaction() as connection:
            connection.execute(sa.update(runs).filter_by(run_id=run_id).values(change))
            found = connection.execute(parts.filter_by(run_id=run_id)).all()
            numbers = [number for number, quarantine in found if quarantine]
            here = partitions.c.number.in_(numbers)
            undone = sa.update(partitions).filter_by(run_id=run_id).where(here)
            nothing = {"ledger": sa.null(), "quarantine": sa.null()}
            connection.execute(undone.values(nothing))

    def last_watermark(self, migration: str, source_key: str | None = None) -> str:
        """Return the time from which a run must read, after those that are proven.

        With *source_key*, only runs that read this source count.

        An incremental run counts only if it read from the previous watermark or from an
        earlier time: otherwise no run has read the rows that were stamped in between.

        Raises:
            SettingsError: no run over the whole table has been proven yet.
        """
        columns = (runs.c.since, runs.c.watermark)
        query = select_proven(migration, source_key, *columns)
        with self._database.transaction() as connection:
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
        with self._database.transaction() as connection:
            connection.execute(sa.update(runs).filter_by(run_id=run_id).values(change))

    def begin_partition(self, spec: PartitionSpec) -> int:
        """Record that a partition begins; return the number of the attempt, from 1."""
        columns = partitions.c
        here = (columns.run_id == spec.run_id) & (columns.number == spec.number)
        # The database counts: of two concurrent attempts, only one may be the first.
        again = {"attempts": partitions.c.attempts + 1}
        unplanned = _describe_partition(spec) | {"attempts": 1, "planned": False}
        with self._database.transaction() as connection:
            change = sa.update(partitions).where(here).values(again)
            if connection.execute(change).rowcount == 0:
                connection.execute(sa.insert(partitions).values(unplanned))
            attempts = sa.select(partitions.c.attempts).where(here)
            return int(connection.execute(attempts).scalar_one())

    def finish_partition(
        self,
        report: PartitionLedger,
        rows: pd.DataFrame,
        outcomes: Sequence[str] = (),
    ) -> None:
        """Record a partition's ledger, quarantine and outcomes, in one transaction."""
        here = {"run_id": report.run_id, "number": report.number}
        change = {"ledger": asdict(report), "quarantine": rows.to_dict("records")}
        letters = encode_outcomes(outcomes)
        last = sa.select(sa.func.max(manifests.c.serial)).filter_by(**here)
        with self._database.transaction() as connection:
            connection.execute(sa.update(partitions).filter_by(**here).values(change))
            sent = sa.update(manifests).filter_by(serial=connection.scalar(last))
            connection.execute(sent.values(outcomes=letters))

    def ledgers(self, run_id: str, entity: str | None = None) -> list[PartitionLedger]:
        """Return the ledgers of a run's finished partitions, in the planned order.

        With *entity*, only those of its partitions.
        """
        query = (
            sa.select(partitions.c.ledger)
            .where(partitions.c.run_id == run_id)
            .where(partitions.c.ledger.is_not(None))
            .order_by(partitions.c.number)
        )
        if entity is not None:
            query = query.where(partitions.c.entity == entity)
        with self._database.transaction() as connection:
            found = connection.scalars(query).all()
        return [
            PartitionLedger(**(row | {"ledger": Ledger(**row["ledger"])}))
            for row in found
            if row
        ]

    def has_full_run(self, migration: str, source_key: str | None = None) -> bool:
        """Return whether a proven run over all rows has every item in this state.

        With *source_key*, only runs that read this source count.
        """
        query = select_proven(migration, source_key, runs.c.run_id)
        query = query.where(runs.c.since.is_(None)).limit(1)
        with self._database.transaction() as connection:
            return connection.scalar(query) is not None

    def require_full_run(self, migration: str, source_key: str | None = None) -> None:
        """Refuse to write after the cutover with a state that does not know every item.

        An item that an application has deleted, and that is in no manifest, looks as if
        it never existed.

        Raises:
            SettingsError: no run over the whole table is proven in this state.
        """
        if not self.has_full_run(migration, source_key):
            message = (
                "--after-cutover: no full run of this migration is proven in this"
                " state, so it cannot show what an application has deleted."
            )
            raise SettingsError(message, "Set STATE_URL to the state of such a run.")

    def record_replay(self, run_id: str, replayed: str) -> None:
        """Record that a run moves only quarantined rows, those of *replayed*."""
        with self._database.transaction() as connection:
            row = {"run_id": run_id, "replayed": replayed}
            connection.execute(sa.insert(replays).values(row))

    def require_no_replay(self, run_id: str) -> None:
        """Refuse to resume a replay, which has no ranges to resume.

        Raises:
            SettingsError: the run is a replay.
        """
        query = sa.select(replays.c.replayed).filter_by(run_id=run_id)
        with self._database.transaction() as connection:
            replayed = connection.scalar(query)
        if replayed is not None:
            message = f"Run {run_id} replayed a quarantine: it cannot be resumed."
            remedy = f"Replay it again: enterprises quarantine replay {replayed}"
            raise SettingsError(message, remedy)

    def past_runs(self, migration: str) -> list[str]:
        """Return the ids of all runs of the same migration, the oldest first."""
        query = (
            sa.select(runs.c.run_id)
            .where(runs.c.fingerprint == migration)
            .order_by(runs.c.started_at)
        )
        with self._database.transaction() as connection:
            return list(connection.scalars(query))


def _is_after(one: str, other: str) -> bool:
    return datetime.fromisoformat(one) > datetime.fromisoformat(other)


def _describe_partition(spec: PartitionSpec) -> dict[str, Any]:
    named = {name: getattr(spec, name) for name in PARTITION_COLUMNS}
    return named | {"entity": spec.source.entity}
