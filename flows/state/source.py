"""The source as the runs have seen it: its columns, its profile, its bad rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from flows.models import ENTITY_TYPE
from flows.state.database import Database
from flows.state.manifest import ManifestLog
from flows.state.tables import TRIAL, partitions, replays, runs, sources

# The columns of the built-in mapping.
QUARANTINE_COLUMNS = (
    "source_id",
    "reasons",
    "enterprise_name",
    "created_date",
    "updated_date",
    # DynamoDB's reason for refusing an item, without values of the row.
    "store_reason",
)
FIRST_COLUMNS, LAST_COLUMN = QUARANTINE_COLUMNS[:2], QUARANTINE_COLUMNS[-1]
# The run is not a replay: it read a range of the table, not selected rows.
NO_REPLAY = runs.c.run_id.not_in(sa.select(replays.c.run_id))


@dataclass(frozen=True)
class Quarantine:
    """A run that has quarantined rows, and the number of rows by reason."""

    run_id: str
    status: str
    started_at: str
    rows: int
    reasons: Mapping[str, int]


class SourceMemory:
    """The part of the state that describes the source."""

    def __init__(self, database: Database, log: ManifestLog) -> None:
        self._database = database
        self._log = log

    def save_columns(
        self, run_id: str, source: str, columns: Mapping[str, Any]
    ) -> None:
        """Record the columns that a run found in a source, and their roles."""
        here = {"run_id": run_id, "source": source}
        row = here | {"columns": dict(columns)}
        with self._database.transaction() as connection:
            connection.execute(sa.delete(sources).filter_by(**here))
            connection.execute(sa.insert(sources).values(row))

    def save_profile(
        self, run_id: str, source: str, profile: Mapping[str, Any]
    ) -> None:
        """Record the profile of a source's rows in a run that recorded its columns."""
        here = sa.update(sources).filter_by(run_id=run_id, source=source)
        with self._database.transaction() as connection:
            connection.execute(here.values(profile=dict(profile)))

    def last_columns(self, source: str) -> tuple[str, dict[str, Any]] | None:
        """Return the last run that read a source, and the columns that it found."""
        found = self._last(source, sources.c.columns)
        return (found[0], found[1]) if found else None

    def last_profile(self, source: str, apart_from: str = "") -> dict[str, Any] | None:
        """Return the last profile of a source, apart from that of one run."""
        found = self._last(source, sources.c.profile, apart_from)
        return found[1] if found else None

    def _last(
        self, source: str, column: sa.Column[Any], apart_from: str = ""
    ) -> tuple[str, dict[str, Any]] | None:
        query = (
            sa.select(runs.c.run_id, column)
            .join(sources, sources.c.run_id == runs.c.run_id)
            .where(sources.c.source == source, runs.c.run_id != apart_from)
            .where(sa.cast(column, sa.Text) != "null", column.is_not(None))
            .order_by(runs.c.started_at.desc())
            .limit(1)
        )
        with self._database.transaction() as connection:
            found = connection.execute(query).first()
        return (str(found[0]), dict(found[1])) if found else None

    def quarantines(self, migration: str | None = None) -> list[Quarantine]:
        """Return the runs that have quarantined rows, latest first."""
        query = sa.select(runs).order_by(runs.c.started_at.desc())
        if migration is not None:
            query = query.where(runs.c.fingerprint == migration)
        with self._database.transaction() as connection:
            found = connection.execute(query).all()
        listed = [(run, self.quarantine(run.run_id)["reasons"]) for run in found]
        return [
            Quarantine(
                run_id=run.run_id,
                status=run.status,
                started_at=run.started_at.isoformat(timespec="seconds"),
                rows=len(reasons),
                reasons=count_reasons(reasons),
            )
            for run, reasons in listed
            if len(reasons)
        ]

    def explained(self, migration: str, entity: str = ENTITY_TYPE) -> frozenset[str]:
        """Return the source ids that the last full run and those after it quarantined.

        Only rows of the *entity* count. A row that a later run moved is no longer
        explained. Trials explain nothing.
        """
        return self._explained(migration, entity)[0]

    def unaccepted(self, migration: str, entity: str = ENTITY_TYPE) -> frozenset[str]:
        """Return the explained source ids that no proven run has quarantined.

        A proven run was allowed to quarantine its rows (``--allow-quarantined``).
        """
        explained, accepted = self._explained(migration, entity)
        return explained - accepted

    def _explained(
        self, migration: str, entity: str
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return the explained source ids, and those that proven runs quarantined."""
        query = (
            sa.select(
                runs.c.run_id,
                runs.c.status,
                sa.and_(runs.c.since.is_(None), NO_REPLAY, _moves(entity)),
            )
            .where(runs.c.fingerprint == migration)
            .where(runs.c.finished_at.is_not(None), runs.c.status != TRIAL)
            .order_by(runs.c.started_at)
        )
        with self._database.transaction() as connection:
            found = connection.execute(query).all()
        explained: set[str] = set()
        accepted: set[str] = set()
        for run_id, status, is_full in found:
            if is_full:
                explained.clear()
                accepted.clear()
            if explained:
                for table, letters in self._log.of_run(run_id, entity):
                    # Rows of an unfinished partition may not be in the table yet.
                    if len(letters):
                        explained.difference_update(table["source_id"].to_pylist())
            quarantined = self.quarantine(run_id, entity)["source_id"]
            explained.update(quarantined)
            accepted &= explained
            if status == "proven":
                accepted.update(quarantined)
        return frozenset(explained), frozenset(accepted)

    def quarantine(self, run_id: str, entity: str | None = None) -> pd.DataFrame:
        """Return a run's quarantined rows: reasons, raw values, and partition.

        The raw columns are those of the rows; a row has None in the columns of others.
        Rows of more than one entity have the name of theirs in the column ``entity``.
        Without rows the columns are those of the built-in mapping.
        """
        columns = (partitions.c.number, partitions.c.entity, partitions.c.quarantine)
        query = (
            sa.select(*columns)
            .where(partitions.c.run_id == run_id)
            .where(partitions.c.quarantine.is_not(None))
            .order_by(partitions.c.number)
        )
        if entity is not None:
            query = query.where(partitions.c.entity == entity)
        with self._database.transaction() as connection:
            found = [
                row | {"entity": name, "partition": str(number)}
                for number, name, rows in connection.execute(query)
                for row in rows or ()
            ]
        names = _name_columns(found)
        absent = dict.fromkeys(names)
        rows = [absent | row for row in found]
        return pd.DataFrame(rows, columns=names, dtype=object)


def _moves(entity: str) -> sa.ColumnElement[bool]:
    """Return the condition that a run moves an entity, all of it or some rows."""
    moved = sa.select(partitions.c.run_id).where(partitions.c.entity == entity)
    here = runs.c.run_id.in_(moved)
    # By the built-in mapping also from a table without rows, which has no partitions.
    return sa.or_(here, runs.c.mapping.is_(None)) if entity == ENTITY_TYPE else here


def _name_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of quarantined rows, in their order."""
    raw = dict.fromkeys(name for row in rows for name in row)
    if not rows:
        raw = dict.fromkeys(QUARANTINE_COLUMNS)
    for name in (*FIRST_COLUMNS, "entity", "partition", LAST_COLUMN):
        raw.pop(name, None)
    several = bool({row["entity"] for row in rows} - {ENTITY_TYPE})
    # Last, since it was added last: readers by column position still work.
    last = ("partition", LAST_COLUMN)
    return [*FIRST_COLUMNS, *raw, *(("entity",) if several else ()), *last]


def count_reasons(reasons: "pd.Series[str]") -> dict[str, int]:
    """Count the rows by reason code; a row may have several."""
    codes = Counter(code for joined in reasons for code in joined.split(";"))
    return dict(sorted(codes.items()))
