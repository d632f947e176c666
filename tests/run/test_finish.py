"""The end of a run: which of its partitions the report draws."""

from types import SimpleNamespace
from typing import Any

from flows.models import Ledger, PartitionLedger
from flows.run.finish import _loading_times


def partition(number: int, *loading: float) -> PartitionLedger:
    """Create the ledger of a partition that was loaded from one second to another."""
    ledger = Ledger(read=10, written=8, quarantined=2)
    return PartitionLedger("run", number, ledger, {}, {}, {}, loading=loading)


def test_only_what_this_process_drove_is_drawn() -> None:
    """Partitions from before a resume, or of an older state, must not be drawn."""
    run: Any = SimpleNamespace(started=100.0)
    ledgers = [partition(1), partition(2, 10.0, 11.0), partition(3, 101.0, 103.5)]

    assert list(_loading_times(run, ledgers)) == [(101.0, 103.5, 8)]
