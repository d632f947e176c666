"""The reconciliations of a source and table: recorded, and held against each other."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa

from flows.reconciliation.report import CLASSES, DIFFERENT, ReconciliationReport
from flows.state.tables import reconciliations

FACTS = (
    "name",
    "snapshot",
    "mode",
    "status",
    "verdict",
    "source_rows",
    "target_items",
    "counts",
)


class ReconciliationMemory:
    """The part of the state that is about reconciliations."""

    def _transaction(self) -> AbstractContextManager[sa.Connection]:
        raise NotImplementedError

    def remember(
        self, migration: str, report: ReconciliationReport
    ) -> ReconciliationReport:
        """Record what a reconciliation found; return its report with what is new.

        The report also gets the history, of which it is the last.
        """
        new = new_classes(self.reconciliations(migration), report.counts)
        facts = {"snapshot": report.taken, "counts": dict(report.counts)}
        names = [name for name in FACTS if name not in facts]
        row = {name: getattr(report, name) for name in names} | facts
        row |= {"fingerprint": migration, "at": datetime.now(UTC)}
        with self._transaction() as connection:
            connection.execute(sa.insert(reconciliations).values(row))
        history = tuple(self.reconciliations(migration))
        return replace(report, new_classes=new, history=history)

    def reconciliations(self, migration: str) -> list[dict[str, Any]]:
        """Return what the reconciliations of a migration found, the latest last."""
        table = reconciliations.c
        query = sa.select(table.at, *(table[name] for name in FACTS))
        query = query.where(table.fingerprint == migration).order_by(table.serial)
        with self._transaction() as connection:
            found = connection.execute(query).all()
        # SQLite gives times back without their zone.
        return [
            dict(row._mapping)  # noqa: SLF001 - its public name
            | {"at": row.at.replace(tzinfo=UTC).isoformat(timespec="milliseconds")}
            for row in found
        ]


def new_classes(
    history: Sequence[Mapping[str, Any]], counts: Mapping[str, int]
) -> tuple[str, ...]:
    """Return the classes of differences that former reconciliations did not have.

    A sample, or a comparison of some rows, does not see everything: what counts is the
    last full one and all that followed it.
    """
    seen: set[str] = set()
    for past in history:
        if past["mode"] == "full":
            seen.clear()
        seen.update(name for name in DIFFERENT if past["counts"].get(name))
    return tuple(name for name in DIFFERENT if counts[name] and name not in seen)


def as_frame(history: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a history as a DataFrame: one row a reconciliation, a column a class."""
    columns = ["at", *(name for name in FACTS if name != "counts")]
    rows = [
        [past[name] for name in columns]
        + [past["counts"].get(name, 0) for name in CLASSES]
        for past in history
    ]
    frame = pd.DataFrame(rows, columns=[*columns, *CLASSES])
    return frame.assign(at=pd.to_datetime(frame["at"], utc=True))
