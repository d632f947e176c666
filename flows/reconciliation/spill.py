"""Tables that may exceed memory, in buckets by the hash of their key.

Rows with the same key share a bucket, so two tables are compared bucket by bucket.
Small tables stay in memory; others are written to Arrow files in a temporary folder.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from zlib import crc32

import numpy as np
import pyarrow as pa

BUCKETS = 64
# Rows kept in memory before they are written to the buckets' files.
KEPT_ROWS = 50_000


class Buckets:
    """A table with a column ``key``, filled in parts and read back by bucket."""

    def __init__(self, directory: Path, name: str, schema: pa.Schema) -> None:
        self._directory = directory
        self._name = name
        self._schema = schema
        self._kept: list[pa.Table] = []
        self._rows = 0
        self._writers: list[pa.RecordBatchStreamWriter] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, table: pa.Table) -> None:
        """Add rows to the table."""
        self._kept.append(table)
        self._rows += len(table)
        if self._rows >= KEPT_ROWS:
            self._spill()

    @property
    def in_memory(self) -> bool:
        """Return whether nothing was written to files."""
        return not self._writers

    def whole(self) -> pa.Table:
        """Return all rows that are in memory."""
        return pa.concat_tables([self._schema.empty_table(), *self._kept])

    def read(self) -> Iterator[pa.Table]:
        """Yield the buckets; no rows may be added afterwards."""
        self._spill()
        self._open.close()
        for number in range(BUCKETS):
            path = self._path(number)
            with path.open("rb") as file:
                yield pa.ipc.open_stream(file).read_all()
            path.unlink()

    def _spill(self) -> None:
        if not self._writers:
            self._writers = [self._new_file(number) for number in range(BUCKETS)]
        table, self._kept, self._rows = self.whole(), [], 0
        keys = table["key"].to_pylist()
        places = np.fromiter(map(crc32, keys), np.uint32, len(keys)) % BUCKETS
        order = np.argsort(places, kind="stable")
        bounds = np.searchsorted(places[order], np.arange(BUCKETS + 1)).tolist()
        table = table.take(pa.array(order)).combine_chunks()
        for number, writer in enumerate(self._writers):
            first, last = bounds[number], bounds[number + 1]
            if last > first:
                writer.write_table(table.slice(first, last - first))

    def _new_file(self, number: int) -> pa.RecordBatchStreamWriter:
        # Opened here, since Arrow would expand a ~ in the path.
        file = self._open.enter_context(self._path(number).open("wb"))
        return self._open.enter_context(pa.ipc.new_stream(file, self._schema))

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._name}-{number}.arrow"


def pair(rows: Buckets, items: Buckets) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield both tables bucket by bucket, or whole if both are in memory."""
    if rows.in_memory and items.in_memory:
        yield rows.whole(), items.whole()
    else:
        yield from zip(rows.read(), items.read(), strict=True)
