"""The throughput and the size of a table, as DynamoDB reports them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

# Default quota of a table in either billing mode:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html
QUOTA = 40_000.0
# Initial throughput of a new on-demand table:
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/warm-throughput.html
NEW_WRITES, NEW_READS = 4_000.0, 12_000.0


@dataclass(frozen=True)
class Throughput:
    """Units per second that a table accepts, and the basis of these figures.

    ``size`` is in bytes, and up to six hours old. ``indexes`` are the write units per
    second of the global indexes; a local index shares the table's.
    """

    mode: Literal["on-demand", "provisioned"]
    writes: float
    reads: float
    basis: str
    size: int = 0
    indexes: Mapping[str, float] = field(default_factory=dict)

    @property
    def at_quota(self) -> "Throughput":
        """Return the throughput at the quota, which each global index has too."""
        indexes = dict.fromkeys(self.indexes, QUOTA)
        return replace(self, writes=QUOTA, reads=QUOTA, indexes=indexes)


NEW_TABLE = Throughput("on-demand", NEW_WRITES, NEW_READS, "a new on-demand table")


def read_throughput(description: Mapping[str, Any]) -> Throughput:
    """Read the throughput from the description of a table."""
    mode = description.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    read = _read_provisioned if mode == "PROVISIONED" else _read_on_demand
    described = description.get("GlobalSecondaryIndexes") or ()
    indexes = {index["IndexName"]: read(index).writes for index in described}
    size = int(description.get("TableSizeBytes") or 0)
    return replace(read(description), size=size, indexes=indexes)


def _read_provisioned(description: Mapping[str, Any]) -> Throughput:
    given = description.get("ProvisionedThroughput", {})
    # At least one of each; the answer of an emulator may lack them.
    writes = float(given.get("WriteCapacityUnits") or 1)
    reads = float(given.get("ReadCapacityUnits") or 1)
    return Throughput("provisioned", writes, reads, "provisioned capacity")


def _read_on_demand(description: Mapping[str, Any]) -> Throughput:
    warm = description.get("WarmThroughput", {})
    writes = float(warm.get("WriteUnitsPerSecond") or 0)
    reads = float(warm.get("ReadUnitsPerSecond") or 0)
    if writes and reads:
        return Throughput("on-demand", writes, reads, "warm throughput")
    basis = "on-demand default: the table reports no warm throughput"
    return Throughput("on-demand", NEW_WRITES, NEW_READS, basis)
