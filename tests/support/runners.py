"""Runners that disturb a run between its partitions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from flows.models import PartitionLedger, PartitionSpec
from flows.pipeline import WrapRunner
from flows.run.runner import Runner

# Takes the function for one partition, and the partitions.
Each: TypeAlias = Callable[
    [Callable[[PartitionSpec], PartitionLedger], Sequence[PartitionSpec]],
    Iterable[PartitionLedger],
]


@dataclass
class EachRunner:
    """Runs the partitions in the order of a function, each by the inner runner."""

    inner: Runner
    each: Each

    def map(self, specs: Sequence[PartitionSpec]) -> Iterator[PartitionLedger]:
        """Run the partitions."""
        yield from self.each(self._do, specs)

    def _do(self, spec: PartitionSpec) -> PartitionLedger:
        (ledger,) = self.inner.map([spec])
        return ledger


def running(each: Each) -> WrapRunner:
    """Return a wrapper that makes a runner run its partitions through *each*."""
    return lambda inner: EachRunner(inner, each)
