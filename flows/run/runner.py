"""Who does the partitions of a run: processes here, a Dask cluster, Prefect's tasks."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from flows.models import PartitionLedger, PartitionSpec


class Runner(Protocol):
    """Does partitions, several at once where it can."""

    def map(self, specs: Sequence[PartitionSpec]) -> Iterator[PartitionLedger]:
        """Do the partitions; yield their ledgers as they come. Threads may share it.

        Raises:
            Incomplete: one of them stopped before its end, or got no answer in time.
        """
