"""The recorded reconciliations of a source and table, for comparison over time."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa

from flows.models import CLASSES
from flows.state.database import Database
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
    """The part of the state that records reconciliations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, migration: str, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Record the ``FACTS`` of a reconciliation; return all, with this one last."""
        row = {name: facts[name] for name in FACTS}
        row |= {"fingerprint": migration, "at": datetime.now(UTC)}
        with self._database.transaction() as connection:
            connection.execute(sa.insert(reconciliations).values(row))
        return self.history(migration)

    def history(self, migration: str) -> list[dict[str, Any]]:
        """Return the results of the reconciliations of a migration, latest last."""
        table = reconciliations.c
        query = sa.select(table.at, *(table[name] for name in FACTS))
        query = query.where(table.fingerprint == migration).order_by(table.serial)
        with self._database.transaction() as connection:
            found = connection.execute(query).all()
        # SQLite returns times without their zone.
        return [
            dict(row._mapping)  # noqa: SLF001 - its public name
            | {"at": row.at.replace(tzinfo=UTC).isoformat(timespec="milliseconds")}
            for row in found
        ]


def as_frame(history: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a history as a DataFrame: a row per reconciliation, a column per class."""
    columns = ["at", *(name for name in FACTS if name != "counts")]
    rows = [
        [past[name] for name in columns]
        + [past["counts"].get(name, 0) for name in CLASSES]
        for past in history
    ]
    frame = pd.DataFrame(rows, columns=[*columns, *CLASSES], dtype=object)
    # The types are the same without a reconciliation.
    counts = dict.fromkeys(("source_rows", "target_items", *CLASSES), "int64")
    texts = dict.fromkeys(columns[1:6], "str")
    return frame.astype({"at": "datetime64[us, UTC]"} | texts | counts)
