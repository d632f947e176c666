"""The manifest of a partition: the items to send, as a compact block of bytes.

Proofs, resumes and deletions rely on manifests, so a manifest is durable before its
partition is sent.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from flows.models import Key, LastWrite, PartitionSpec
from flows.models.digests import digest_columns
from flows.state.database import Database
from flows.state.tables import manifests, partitions, runs

# The letters of outcomes, which states have on disk; also that of a run's deletions,
# and that of the items that were there before a trial.
CODES = {
    "written": b"w",
    "unchanged": b"u",
    "kept_newer": b"k",
    "refused": b"r",
    "failed": b"f",
    "deleted": b"d",
    "there": b"t",
}
# A manifest, and the letter of each row; no letters until its partition is done.
Entry: TypeAlias = tuple[pa.Table, np.ndarray]

SCHEMA = pa.schema(
    [
        ("source_id", pa.string()),
        ("id", pa.string()),
        ("updated_at", pa.string()),
        ("digest", pa.binary(16)),
    ]
)


# The name under which a manifest has the attributes that its digests are of.
ATTRIBUTES = "attributes"
# The keys are saved only of items whose ids alone do not show them.
KEYED = pa.schema([*SCHEMA, ("partition_key", pa.string()), ("sort_key", pa.string())])


class ManifestLog:
    """All manifests of a state; none is ever changed or deleted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, spec: PartitionSpec, items: pd.DataFrame) -> None:
        """Save keys, stamps and digests durably before the items are sent."""
        row = {
            "run_id": spec.run_id,
            "number": spec.number,
            "rows": len(items),
            "data": encode(items, keyed=not spec.source.has_keys_of_ids),
        }
        with self._database.transaction() as connection:
            connection.execute(sa.insert(manifests).values(row))

    def save_ids(
        self,
        run_id: str,
        ids: Sequence[str],
        what: str,
        keys: Sequence[Key] | None = None,
    ) -> None:
        """Save ids durably: before their items are *deleted*, or as *there* before.

        The *keys* of the items are needed unless their ids alone show them.
        """
        row = {
            "run_id": run_id,
            "number": 0,
            "rows": len(ids),
            "data": encode_ids(ids, keys),
            "outcomes": encode_outcomes([what] * len(ids)),
        }
        with self._database.transaction() as connection:
            connection.execute(sa.insert(manifests).values(row))

    def of_run(self, run_id: str, entity: str | None = None) -> Iterator[Entry]:
        """Yield the last manifest of each partition, with each row's letter.

        The order is that in which the partitions were planned. With *entity*, only its
        partitions count.
        """
        last = (
            sa.select(sa.func.max(manifests.c.serial))
            .where(_is_of(run_id, entity), manifests.c.number > 0)
            .group_by(manifests.c.number)
            .order_by(manifests.c.number)
        )
        return self._read(last)

    def count_written(
        self,
        run_id: str,
        apart_from: set[str],
        rows: set[str] | None = None,
        entity: str | None = None,
    ) -> int:
        """Count the keys that a run wrote, apart from some ids.

        A resumed run has read its partitions under more than one snapshot: its *rows*
        are the source ids of the last one. Rows that are gone since do not count, and
        rows that were moved twice count once. With *entity*, only keys of its
        partitions count; source ids are unique only within an entity.
        """
        saved = sa.select(manifests.c.serial).where(_is_of(run_id, entity))
        log = self._read(saved.order_by(manifests.c.serial))
        return count_written(log, apart_from, rows)

    def of_trial(self, run_id: str, entity: str) -> Iterator[Entry]:
        """Yield a trial's manifests of an entity, and of what was there before it."""
        saved = sa.select(manifests.c.serial).where(
            sa.or_(
                _is_of(run_id, entity),
                sa.and_(manifests.c.run_id == run_id, manifests.c.number == 0),
            )
        )
        return self._read(saved.order_by(manifests.c.serial))

    def of_runs(self, chosen: sa.ColumnElement[bool]) -> Iterator[Entry]:
        """Yield all manifests of the *chosen* runs, in the order of saving."""
        saved = (
            sa.select(manifests.c.serial)
            .join(runs, runs.c.run_id == manifests.c.run_id)
            .where(chosen)
            .order_by(manifests.c.serial)
        )
        return self._read(saved)

    def known_items(self, migration: str, ids: set[str]) -> dict[str, LastWrite]:
        """Return what runs of a migration left of some items, by id."""
        return trace_items(self.of_runs(runs.c.fingerprint == migration), ids)

    def _read(self, serials: sa.Select[tuple[int]]) -> Iterator[Entry]:
        columns = sa.select(manifests.c.data, manifests.c.outcomes)
        with self._database.transaction() as connection:
            for serial in connection.scalars(serials).all():
                row = connection.execute(columns.filter_by(serial=serial)).one()
                yield decode(row.data), np.frombuffer(row.outcomes or b"", "S1")


def encode_outcomes(outcomes: Sequence[str]) -> bytes:
    """Encode outcomes as one letter each."""
    return b"".join(CODES[outcome] for outcome in outcomes)


def _is_of(run_id: str, entity: str | None) -> sa.ColumnElement[bool]:
    """Return the condition that a manifest is of a run, and of an *entity* if given."""
    ours = manifests.c.run_id == run_id
    if entity is None:
        return ours
    numbers = sa.select(partitions.c.number).filter_by(run_id=run_id, entity=entity)
    return sa.and_(ours, manifests.c.number.in_(numbers))


def encode(items: pd.DataFrame, *, keyed: bool = False) -> bytes:
    """Encode the stamps and digests of items, if *keyed* with their keys.

    Items without times have no stamps.
    """
    owned = items.drop(columns="source_id")
    named = {ATTRIBUTES: json.dumps([*owned.columns])}
    stamps = items["updatedAt"].tolist() if "updatedAt" in items else None
    columns = {
        "source_id": items["source_id"].tolist(),
        "id": items["id"].tolist(),
        "updated_at": stamps or [None] * len(items),
        "digest": digest_columns([owned[name].tolist() for name in owned]),
    }
    if keyed:
        columns |= {"partition_key": items["PK"], "sort_key": items["SK"]}
    schema = KEYED if keyed else SCHEMA
    return _compact(pa.table(columns, schema=schema.with_metadata(named)))


def encode_ids(ids: Sequence[str], keys: Sequence[Key] | None = None) -> bytes:
    """Encode the ids of items, and their *keys*, of which nothing else is known."""
    nothing = dict.fromkeys(SCHEMA.names, [None] * len(ids))
    columns = nothing | {"id": ids, "digest": [bytes(16)] * len(ids)}
    if keys is None:
        return _compact(pa.table(columns, schema=SCHEMA))
    columns |= {
        "partition_key": [one for one, _ in keys],
        "sort_key": [other for _, other in keys],
    }
    return _compact(pa.table(columns, schema=KEYED))


def decode(data: bytes) -> pa.Table:
    """Return a manifest as a table of ``SCHEMA``."""
    return pa.ipc.open_stream(data).read_all()


def count_written(
    log: Iterable[Entry],
    apart_from: set[str],
    rows: set[str] | None,
) -> int:
    """Count the keys that were written, apart from some ids.

    With *rows*, only these source ids count, each once; they are removed from the set.
    """
    count = 0
    for table, letters in log:
        if not len(letters):
            continue
        written = table.filter(pa.array(letters == np.bytes_(CODES["written"])))
        columns = (written[name].to_pylist() for name in ("source_id", "id"))
        for row, key in zip(*columns, strict=True):
            if key in apart_from or (rows is not None and row not in rows):
                continue
            if rows is not None:
                rows.remove(row)
            count += 1
    return count


def trace_items(log: Iterable[Entry], ids: set[str]) -> dict[str, LastWrite]:
    """Return the last write of some items, from manifests in the order of saving.

    Ids that are in no manifest are left out.
    """
    # By id and, if manifests have it, by key: the last one sent comes last.
    traces: dict[str, dict[Key | None, LastWrite | None]] = {}
    rows: dict[str, str] = {}
    # A key that is not ASCII, such as half of a surrogate pair, is no UUID of ours.
    wanted = pa.array(sorted(key for key in ids if key.isascii()), pa.string())
    for table, letters in log:
        chosen = pc.is_in(table["id"], value_set=wanted)
        found = table.filter(chosen)
        attributes = attributes_in(table)
        outcomes = letters[np.asarray(chosen)].tolist() if len(letters) else ()
        identities = found["id"].to_pylist()
        named = zip(identities, found["source_id"].to_pylist(), strict=True)
        rows |= {key: row for key, row in named if row is not None}
        columns = (identities, found["digest"].to_pylist(), keys_in(found))
        left_over = [b""] * (len(found) - len(outcomes))
        sent = zip(*columns, [*outcomes, *left_over], strict=True)
        for identity, left, key, outcome in sent:
            at_keys = traces.setdefault(identity, {})
            trace = at_keys.pop(key, None)
            at_keys[key] = follow(trace, left, outcome, attributes)
    last = {one: _last_of(at_keys) for one, at_keys in traces.items()}
    return {
        one: replace(trace, source_id=rows.get(one))
        for one, trace in last.items()
        if trace is not None
    }


def attributes_in(table: pa.Table) -> tuple[str, ...]:
    """Return the attributes of which a manifest has digests; empty if unknown."""
    text = (table.schema.metadata or {}).get(ATTRIBUTES.encode())
    return tuple(json.loads(text)) if text else ()


def keys_in(table: pa.Table) -> Sequence[Key | None]:
    """Return the keys in a manifest; None for those that ids show."""
    if "partition_key" not in table.column_names:
        return [None] * len(table)
    both = (table[name].to_pylist() for name in ("partition_key", "sort_key"))
    return list(zip(*both, strict=True))


def _last_of(at_keys: Mapping[Key | None, LastWrite | None]) -> LastWrite | None:
    """Return the write at the key that was sent last, with those at other keys."""
    writes = [replace(w, key=key) for key, w in at_keys.items() if w is not None]
    if len(writes) < 2:  # noqa: PLR2004 - nearly all items have one key
        return writes[0] if writes else None
    return replace(writes[-1], elsewhere=tuple(writes[:-1]))


def follow(
    trace: LastWrite | None,
    left: bytes,
    outcome: bytes,
    attributes: tuple[str, ...] = (),
) -> LastWrite | None:
    """Follow an item through one more manifest, which has its digest as *left*.

    *outcome* is its letter there, empty until the partition is done. The digest is of
    these *attributes*.
    """
    before = trace or LastWrite(frozenset(), there=False)
    named = frozenset({attributes})
    if outcome in {CODES["written"], CODES["unchanged"]}:
        return LastWrite(frozenset({left}), there=True, attributes=named)
    if outcome == CODES["kept_newer"]:
        # The item was left alone: it is unchanged, and differs from the row.
        return LastWrite(before.digests, there=True, attributes=before.attributes)
    if outcome in {CODES["refused"], CODES["there"]}:
        return trace
    if outcome == CODES["deleted"]:
        return LastWrite(before.digests, there=False, attributes=before.attributes)
    # The partition is not done, or the write failed: it may have been applied.
    return LastWrite(
        before.digests | {left},
        there=before.there,
        before=trace is not None,
        attributes=before.attributes | named if trace else named,
    )


def _compact(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
