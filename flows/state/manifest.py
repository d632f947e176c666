"""The manifest of a partition: what is about to be sent, as a compact block of bytes.

A run proves, resumes and deletes by its manifests, so one is durable before its
partition is sent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flows.digests import digest_columns
from flows.models import LastWrite

# Outcomes by their first letters; what a run deleted has one of its own.
WRITTEN, UNCHANGED, KEPT_NEWER, REFUSED, DELETED = b"w", b"u", b"k", b"r", b"d"

SCHEMA = pa.schema(
    [
        ("source_id", pa.string()),
        ("id", pa.string()),
        ("updated_at", pa.string()),
        ("digest", pa.binary(16)),
    ]
)


def encode(items: pd.DataFrame) -> bytes:
    """Encode the keys, stamps and digests of items."""
    owned = items.drop(columns="source_id")
    table = pa.table(
        {
            "source_id": items["source_id"].tolist(),
            "id": items["id"].tolist(),
            "updated_at": items["updatedAt"].tolist(),
            "digest": digest_columns([owned[name].tolist() for name in owned]),
        },
        schema=SCHEMA,
    )
    return _compact(table)


def encode_ids(ids: Sequence[str]) -> bytes:
    """Encode the ids of items of which nothing else is to be known."""
    nothing = dict.fromkeys(SCHEMA.names, [None] * len(ids))
    columns = nothing | {"id": ids, "digest": [bytes(16)] * len(ids)}
    return _compact(pa.table(columns, schema=SCHEMA))


def decode(data: bytes) -> pa.Table:
    """Return a manifest as a table of ``SCHEMA``."""
    return pa.ipc.open_stream(data).read_all()


def count_written(
    log: Iterable[tuple[pa.Table, np.ndarray]],
    apart_from: set[str],
    rows: set[str] | None,
) -> int:
    """Count the keys that were written, apart from some ids.

    With *rows*, source ids that are used up here, only of these, and each once.
    """
    count = 0
    for table, letters in log:
        if not len(letters):
            continue
        written = table.filter(pa.array(letters == np.bytes_(WRITTEN)))
        columns = (written[name].to_pylist() for name in ("source_id", "id"))
        for row, key in zip(*columns, strict=True):
            if key in apart_from or (rows is not None and row not in rows):
                continue
            if rows is not None:
                rows.remove(row)
            count += 1
    return count


def trace_items(
    log: Iterable[tuple[pa.Table, np.ndarray]], ids: set[str]
) -> dict[str, LastWrite]:
    """Return the last write of some items, from manifests in the order of saving.

    Ids that no manifest has are left out.
    """
    traces: dict[str, LastWrite | None] = {}
    rows: dict[str, str] = {}
    # Any other text of a key, half of a surrogate pair too, is no UUID of ours.
    wanted = pa.array(sorted(key for key in ids if key.isascii()), pa.string())
    for table, letters in log:
        chosen = pc.is_in(table["id"], value_set=wanted)
        found = table.filter(chosen)
        outcomes = letters[np.asarray(chosen)].tolist() if len(letters) else ()
        columns = (found[name].to_pylist() for name in ("id", "digest"))
        named = zip(
            found["id"].to_pylist(), found["source_id"].to_pylist(), strict=True
        )
        rows |= {key: row for key, row in named if row is not None}
        for key, left, outcome in zip_longest(*columns, outcomes, fillvalue=b""):
            traces[key] = _follow(traces.get(key), left, outcome)
    return {
        key: replace(trace, source_id=rows.get(key))
        for key, trace in traces.items()
        if trace is not None
    }


def _follow(trace: LastWrite | None, left: bytes, outcome: bytes) -> LastWrite | None:
    """Follow an item over one more manifest, which has its digest as *left*.

    *outcome* is its letter there, empty while the partition is not done.
    """
    digests = trace.digests if trace else frozenset()
    if outcome in {WRITTEN, UNCHANGED}:
        return LastWrite(frozenset({left}), there=True)
    if outcome == KEPT_NEWER:
        # It was left alone: it is what it was, and not the row's.
        return LastWrite(digests, there=True)
    if outcome == REFUSED:
        return trace
    if outcome == DELETED:
        return LastWrite(digests, there=False)
    # Not done, or given up: it may have been applied.
    there = trace is not None and trace.there
    return LastWrite(digests | {left}, there=there, before=trace is not None)


def _compact(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
