"""The runners of partitions: local processes, a Dask cluster, or Prefect's tasks."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from flows.models import PartitionLedger, PartitionSpec


class Runner(Protocol):
    """Runs partitions, several at once if it can."""

    def map(self, specs: Sequence[PartitionSpec]) -> Iterator[PartitionLedger]:
        """Run the partitions; yield their ledgers as they arrive. Threads may share it.

        Raises:
            Incomplete: a partition stopped before its end, or did not answer in time.
        """
