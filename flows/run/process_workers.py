"""The processes that do a run's partitions, beside the one that drives it.

Threads would share one core for this work. The processes are forked from a clean one
that has imported everything once, so that each further one starts in no time.
"""

import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from logging.handlers import QueueHandler, QueueListener
from multiprocessing import connection, forkserver, get_context, parent_process
from multiprocessing.context import ForkServerContext
from threading import Thread, Timer
from typing import Any, TypeAlias

from flows.errors import Incomplete
from flows.models import PartitionLedger, PartitionSpec
from flows.run import partition
from flows.settings import Settings, load_settings, using
from flows.shortage import (
    FEWER,
    report_shortage_of_threads,
    translated_shortage,
)
from flows.stores.dynamodb.rate_limiter import (
    RateLimiter,
    limiting_reads,
    limiting_writes,
    read_limiter_in_force,
)

# Below, starting a further process costs more than it saves.
WORKER_ROWS = 100_000
logger = logging.getLogger(__name__)

PRELOADED = ["flows.forkserver_signals", "flows.run.partition", "validation.suites"]

Submit: TypeAlias = Callable[[PartitionSpec], "Future[PartitionLedger]"]

# A partition stops by itself at the deadline; what does not is waited for no longer.
LATE_SECONDS = 2.0
# For so long workers end by themselves, before they are killed.
END_SECONDS = 3.0

_submits: list[Submit] = []
_for_life = ExitStack()


def choose_workers(wanted: int | None, rows: int, partitions: int) -> int:
    """Return how many processes are worth starting, at most those *wanted*."""
    most = os.process_cpu_count() if hasattr(os, "process_cpu_count") else None
    paying = min(most or os.cpu_count() or 1, 1 + rows // WORKER_ROWS)
    return max(1, min(wanted or paying, partitions))


@contextmanager
def working(
    count: int,
    max_write_units: float | None,
    abandon_lease: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Run partitions in *count* processes under one rate; one runs in this process.

    Here two threads do, so that a partition is prepared while another is loaded. The
    rate of the reads is the one that is in force here.

    When the block is left, they have ended; after an error they write no more. Of one
    that had to be killed a request may be under way: *abandon_lease* is called then.

    Raises:
        Incomplete: a worker could not be made, or has died.
    """
    context, reader = get_context("forkserver"), read_limiter_in_force()
    with ExitStack() as stack:
        with _translated_deaths():
            limiter = RateLimiter(max_write_units, context)
            stack.enter_context(limiting_writes(limiter))
            pool: Executor
            if count > 1:
                arguments = (load_settings(), limiter, reader)
                pool = _make_pool(context, stack, count, arguments)
            else:
                pool = ThreadPoolExecutor(2)

        def submit(spec: PartitionSpec) -> "Future[PartitionLedger]":
            with _translated_deaths():
                if count > 1:
                    with _forking_until(spec.deadline):
                        return pool.submit(partition.migrate_partition, spec)
                # In its context a runner finds whose lines these are.
                within = copy_context().run
                return pool.submit(within, partition.migrate_partition, spec)

        # What is on its way ends before the lease is given back.
        stack.callback(_end, pool, abandon_lease)
        stack.enter_context(submitting(submit))
        try:
            yield
        except BaseException:
            limiter.stop()
            if reader:
                reader.stop()
            raise


@contextmanager
def _translated_deaths() -> Iterator[None]:
    """Turn the death of a worker, or of the process that forks them, into ours.

    Raises:
        Incomplete: one has died, or could not be made.
    """
    try:
        with translated_shortage():
            yield
    except (BrokenProcessPool, EOFError, ConnectionError):
        message = "A worker process has died, perhaps for want of memory."
        raise Incomplete(message, FEWER) from None


def _make_pool(
    context: ForkServerContext,
    stack: ExitStack,
    count: int,
    arguments: tuple[Any, ...],
) -> ProcessPoolExecutor:
    """Make the worker processes; what they log is logged here."""
    context.set_forkserver_preload(PRELOADED)
    _start_forkserver()
    records = context.Queue()
    # A worker that is killed may hold its lock.
    records.cancel_join_thread()
    listener = QueueListener(records, _Forward())
    listener.start()
    stack.callback(done_in_time, listener.stop)
    more = (records, _level())
    return ProcessPoolExecutor(count, context, _begin, (*arguments, *more))


@contextmanager
def _forking_until(deadline: float | None) -> Iterator[None]:
    """Kill what forks the workers if it has not forked one by the deadline.

    It is waited for without end otherwise, should it be frozen.

    Raises:
        EOFError: it was killed.
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
    # Without the process that forked them, living ones look as if they had ended.
    left = [n for n, one in processes.items() if broken or one.is_alive()]
    killed = [number for number in left if _kill(number)]
    _await_gone(killed)
    if any(one.is_alive() for one in processes.values()):
        # Frozen, the process that forked them reports no end, which is waited for.
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
    """Wait for the end of killed processes; one whose parent is frozen has none."""
    end = time.monotonic() + END_SECONDS
    for number in numbers:
        with suppress(ProcessLookupError):
            while time.monotonic() < end:
                os.kill(number, 0)
                time.sleep(0.02)


def done_in_time(work: Callable[[], object]) -> bool:
    """Do it, and wait no longer for it than for workers; return whether it was done."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join(END_SECONDS)
    return not thread.is_alive()


@contextmanager
def submitting(submit: Submit) -> Iterator[None]:
    """Run partitions through *submit* while in the block, in any thread."""
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
        (report,) = _results([_submits[-1](spec)], spec.deadline)
        return report
    return partition.migrate_partition(spec)


def each(
    function: Callable[[PartitionSpec], PartitionLedger],
    specs: Sequence[PartitionSpec],
) -> Iterable[PartitionLedger]:
    """Do all partitions, as many at once as there are workers."""
    if not _submits:
        return map(function, specs)
    deadline = specs[0].deadline if specs else None
    return _results([_submits[-1](spec) for spec in specs], deadline)


def _results(
    futures: Sequence["Future[PartitionLedger]"], deadline: float | None
) -> Iterator[PartitionLedger]:
    """Yield the ledgers as they come, but wait for none much beyond the deadline."""
    left = None if deadline is None else max(0.0, deadline - time.time()) + LATE_SECONDS
    done = as_completed(futures, left)
    while True:
        try:
            future = next(done)
        except StopIteration:
            return
        except TimeoutError:
            message = "The deadline of the run has come, and a worker did not answer."
            raise Incomplete(message) from None
        with _translated_deaths():
            ledger = future.result()
        yield ledger


def _start_forkserver() -> None:
    """Start the process that forks workers; Ctrl-C is for its first module to allow."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _begin(
    settings: Settings,
    limiter: RateLimiter,
    reader: RateLimiter | None,
    records: Any,
    level: int,
) -> None:
    """Make a new process a worker: what was in force in its parent is here too."""
    # What was imported stays for life: let no collection look through it again.
    gc.freeze()
    report_shortage_of_threads()
    # Ctrl-C reaches the whole group; who drives the run decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    _for_life.enter_context(using(settings))
    _for_life.enter_context(limiting_writes(limiter))
    if reader:
        _for_life.enter_context(limiting_reads(reader))
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
