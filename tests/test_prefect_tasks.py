"""The tasks that run partitions, wherever Prefect starts them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from flows import prefect_tasks
from flows.errors import Incomplete
from flows.models import Ledger, PartitionLedger, PartitionSpec
from flows.run.context import RunContext
from flows.settings import Settings, using
from tests.support.source_table import make_source_table

SPEC = PartitionSpec("run-of-the-tasks", 1, make_source_table())
LEDGER = PartitionLedger(SPEC.run_id, 1, Ledger(), {}, {}, {})


@dataclass
class Recording:
    """A runner that records its partitions."""

    seen: list[PartitionSpec] = field(default_factory=list)

    def map(self, specs: Sequence[PartitionSpec]) -> Iterator[PartitionLedger]:
        """Record the partitions and return one ledger for each."""
        self.seen += specs
        return iter([LEDGER for _ in specs])


def test_a_task_uses_the_runner_of_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the process of the run, a partition must share the rates of its runner."""
    inner = Recording()
    monkeypatch.setitem(prefect_tasks._runners, SPEC.run_id, inner)

    assert prefect_tasks.migrate_partition.fn(SPEC) == LEDGER
    assert inner.seen == [SPEC]


def test_a_task_that_outlives_its_run_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the end of a run, a late task must not run a partition with new rates."""
    monkeypatch.setattr(prefect_tasks.partition, "migrate_partition", pytest.fail)
    monkeypatch.setitem(prefect_tasks._runners, SPEC.run_id, None)

    with pytest.raises(Incomplete, match="stopped"):
        prefect_tasks.migrate_partition.fn(SPEC)


def test_a_task_in_another_process_uses_its_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that did not start the run must migrate with its own settings."""
    used: list[RunContext] = []

    def migrate(_: PartitionSpec, context: RunContext) -> PartitionLedger:
        used.append(context)
        return LEDGER

    monkeypatch.setattr(prefect_tasks.partition, "migrate_partition", migrate)
    settings = Settings.isolated(senders=3)
    with using(settings):
        assert prefect_tasks.migrate_partition.fn(SPEC) == LEDGER

    assert [context.settings for context in used] == [settings]


def test_a_run_is_forgotten_when_its_partitions_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A runner must be known while it yields ledgers, and to no later task."""

    class Ended:
        def result(self) -> PartitionLedger:
            return prefect_tasks.migrate_partition.fn(SPEC)

    monkeypatch.setattr(prefect_tasks.migrate_partition, "submit", lambda _: Ended())
    monkeypatch.setattr(prefect_tasks, "as_completed", iter)
    inner = Recording()

    assert list(prefect_tasks.PrefectRunner(inner, 1).map([SPEC])) == [LEDGER]
    assert inner.seen == [SPEC]
    assert prefect_tasks._runners.pop(SPEC.run_id) is None
