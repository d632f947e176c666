"""The source as the runs have seen it: its columns, its profile, its bad rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from flows.state.database import Database
from flows.state.manifest import ManifestLog
from flows.state.tables import TRIAL, partitions, replays, runs, sources

QUARANTINE_COLUMNS = (
    "source_id",
    "reasons",
    "enterprise_name",
    "created_date",
    "updated_date",
    # DynamoDB's reason for refusing an item, without values of the row.
    "store_reason",
)
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
        """Record the columns that a run found in its source, and their roles."""
        row = {"run_id": run_id, "source": source, "columns": dict(columns)}
        with self._database.transaction() as connection:
            connection.execute(sa.delete(sources).filter_by(run_id=run_id))
            connection.execute(sa.insert(sources).values(row))

    def save_profile(self, run_id: str, profile: Mapping[str, Any]) -> None:
        """Record the profile of the source's rows in a run."""
        here = sa.update(sources).filter_by(run_id=run_id)
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

    def explained(self, migration: str) -> frozenset[str]:
        """Return the source ids that the last full run and those after it quarantined.

        A row that a later run moved is no longer explained. Trials explain nothing.
        """
        return self._explained(migration)[0]

    def unaccepted(self, migration: str) -> frozenset[str]:
        """Return the explained source ids that no proven run has quarantined.

        A proven run was allowed to quarantine its rows (``--allow-quarantined``).
        """
        explained, accepted = self._explained(migration)
        return explained - accepted

    def _explained(self, migration: str) -> tuple[frozenset[str], frozenset[str]]:
        """Return the explained source ids, and those that proven runs quarantined."""
        columns = (runs.c.run_id, runs.c.since, runs.c.status)
        query = (
            sa.select(*columns, NO_REPLAY.label("ranged"))
            .where(runs.c.fingerprint == migration)
            .where(runs.c.finished_at.is_not(None), runs.c.status != TRIAL)
            .order_by(runs.c.started_at)
        )
        with self._database.transaction() as connection:
            found = connection.execute(query).all()
        explained: set[str] = set()
        accepted: set[str] = set()
        for run_id, since, status, ranged in found:
            if since is None and ranged:
                explained.clear()
                accepted.clear()
            if explained:
                for table, letters in self._log.of_run(run_id):
                    # Rows of an unfinished partition may not be in the table yet.
                    if len(letters):
                        explained.difference_update(table["source_id"].to_pylist())
            quarantined = self.quarantine(run_id)["source_id"]
            explained.update(quarantined)
            accepted &= explained
            if status == "proven":
                accepted.update(quarantined)
        return frozenset(explained), frozenset(accepted)

    def quarantine(self, run_id: str) -> pd.DataFrame:
        """Return a run's quarantined rows: reasons, raw values, and partition."""
        query = (
            sa.select(partitions.c.number, partitions.c.quarantine)
            .where(partitions.c.run_id == run_id)
            .where(partitions.c.quarantine.is_not(None))
            .order_by(partitions.c.number)
        )
        absent = dict.fromkeys(QUARANTINE_COLUMNS)
        with self._database.transaction() as connection:
            found = [
                absent | row | {"partition": str(number)}
                for number, rows in connection.execute(query)
                for row in rows or ()
            ]
        # Last, since it was added last: readers by column position still work.
        columns = [c for c in QUARANTINE_COLUMNS if c != "store_reason"]
        columns += ["partition", "store_reason"]
        return pd.DataFrame(found, columns=columns, dtype=object)


def count_reasons(reasons: "pd.Series[str]") -> dict[str, int]:
    """Count the rows by reason code; a row may have several."""
    codes = Counter(code for joined in reasons for code in joined.split(";"))
    return dict(sorted(codes.items()))
