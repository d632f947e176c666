"""The errors of this program: one family, each naming the value and the remedy.

::

    MigrationError
    ├── Refused (exit 2): nothing was written
    │   ├── SettingsError: a setting is missing or wrong
    │   ├── SourceError: PostgreSQL cannot be read as asked
    │   │   └── SourceLocked: another session has the table locked, or waits for ours
    │   ├── SchemaChanged: a column is not what the last run read
    │   ├── TargetError: the DynamoDB table cannot be used as asked
    │   ├── OriginError: the table was filled under another id rule
    │   └── CutoverDeclared: the application owns the items now
    ├── LeaseHeld (exit 5): another run is under way
    ├── Unproven (exit 3): the run finished and is not proven
    ├── Incomplete (exit 4): the run stopped and can be resumed
    │   └── SourceLost: the connection to PostgreSQL went away
    │       └── SnapshotLost: and with it the snapshot of the run
    └── StoreFault: one answer of DynamoDB, for the loader to decide upon
        ├── NotApplied: surely not applied, worth another try
        │   ├── Throttled: refused for its rate
        │   └── Unreachable: no connection was made
        ├── Ambiguous: perhaps applied
        ├── ConditionFailed: not applied, the item is not as it was read
        └── ItemRejected: not applied, the store refuses what was sent

Everything here pickles, since errors cross process borders under Prefect and Dask.
"""

from typing import Any, ClassVar, Self


class MigrationError(Exception):
    """Base of the family, never raised directly.

    ``message`` names the value at fault, ``remedy`` what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy
        # What a run had to say when it ended so, for those who called it.
        self.report: Any = None

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        # Prefect pickles to disk what a flow raises, Dask sends what a worker does. The
        # report has values of rows, and what led to this may quote a secret; tblib,
        # which Dask loads, would send that too.
        self.__cause__ = self.__context__ = None
        return type(self), (self.message, self.remedy)

    @property
    def code(self) -> str:
        """Return the error's stable name, for ``--json``."""
        return type(self).__name__

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class Refused(MigrationError):
    """Raised before the first write: nothing was changed."""

    exit_code = 2


class SettingsError(Refused):
    """Raised when a setting is missing, malformed or unsafe."""


class SourceError(Refused):
    """Raised when PostgreSQL or the source table cannot be read as asked."""


class SourceLocked(SourceError):
    """Raised when a lock on the source is waited for too long, by us or by others.

    Once a run has begun it stops it, resumable, as every error does.
    """


class SchemaChanged(Refused):
    """Raised when a column of the source is not what the last run read."""


class TargetError(Refused):
    """Raised when DynamoDB or the target table cannot be used as asked."""


class OriginError(Refused):
    """Raised when the target was filled under another namespace or source."""


class CutoverDeclared(Refused):
    """Raised when the cutover is declared, and the run was not made for that."""


class LeaseHeld(MigrationError):
    """Raised when another run may be writing to the table."""

    exit_code = 5


class Unproven(MigrationError):
    """Raised by ``report.raise_for_failures()`` on a run that is not proven."""

    exit_code = 3


class Incomplete(MigrationError):
    """Raised when a run stops before its end; what was done is kept."""

    exit_code = 4


class Terminated(KeyboardInterrupt):
    """Raised at SIGTERM.

    No part of the family, nor an Exception: botocore takes those for a lost answer, and
    the run would go on.
    """


class SourceLost(Incomplete):
    """Raised when PostgreSQL ends a connection or a statement while it is read."""


class SnapshotLost(SourceLost):
    """Raised when the session that held the run's snapshot has ended."""


class StoreFault(MigrationError):
    """Base of the answers of DynamoDB that the loader decides upon."""


class NotApplied(StoreFault):
    """Base of the faults that surely changed nothing and may pass."""


class Throttled(NotApplied):
    """Raised when the store refused a request for its rate."""


class Unreachable(NotApplied):
    """Raised when no connection to the store could be made."""


class Ambiguous(StoreFault):
    """Raised when no clear answer came: the write may have been applied."""


class ConditionFailed(StoreFault):
    """Raised when an item is no longer as it was read: not applied."""


class ItemRejected(StoreFault):
    """Raised when the store refuses the content of a request: not applied.

    ``reason`` is the store's own, its code first. It may quote a value of the item, so
    it does not pickle.
    """

    reason: str = ""
