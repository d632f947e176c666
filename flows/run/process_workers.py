"""The processes that run the partitions, besides the one that drives the run.

Threads would share one core for this work. The processes are forked from a clean one
that has imported everything once, so that each further one starts immediately.
"""

import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from importlib import import_module
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import connection, forkserver, get_context, parent_process
from threading import Thread, Timer
from typing import Any, TypeAlias

from flows.errors import Incomplete
from flows.models import PartitionLedger, PartitionSpec
from flows.run import partition
from flows.run.context import RunContext
from flows.shortage import FEWER, report_shortage_of_threads, translating_shortage

# With fewer rows, starting a further process costs more than it saves.
WORKER_ROWS = 100_000
logger = logging.getLogger(__name__)

PRELOADED = ["flows.run.forkserver_signals", "flows.run.partition", "validation.suites"]

Submit: TypeAlias = Callable[[PartitionSpec], "Future[PartitionLedger]"]

# How long after the deadline to wait for a partition, which should stop by itself.
LATE_SECONDS = 2.0
# How long workers have to end by themselves before they are killed.
END_SECONDS = 3.0

# The context of a worker process, for its life.
_context: RunContext | None = None


def choose_workers(wanted: int | None, rows: int, partitions: int) -> int:
    """Return how many processes are worth starting, at most *wanted*."""
    most = os.process_cpu_count() if hasattr(os, "process_cpu_count") else None
    paying = min(most or os.cpu_count() or 1, 1 + rows // WORKER_ROWS)
    return max(1, min(wanted or paying, partitions))


def warm_up(count: int) -> None:
    """Begin the imports of the partitions' code, which take seconds, beside other work.

    With several workers they happen in the process that forks them.
    """
    if count > 1:
        _start_forkserver()
        return
    # Great Expectations is most of them, and nothing before a partition needs it.
    Thread(target=import_module, args=["validation.suites"], daemon=True).start()


class FutureRunner:
    """Runs partitions through a function that returns a future for each."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit

    def map(self, specs: Sequence[PartitionSpec]) -> Iterator[PartitionLedger]:
        """Run the partitions; wait for none much beyond their deadline.

        Raises:
            Incomplete: see ``migrate_partition``; or a worker died or did not answer.
        """
        deadline = specs[0].deadline if specs else None
        return _results([self._submit(spec) for spec in specs], deadline)


@contextmanager
def process_runner(
    context: RunContext,
    count: int,
    abandon_lease: Callable[[], None] = lambda: None,
) -> Iterator[FutureRunner]:
    """Yield a runner of *count* processes; a single one is this process itself.

    Here two threads work, so that a partition is prepared while another is loaded.

    After the block, the workers have ended; after an error they write no more. A worker
    that was killed may have a request under way: *abandon_lease* is called then.

    Raises:
        Incomplete: a worker could not be created, or has died.
    """
    with ExitStack() as stack:
        pool: Executor
        if count > 1:
            with _translating_deaths():
                pool = _make_pool(context, stack, count)
        else:
            pool = ThreadPoolExecutor(2)

        def submit(spec: PartitionSpec) -> "Future[PartitionLedger]":
            with _translating_deaths():
                if count > 1:
                    with _forking_until(spec.deadline):
                        return pool.submit(_migrate_in_worker, spec)
                # The caller's context identifies the run of the log lines.
                within = copy_context().run
                return pool.submit(within, partition.migrate_partition, spec, context)

        # Work in flight ends before the lease is released.
        stack.callback(_end, pool, abandon_lease)
        try:
            yield FutureRunner(submit)
        except BaseException:
            context.stop()
            raise


@contextmanager
def _translating_deaths() -> Iterator[None]:
    """Translate the death of a worker, or of the process that forks them.

    Raises:
        Incomplete: a process has died, or could not be created.
    """
    try:
        with translating_shortage():
            yield
    except (BrokenProcessPool, EOFError, ConnectionError):
        message = "A worker process has died, perhaps for lack of memory."
        raise Incomplete(message, FEWER) from None


def _make_pool(
    context: RunContext, stack: ExitStack, count: int
) -> ProcessPoolExecutor:
    """Create the worker processes; their log records are logged here."""
    processes = get_context("forkserver")
    _start_forkserver()
    records = processes.Queue()
    # A worker that is killed may hold the lock of the queue.
    records.cancel_join_thread()
    listener = QueueListener(records, _Forward())
    listener.start()
    stack.callback(done_in_time, listener.stop)
    arguments = (context, records, _level())
    return ProcessPoolExecutor(count, processes, _begin, arguments)


@contextmanager
def _forking_until(deadline: float | None) -> Iterator[None]:
    """Kill the process that forks workers if it has not forked one by the deadline.

    Otherwise the wait for it would not end if it is frozen.

    Raises:
        EOFError: the process was killed.
    """
    if deadline is None:
        yield
        return
    left = max(0.0, deadline - time.time()) + LATE_SECONDS
    timer = Timer(left, lambda: _kill(_number_of_forkserver()))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(pool: Executor, abandon_lease: Callable[[], None]) -> None:
    """End the workers, and kill those that do not end by themselves."""
    # Not public before Python 3.14, which can kill them itself.
    processes = dict(getattr(pool, "_processes", None) or {})
    broken = bool(getattr(pool, "_broken", False))
    pool.shutdown(wait=not processes, cancel_futures=True)
    end = time.monotonic() + END_SECONDS
    for process in processes.values():
        process.join(max(0.0, end - time.monotonic()))
    # Without the process that forked them, live workers look as if they had ended.
    left = [n for n, one in processes.items() if broken or one.is_alive()]
    killed = [number for number in left if _kill(number)]
    _await_gone(killed)
    if any(one.is_alive() for one in processes.values()):
        # If the process that forked them is frozen, it does not report their end, and
        # the wait for them would not return.
        _kill(_number_of_forkserver())
    if killed or broken:
        logger.warning("worker processes were killed: %s", killed or "by others")
        abandon_lease()


def _number_of_forkserver() -> int:
    return int(vars(forkserver)["_forkserver"]._forkserver_pid)  # noqa: SLF001


def _kill(number: int) -> bool:
    """Kill a process of ours; return False if it was gone already."""
    try:
        # Another process may have its number by now, but not in this group.
        if os.getpgid(number) != os.getpgrp():
            return False
        os.kill(number, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _await_gone(numbers: Sequence[int]) -> None:
    """Wait for the end of killed processes; with a frozen parent, until a timeout."""
    end = time.monotonic() + END_SECONDS
    for number in numbers:
        with suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.kill(number, 0)
                time.sleep(0.02)


def done_in_time(work: Callable[[], object]) -> bool:
    """Do the work, wait no longer than for workers, and return whether it was done."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(END_SECONDS)
    return not thread.is_alive()


def _results(
    futures: Sequence["Future[PartitionLedger]"], deadline: float | None
) -> Iterator[PartitionLedger]:
    """Yield the ledgers as they arrive, but wait for none much beyond the deadline."""
    left = None if deadline is None else max(0.0, deadline - time.time()) + LATE_SECONDS
    done = as_completed(futures, left)
    while True:
        try:
            future = next(done)
        except StopIteration:
            return
        except TimeoutError:
            message = "The deadline of the run has passed, and a worker did not answer."
            raise Incomplete(message) from None
        with _translating_deaths():
            ledger = future.result()
        yield ledger


def _start_forkserver() -> None:
    """Start the process that forks workers; its first module unblocks Ctrl-C."""
    forkserver.set_forkserver_preload(PRELOADED)
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _begin(context: RunContext, records: Any, level: int) -> None:
    """Make a new process a worker in its parent's context."""
    global _context  # noqa: PLW0603 - a pool's initializer has no other place
    # Imported objects stay for life, so the garbage collector need not scan them again.
    gc.freeze()
    report_shortage_of_threads()
    # Ctrl-C reaches the whole process group; only the driver handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    _context = context
    root = logging.getLogger()
    root.handlers = [QueueHandler(records)]
    logging.getLogger("flows").setLevel(level)


def _migrate_in_worker(spec: PartitionSpec) -> PartitionLedger:
    if _context is None:
        message = "this process is no worker"
        raise RuntimeError(message)
    return partition.migrate_partition(spec, _context)


def _end_with_parent() -> None:
    """End at once when the driver is gone: nothing else would end a worker."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)


def _level() -> int:
    return logging.getLogger("flows").getEffectiveLevel()


class _Forward(logging.Handler):
    """Hands records of workers to the loggers of this process.

    It uses the context in which it was created, which identifies the run of the lines.
    """

    def __init__(self) -> None:
        super().__init__()
        self._context = copy_context()

    def emit(self, record: logging.LogRecord) -> None:
        self._context.run(logging.getLogger(record.name).handle, record)
