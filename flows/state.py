"""What a run remembers: runs, partitions, their manifests and their ledgers.

SQLAlchemy on ``STATE_URL``; SQLite by default. A partition's manifest is durable
before the partition is sent, its ledger after; both are one row each, so that a crash
leaves either all of it or nothing.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from flows.errors import Incomplete, SettingsError
from flows.models import Ledger, PartitionLedger, PartitionSpec, digest
from flows.settings import Settings

metadata = sa.MetaData()

runs = sa.Table(
    "run",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("identity", sa.JSON, nullable=False),
    sa.Column("report", sa.JSON),
)
partitions = sa.Table(
    "partition",
    metadata,
    sa.Column("run_id", sa.ForeignKey("run.run_id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("lower", sa.Text),
    sa.Column("upper", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("ledger", sa.JSON),
    sa.Column("quarantine", sa.JSON),
)
manifests = sa.Table(
    "manifest",
    metadata,
    sa.Column("run_id", sa.ForeignKey("run.run_id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

MANIFEST_SCHEMA = pa.schema(
    [
        ("source_id", pa.string()),
        ("id", pa.string()),
        ("updated_at", pa.string()),
        ("digest", pa.binary(16)),
    ]
)
QUARANTINE_COLUMNS = (
    "source_id",
    "reasons",
    "enterprise_name",
    "created_date",
    "updated_date",
)


def fingerprint(identity: dict[str, Any]) -> str:
    """Return the digest of what makes two runs the same migration."""
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


class State:
    """The run's memory, in the database of ``STATE_URL``."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the state, making its tables where they are missing.

        Raises:
            SettingsError: the database cannot be opened.
        """
        text = settings.state_url.get_secret_value()
        try:
            engine = _make_engine(text)
            metadata.create_all(engine)
        except (SQLAlchemyError, ImportError, OSError) as error:
            message = f"The state cannot be opened ({type(error).__name__})."
            remedy = "Set STATE_URL, e.g. sqlite:///data/runs/state.db"
            raise SettingsError(message, remedy) from None
        return cls(engine)

    def start_run(self, run_id: str, identity: dict[str, Any]) -> None:
        """Record a new run.

        Raises:
            SettingsError: a run of this id is there.
        """
        row = {
            "run_id": run_id,
            "status": "running",
            "started_at": datetime.now(UTC),
            "fingerprint": fingerprint(identity),
            "identity": identity,
        }
        with self._transaction() as connection:
            if connection.scalar(sa.select(runs.c.run_id).filter_by(run_id=run_id)):
                message = f"A run {run_id} is there already."
                raise SettingsError(message, "Give another --run-id.")
            connection.execute(sa.insert(runs).values(row))

    def finish_run(self, run_id: str, status: str, report: dict[str, Any]) -> None:
        """Record how a run ended, with its report."""
        change = {"status": status, "finished_at": datetime.now(UTC), "report": report}
        with self._transaction() as connection:
            connection.execute(
                sa.update(runs).where(runs.c.run_id == run_id).values(change)
            )

    def last_run(self, identity: dict[str, Any]) -> str | None:
        """Return the id of the latest finished run of the same migration."""
        query = (
            sa.select(runs.c.run_id)
            .where(runs.c.fingerprint == fingerprint(identity))
            .where(runs.c.finished_at.is_not(None))
            .order_by(runs.c.started_at.desc())
            .limit(1)
        )
        with self._transaction() as connection:
            return connection.scalar(query)

    def begin_partition(self, spec: PartitionSpec) -> int:
        """Record that a partition is begun; return which attempt this is, from 1."""
        here = sa.and_(
            partitions.c.run_id == spec.run_id, partitions.c.number == spec.number
        )
        with self._transaction() as connection:
            before = connection.scalar(sa.select(partitions.c.attempts).where(here))
            if before is None:
                row = {
                    "run_id": spec.run_id,
                    "number": spec.number,
                    "lower": spec.lower,
                    "upper": spec.upper,
                    "attempts": 1,
                }
                connection.execute(sa.insert(partitions).values(row))
                return 1
            attempts = int(before) + 1
            connection.execute(
                sa.update(partitions).where(here).values(attempts=attempts)
            )
            return attempts

    def save_manifest(self, spec: PartitionSpec, items: pd.DataFrame) -> None:
        """Make durable what is about to be sent: keys, stamps and digests."""
        owned = items.drop(columns="source_id").itertuples(index=False)
        manifest = pa.table(
            {
                "source_id": items["source_id"].tolist(),
                "id": items["id"].tolist(),
                "updated_at": items["updatedAt"].tolist(),
                "digest": [digest(values) for values in owned],
            },
            schema=MANIFEST_SCHEMA,
        )
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, manifest.schema, options=options) as writer:
            writer.write_table(manifest)
        row = {
            "run_id": spec.run_id,
            "number": spec.number,
            "rows": manifest.num_rows,
            "data": sink.getvalue().to_pybytes(),
        }
        here = sa.and_(
            manifests.c.run_id == spec.run_id, manifests.c.number == spec.number
        )
        with self._transaction() as connection:
            connection.execute(sa.delete(manifests).where(here))
            connection.execute(sa.insert(manifests).values(row))

    def finish_partition(self, report: PartitionLedger, rows: pd.DataFrame) -> None:
        """Record a partition's ledger and its quarantined rows, in one step."""
        here = sa.and_(
            partitions.c.run_id == report.run_id,
            partitions.c.number == report.number,
        )
        change = {"ledger": asdict(report), "quarantine": rows.to_dict("records")}
        with self._transaction() as connection:
            connection.execute(sa.update(partitions).where(here).values(change))

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

    def manifests(self, run_id: str) -> Iterator[pa.Table]:
        """Yield the manifests of a run's partitions, in key order."""
        numbers = (
            sa.select(manifests.c.number)
            .where(manifests.c.run_id == run_id)
            .order_by(manifests.c.number)
        )
        with self._transaction() as connection:
            for number in connection.scalars(numbers).all():
                data = connection.scalar(
                    sa.select(manifests.c.data)
                    .where(manifests.c.run_id == run_id)
                    .where(manifests.c.number == number)
                )
                yield pa.ipc.open_stream(data).read_all()

    def quarantine(self, run_id: str) -> pd.DataFrame:
        """Return a run's quarantined rows, with their reasons and raw values."""
        query = (
            sa.select(partitions.c.quarantine)
            .where(partitions.c.run_id == run_id)
            .where(partitions.c.quarantine.is_not(None))
            .order_by(partitions.c.number)
        )
        with self._transaction() as connection:
            found = [row for rows in connection.scalars(query) for row in rows or ()]
        return pd.DataFrame(found, columns=list(QUARANTINE_COLUMNS), dtype=object)

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None)
            message = (
                f"The state in {self._engine.url.render_as_string(hide_password=True)}"
                f" cannot be used: {type(cause or error).__name__}"
                f" {cause if self._engine.dialect.name == 'sqlite' else ''}"
            )
            remedy = "Make room or mend it, then run again."
            raise Incomplete(message.rstrip(), remedy) from None


def _make_engine(text: str) -> sa.Engine:
    url = sa.make_url(text)
    if url.get_backend_name() in {"postgres", "postgresql"}:
        return sa.create_engine(url.set(drivername="postgresql+psycopg2"))
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url)
    if url.database and url.database != ":memory:":
        path = Path(url.database)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Quarantined rows are in it: nobody else's to read.
        path.touch(mode=0o600)
    engine = sa.create_engine(url, connect_args={"timeout": 30})
    sa.event.listen(engine, "connect", _make_durable)
    return engine


def _make_durable(connection: Any, _record: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
