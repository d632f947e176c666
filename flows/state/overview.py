"""What the state knows of the runs, read without changing it and without pandas."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from flows.models import ENTITY_TYPE, Ledger
from flows.settings import Settings
from flows.state.database import Database, make_reading_engine, make_state_error
from flows.state.tables import (
    ONE_SHOT,
    REPAIR,
    TRIAL,
    partitions,
    reconciliations,
    replays,
    runs,
)
from flows.state.upgrade import ENTITIES_SINCE, read_version

# The names of reconciliations that belong to no run.
RECONCILE = "reconcile-"
# A state of version 2 can be read too: it has no mappings and no entities.
_FACTS = [column for column in runs.c if column is not runs.c.mapping]
_LEDGER = partitions.c.ledger
_READ = _LEDGER[("ledger", "read")].as_integer()
_LOADED_AT = _LEDGER[("loading", 1)].as_float()


@dataclass(frozen=True)
class PartitionProgress:
    """How far a run is: its partitions, and the rows of those that are finished."""

    partitions: int = 0
    begun: int = 0
    finished: int = 0
    # The rows of the largest finished partition.
    largest: int = 0
    ledger: Ledger = field(default_factory=Ledger)


@dataclass(frozen=True)
class RunRecord:
    """A run, or a reconciliation by itself, as the state has recorded it."""

    run_id: str
    # full, incremental, replay, trial or repair; of a reconciliation full, partial or
    # sampled.
    mode: str
    status: str
    begun: datetime
    ended: datetime | None = None
    since: str | None = None
    # The run whose quarantine it has replayed.
    replayed: str | None = None
    migration: str = ""
    identity: Mapping[str, Any] = field(default_factory=dict)
    # The report as JSON; empty until the run ends.
    report: Mapping[str, Any] = field(default_factory=dict)
    progress: PartitionProgress = field(default_factory=PartitionProgress)
    # The entities of its partitions, in the order in which they are moved.
    entities: tuple[str, ...] = ()

    @property
    def ledger(self) -> Ledger:
        """Return the rows by outcome: of the report, else of finished partitions."""
        counted = self.report.get("ledger")
        return Ledger(**counted) if counted else self.progress.ledger

    @property
    def seconds(self) -> float | None:
        """Return how long the run took, since it was last resumed."""
        total = self.report.get("seconds", {}).get("total")
        return None if total is None else float(total)

    @property
    def table(self) -> str | None:
        """Return the name of the target; None if the state does not know it."""
        return next(iter(self.identity.get("target", [])), None)

    @property
    def verdict(self) -> str | None:
        """Return the verdict as one sentence; None before the end."""
        return self.report.get("statement")

    @property
    def is_reconciliation(self) -> bool:
        """Return whether this is a reconciliation, which moved nothing."""
        return self.run_id.startswith(RECONCILE)

    def asdict(self) -> dict[str, Any]:
        """Return the facts that a list of runs has, as plain values."""
        return {
            "run_id": self.run_id,
            "kind": "reconciliation" if self.is_reconciliation else "run",
            "mode": self.mode,
            "table": self.table,
            "status": self.status,
            "verdict": self.verdict,
            "begun": as_iso(self.begun),
            "ended": as_iso(self.ended) if self.ended else None,
            "seconds": self.seconds,
            "rows": self.ledger.read,
            "written": self.ledger.written,
            "quarantined": self.ledger.quarantined,
        }


@dataclass(frozen=True)
class Proof:
    """A comparison of all rows, or of some, that found source and target equal."""

    name: str
    at: datetime
    snapshot: str
    verdict: str


class Overview:
    """The runs and reconciliations of a state, for reading."""

    def __init__(self, database: Database, version: int) -> None:
        self._database = database
        self._version = version

    @classmethod
    def open(cls, settings: Settings) -> Self | None:
        """Open the state of the settings; None if no run has created it.

        Raises:
            SettingsError: the database cannot be opened, or is of another version.
            Incomplete: it cannot be read.
        """
        text = settings.state_url.get_secret_value()
        try:
            engine = make_reading_engine(text)
            if engine is None:
                return None
            with engine.connect() as connection:
                version = read_version(connection, text)
                if version is None:
                    return None
        except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
            raise make_state_error(text, error) from None
        return cls(Database(engine, text), version)

    def close(self) -> None:
        """Close the connections to the database."""
        self._database.engine.dispose()

    def records(self) -> list[RunRecord]:
        """Return all runs, and the reconciliations by themselves, latest first."""
        query = _select_runs()
        apart = sa.select(reconciliations)
        apart = apart.where(reconciliations.c.name.startswith(RECONCILE))
        with self._database.transaction() as connection:
            progress = _read_progress(connection)
            entities = self._read_entities(connection)
            found = [
                _make_record(
                    row,
                    progress.get(row.run_id, PartitionProgress()),
                    entities.get(row.run_id, ()),
                )
                for row in connection.execute(query)
            ]
            # Of one migration, whose source and target only its runs have.
            known = {one.migration: one.identity for one in found if one.identity}
            found += [
                _make_reconciliation(row, known.get(row.fingerprint, {}))
                for row in connection.execute(apart)
            ]
        return sorted(found, key=lambda record: record.begun, reverse=True)

    def record(self, run_id: str) -> RunRecord | None:
        """Return one run by its id; None if the state does not have it."""
        query = _select_runs().where(runs.c.run_id == run_id)
        with self._database.transaction() as connection:
            row = connection.execute(query).first()
            if row is None:
                return None
            progress = _read_progress(connection, run_id)
            entities = self._read_entities(connection, run_id)
        return _make_record(
            row, progress.get(run_id, PartitionProgress()), entities.get(run_id, ())
        )

    def identities(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Return id, migration and identity of each run but repairs, latest first."""
        columns = (runs.c.run_id, runs.c.fingerprint, runs.c.identity)
        query = sa.select(*columns).where(runs.c.status != REPAIR)
        with self._database.transaction() as connection:
            found = connection.execute(query.order_by(runs.c.started_at.desc()))
            return [(run_id, migration, known) for run_id, migration, known in found]

    def loads(self, run_id: str) -> list[tuple[float, int]]:
        """Return when each finished partition was loaded (epoch), and its rows."""
        query = sa.select(_LOADED_AT, _READ).where(partitions.c.run_id == run_id)
        with self._database.transaction() as connection:
            found = connection.execute(query.where(_LOADED_AT.is_not(None))).all()
        return [(float(ended), int(rows)) for ended, rows in found]

    def last_proof(self, mode: str, others: Collection[str]) -> Proof | None:
        """Return the last clean comparison; *mode* is ``full`` or ``partial``.

        That of a run counts only if the run is proven. The comparisons of *others*,
        which are migrations, and those of replays are left out.
        """
        table = reconciliations
        query = (
            sa.select(table)
            .outerjoin(runs, runs.c.run_id == table.c.name)
            .where(table.c.mode == mode, table.c.status == "clean")
            .where(table.c.fingerprint.not_in(others))
            .where(table.c.name.not_in(sa.select(replays.c.run_id)))
            .where(sa.or_(runs.c.run_id.is_(None), runs.c.status == "proven"))
            .order_by(table.c.serial.desc())
        )
        with self._database.transaction() as connection:
            row = connection.execute(query.limit(1)).first()
        if row is None:
            return None
        return Proof(row.name, _utc(row.at), row.snapshot, row.verdict)

    def _read_entities(
        self, connection: sa.Connection, run_id: str | None = None
    ) -> dict[str, tuple[str, ...]]:
        """Return the entities of each run's partitions, or of one run's."""
        names = [partitions.c.run_id]
        if self._version >= ENTITIES_SINCE:
            names.append(partitions.c.entity)
        first = sa.func.min(partitions.c.number)
        query = sa.select(*names).group_by(*names).order_by(first)
        if run_id is not None:
            query = query.where(partitions.c.run_id == run_id)
        found: dict[str, tuple[str, ...]] = {}
        for run, *entity in connection.execute(query):
            found[run] = (*found.get(run, ()), *(entity or [ENTITY_TYPE]))
        return found


def as_iso(moment: datetime) -> str:
    """Return a time as ISO 8601 with milliseconds, in UTC."""
    utc = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return utc.replace("+00:00", "Z")


def _select_runs() -> sa.Select[Any]:
    return sa.select(*_FACTS, replays.c.replayed).select_from(runs).outerjoin(replays)


def _read_progress(
    connection: sa.Connection, run_id: str | None = None
) -> dict[str, PartitionProgress]:
    """Return the progress of each run, or of one, summed by the database."""
    names = [one.name for one in fields(Ledger)]
    counts = [
        sa.func.coalesce(sa.func.sum(_LEDGER[("ledger", name)].as_integer()), 0)
        for name in names
    ]
    query = sa.select(
        partitions.c.run_id,
        sa.func.count(),
        sa.func.sum(sa.case((partitions.c.attempts > 0, 1), else_=0)),
        sa.func.count(_READ),
        sa.func.coalesce(sa.func.max(_READ), 0),
        *counts,
    ).group_by(partitions.c.run_id)
    if run_id is not None:
        query = query.where(partitions.c.run_id == run_id)
    return {
        run: PartitionProgress(
            number, int(begun), finished, largest, Ledger(*map(int, ledger))
        )
        for run, number, begun, finished, largest, *ledger in connection.execute(query)
    }


def _make_record(
    row: sa.Row[Any], progress: PartitionProgress, entities: tuple[str, ...]
) -> RunRecord:
    mode = "full" if row.since is None else "incremental"
    if row.replayed is not None:
        mode = "replay"
    if row.status in ONE_SHOT:
        mode = row.status
    # A resumed run keeps the end of its former attempt until it ends again.
    over = row.status != "running" and row.finished_at is not None
    status = row.status
    if status == TRIAL:
        status = row.report["status"] if over and row.report else "running"
    return RunRecord(
        run_id=row.run_id,
        mode=mode,
        status=status,
        begun=_utc(row.started_at),
        ended=_utc(row.finished_at) if over else None,
        since=row.since,
        replayed=row.replayed,
        migration=row.fingerprint,
        identity=row.identity,
        report=(row.report or {}) if over else {},
        progress=progress,
        entities=entities,
    )


def _make_reconciliation(row: sa.Row[Any], identity: Mapping[str, Any]) -> RunRecord:
    counts = row.counts
    ledger = Ledger(read=row.source_rows, quarantined=counts.get("explained", 0))
    facts = {
        "statement": row.verdict,
        "source": {"rows": row.source_rows, "snapshot": row.snapshot},
        "reconciliation": counts,
    }
    return RunRecord(
        run_id=row.name,
        mode=row.mode,
        status=row.status,
        begun=_utc(row.at),
        ended=_utc(row.at),
        migration=row.fingerprint,
        identity=identity,
        report=facts,
        progress=PartitionProgress(ledger=ledger),
    )


def _utc(moment: datetime) -> datetime:
    # SQLite returns times without their zone.
    return (
        moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    )
