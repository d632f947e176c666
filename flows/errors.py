"""The errors of this program; each of them names the value and the remedy.

::

    MigrationError
    ├── Refused (exit 2): nothing was written
    │   ├── SettingsError: a setting is missing or wrong
    │   ├── SourceError: PostgreSQL cannot be read as requested
    │   │   └── SourceLocked: another session has the table locked, or awaits our lock
    │   ├── SchemaChanged: a column differs from what the last run read
    │   ├── TargetError: the DynamoDB table cannot be used as requested
    │   ├── OriginError: the table was filled under another id rule
    │   └── CutoverDeclared: the application owns the items now
    ├── LeaseHeld (exit 5): another run is under way
    ├── Unproven (exit 3): the run finished and is not proven
    ├── Incomplete (exit 4): the run stopped and can be resumed
    │   └── SourceLost: the connection to PostgreSQL was lost
    │       └── SnapshotLost: the snapshot of the run was lost too
    └── StoreFault: one answer of DynamoDB that the loader handles
        ├── NotApplied: certainly not applied, can be retried
        │   ├── Throttled: refused because of its rate
        │   └── Unreachable: no connection was made
        ├── Ambiguous: possibly applied
        ├── ConditionFailed: not applied, the item has changed since it was read
        └── ItemRejected: not applied, the store refuses the content

All errors can be pickled, since they cross process boundaries under Prefect and Dask.
"""

from typing import Any, ClassVar, Self


class MigrationError(Exception):
    """Base of all errors, never raised directly.

    ``message`` names the value at fault, ``remedy`` says what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy
        # The report of the run that ended with this error, for the caller.
        self.report: Any = None

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        # Prefect pickles a flow's errors to disk, and Dask sends those of a worker. The
        # report has values of rows, and the cause may quote a secret; tblib, which Dask
        # loads, would send the cause too.
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
    """Raised when PostgreSQL or the source table cannot be read as requested."""


class SourceLocked(SourceError):
    """Raised when this program or another session waits too long for a source lock.

    After a run has begun, this stops it as every error does: it can be resumed.
    ``statement`` is the one that waited, if it is known. It names tables and may have
    values of rows, so it is not pickled.
    """

    statement: str = ""


class SchemaChanged(Refused):
    """Raised when a column of the source differs from what the last run read."""


class TargetError(Refused):
    """Raised when DynamoDB or the target table cannot be used as requested."""


class OriginError(Refused):
    """Raised when the target was filled under another namespace or source."""


class CutoverDeclared(Refused):
    """Raised when the cutover is declared and the run does not accept that."""


class LeaseHeld(MigrationError):
    """Raised when another run may be writing to the table."""

    exit_code = 5


class Unproven(MigrationError):
    """Raised by ``report.raise_for_failures()`` on a run that is not proven."""

    exit_code = 3


class Incomplete(MigrationError):
    """Raised when a run stops before its end; its progress is kept."""

    exit_code = 4


class Terminated(KeyboardInterrupt):
    """Raised at SIGTERM.

    It is neither a MigrationError nor an Exception: botocore treats an Exception as a
    lost answer, and the run would continue.
    """


class SourceLost(Incomplete):
    """Raised when PostgreSQL ends a connection or a statement while it is read."""


class SnapshotLost(SourceLost):
    """Raised when the session that held the run's snapshot has ended."""


class StoreFault(MigrationError):
    """Base of the answers of DynamoDB that the loader handles."""


class NotApplied(StoreFault):
    """Base of the faults that certainly changed nothing and may be transient."""


class Throttled(NotApplied):
    """Raised when the store refused a request because of its rate."""


class Unreachable(NotApplied):
    """Raised when no connection to the store could be made."""


class Ambiguous(StoreFault):
    """Raised when no clear answer was received: the write may have been applied."""


class ConditionFailed(StoreFault):
    """Raised when an item has changed since it was read: not applied."""


class ItemRejected(StoreFault):
    """Raised when the store refuses the content of a request: not applied.

    ``reason`` is the store's text, its code first. It may quote a value of the item, so
    it is not pickled.
    """

    reason: str = ""
