"""The manifest of a partition: what is about to be sent, as a compact block of bytes.

A run proves, resumes and deletes by its manifests, so one is durable before its
partition is sent.
"""

import pandas as pd
import pyarrow as pa

from flows.models import digest

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
    owned = items.drop(columns="source_id").itertuples(index=False)
    table = pa.table(
        {
            "source_id": items["source_id"].tolist(),
            "id": items["id"].tolist(),
            "updated_at": items["updatedAt"].tolist(),
            "digest": [digest(values) for values in owned],
        },
        schema=SCHEMA,
    )
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def decode(data: bytes) -> pa.Table:
    """Return a manifest as a table of ``SCHEMA``."""
    return pa.ipc.open_stream(data).read_all()
