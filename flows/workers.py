"""The processes that do a run's partitions, beside the one that drives it.

Threads would share one core for this work. The processes are forked from a clean one
that has imported everything once, so that each further one starts in no time.
"""

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import connection, forkserver, get_context, parent_process
from threading import Thread
from typing import Any, TypeAlias

from flows import partition
from flows.errors import Incomplete
from flows.models import PartitionLedger, PartitionSpec
from flows.settings import Settings, load_settings, using
from flows.stores.governor import (
    Governor,
    governing,
    reader_in_force,
    reading,
)

# Below, starting a further process costs more than it saves.
WORKER_ROWS = 100_000
PRELOADED = ["flows.forkserver_signals", "flows.partition", "validation.suites"]

Submit: TypeAlias = Callable[[PartitionSpec], "Future[PartitionLedger]"]

_submits: list[Submit] = []
_for_life = ExitStack()


def choose_workers(wanted: int | None, rows: int, partitions: int) -> int:
    """Return how many processes are worth starting, at most those *wanted*."""
    most = os.process_cpu_count() if hasattr(os, "process_cpu_count") else None
    paying = min(most or os.cpu_count() or 1, 1 + rows // WORKER_ROWS)
    return max(1, min(wanted or paying, partitions))


@contextmanager
def working(count: int, max_write_units: float | None) -> Iterator[None]:
    """Have *count* processes do the partitions, under one rate; one does it here.

    Here two threads do, so that a partition is prepared while another is loaded. The
    rate of the reads is the one that is in force here.

    When the block is left, they have ended; after an error they write no more.
    """
    context = get_context("forkserver")
    governor, reader = Governor(max_write_units, context), reader_in_force()
    with ExitStack() as stack:
        stack.enter_context(governing(governor))
        if count > 1:
            context.set_forkserver_preload(PRELOADED)
            _start_forkserver()
            records = context.Queue()
            listener = QueueListener(records, _Forward())
            listener.start()
            stack.callback(listener.stop)
            arguments = (load_settings(), governor, reader, records, _level())
            pool: Executor = ProcessPoolExecutor(count, context, _begin, arguments)
        else:
            pool = ThreadPoolExecutor(2)

        def submit(spec: PartitionSpec) -> "Future[PartitionLedger]":
            if count > 1:
                return pool.submit(partition.migrate_partition, spec)
            # In its context a runner finds whose lines these are.
            within = copy_context().run
            return pool.submit(within, partition.migrate_partition, spec)

        # What is on its way ends before the lease is given back.
        stack.callback(pool.shutdown, cancel_futures=True)
        stack.enter_context(submitting(submit))
        try:
            yield
        except BaseException:
            governor.stop()
            if reader:
                reader.stop()
            raise


@contextmanager
def submitting(submit: Submit) -> Iterator[None]:
    """Have partitions done by *submit* while in the block, in whatever thread."""
    _submits.append(submit)
    try:
        yield
    finally:
        _submits.remove(submit)


def migrate_partition(spec: PartitionSpec) -> PartitionLedger:
    """Do one partition in a worker, if there are any, and wait for it; else here.

    Raises:
        Incomplete: as ``partition.migrate_partition``, or the worker died.
    """
    if _submits:
        return _result(_submits[-1](spec))
    return partition.migrate_partition(spec)


def each(
    function: Callable[[PartitionSpec], PartitionLedger],
    specs: Sequence[PartitionSpec],
) -> Iterable[PartitionLedger]:
    """Do all partitions, as many at once as there are workers."""
    if not _submits:
        return map(function, specs)
    return map(_result, as_completed([_submits[-1](spec) for spec in specs]))


def _result(future: "Future[PartitionLedger]") -> PartitionLedger:
    try:
        return future.result()
    except BrokenProcessPool:
        message = "A worker process has died, perhaps for want of memory."
        remedy = "Give fewer --workers or --partition-rows."
        raise Incomplete(message, remedy) from None


def _start_forkserver() -> None:
    """Start the process that forks workers; Ctrl-C is for its first module to allow."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _begin(
    settings: Settings,
    governor: Governor,
    reader: Governor | None,
    records: Any,
    level: int,
) -> None:
    """Make a new process a worker: what was in force in its parent is here too."""
    # What was imported stays for life: let no collection look through it again.
    gc.freeze()
    # Ctrl-C reaches the whole group; who drives the run decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    _for_life.enter_context(using(settings))
    _for_life.enter_context(governing(governor))
    if reader:
        _for_life.enter_context(reading(reader))
    root = logging.getLogger()
    root.handlers = [QueueHandler(records)]
    logging.getLogger("flows").setLevel(level)


def _end_with_parent() -> None:
    """End at once when the driver is gone: nobody else would end a worker."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)


def _level() -> int:
    return logging.getLogger("flows").getEffectiveLevel()


class _Forward(logging.Handler):
    """Hands records of workers to the loggers of this process.

    In the context in which it was made, by which a runner knows whose lines they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self._context = copy_context()

    def emit(self, record: logging.LogRecord) -> None:
        self._context.run(logging.getLogger(record.name).handle, record)
