"""Both parts of a key as one, by which rows and items are matched."""

from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from flows.models import Key, SourceTable

KEY = pa.large_binary()
NO_KEY = pa.scalar(b"", KEY)
# It occurs in no UTF-8, so that no two keys are joined to the same bytes.
SEPARATOR = b"\xff"


@dataclass(frozen=True)
class JoinedKeys:
    """How the keys of an entity are joined; a constant sort key is left out."""

    constant: str | None = None

    @classmethod
    def of(cls, source: SourceTable) -> Self:
        """Return how the keys of a source are joined."""
        template = source.sort_key
        return cls(template.fill({}) if template.is_constant else None)

    def join(self, key: Key) -> bytes:
        """Return a key as one."""
        parts = [part.encode("utf-8", "surrogatepass") for part in key]
        return parts[0] if self.constant is not None else SEPARATOR.join(parts)

    def split(self, joined: bytes) -> Key:
        """Return the parts of a joined key."""
        partition, _, order = joined.partition(SEPARATOR)
        first = partition.decode("utf-8", "surrogatepass")
        if self.constant is not None:
            return first, self.constant
        return first, order.decode("utf-8", "surrogatepass")

    def join_columns(self, partitions: Any, orders: Any) -> pa.Array:
        """Return the keys of columns, as ``join`` does; each may be one text for all.

        The key of a row that lacks a part is null.
        """
        if self.constant is not None:
            return pc.cast(partitions, KEY)
        parts = [
            pa.scalar(one.encode(), KEY) if isinstance(one, str) else pc.cast(one, KEY)
            for one in (partitions, orders)
        ]
        return pc.binary_join_element_wise(*parts, pa.scalar(SEPARATOR, KEY))
