"""The context of a run in one process: its settings, and its rates.

It is passed to all code that works for the run, so that none of it is global.
"""

from dataclasses import dataclass, field

from flows.settings import Settings, load_settings
from flows.stores.dynamodb.rate_limiter import RateLimiter, make_read_limiter
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from flows.timing import Progress


@dataclass(frozen=True)
class RunContext:
    """The settings of a run, and the rates that all its processes share.

    Without arguments it has the settings of the environment and separate rates. A
    worker process gets it when it is started; it cannot be pickled later.
    """

    settings: Settings = field(default_factory=load_settings)
    writes: RateLimiter = field(default_factory=RateLimiter)
    reads: RateLimiter = field(default_factory=make_read_limiter)
    # When the run stops, in seconds since the epoch.
    deadline: float | None = None
    progress: Progress = field(default_factory=Progress)

    def open_table(self) -> EnterpriseTable:
        """Create a client of the target table that observes the rates and the deadline.

        Raises:
            SettingsError: see ``open_table`` of the store.
        """
        table = open_table(self.settings, self.deadline)
        table.write_limiter, table.read_limiter = self.writes, self.reads
        return table

    def waits_for(self) -> str | None:
        """Return what the run's requests wait for now; None if they do not wait."""
        for kind, limiter in (("write", self.writes), ("read", self.reads)):
            if limiter.is_full:
                capped = limiter.rate >= limiter.cap
                return f"the {kind} cap" if capped else f"the table's {kind} capacity"
        return None

    def stop(self) -> None:
        """Stop all work for the run, in all processes: nothing more is sent."""
        self.writes.stop()
        self.reads.stop()
