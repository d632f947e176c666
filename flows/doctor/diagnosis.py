"""What ``doctor`` finds: a line for each check, and how the checks are made.

A check that cannot be made, since another has failed, is skipped and says which. None
takes longer than a bound, and none ends in a traceback.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from flows.errors import MigrationError, TargetError
from flows.models import Report
from flows.stores.dynamodb.iam import Purpose

CHECK_SECONDS = 20.0


class Status(StrEnum):
    """How a check ended; only a failure makes the program unfit to run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One line: what was found, and what to do about it."""

    status: Status
    found: str
    remedy: str = ""
    check: str = ""


def ok(found: str) -> Finding:
    """Return a passed check."""
    return Finding(Status.OK, found)


def warn(found: str, remedy: str) -> Finding:
    """Return a warning."""
    return Finding(Status.WARN, found, remedy)


def fail(found: str, remedy: str) -> Finding:
    """Return a failed check."""
    return Finding(Status.FAIL, found, remedy)


def skipped(why: str, remedy: str = "") -> Finding:
    """Return a skipped check, with the cause."""
    return Finding(Status.SKIPPED, why, remedy)


@dataclass
class CheckContext:
    """What is known so far, for one check to hand to the next; None is not known.

    ``unanswered`` says why the table cannot be asked at all.
    """

    purpose: Purpose = "migrate"
    settings: Any = None
    arguments: Any = None
    # Whether DynamoDB is asked at all: a service over PostgreSQL does not.
    aws: Any = None
    connection: Any = None
    source: Any = None
    table: Any = None
    greeting: Any = None
    description: Any = None
    lease: Any = None
    unanswered: MigrationError | None = None
    opened: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True)
class Check:
    """A check: what it needs to be known, and how it is made."""

    name: str
    examine: Callable[[Any], Finding]
    needs: Sequence[str] = ()


# Which check finds out what others need.
FOUND_BY = {
    "settings": "settings",
    "arguments": "settings",
    "aws": "settings",
    "connection": "PostgreSQL",
    "source": "table and columns",
    "table": "region",
    "greeting": "endpoint",
    "description": "DynamoDB table",
    "lease": "lease",
}


@dataclass(frozen=True, repr=False)
class Diagnosis(Report):
    """All lines, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def status(self) -> Literal["fit", "unfit"]:
        """Return ``unfit`` if a check failed."""
        failed = any(one.status is Status.FAIL for one in self.findings)
        return "unfit" if failed else "fit"

    def asdict(self) -> dict[str, Any]:
        """Return the lines as plain values, in the form of ``doctor --json``."""
        lines = []
        for finding in self.findings:
            line = asdict(finding)
            lines.append({"check": line.pop("check")} | line)
        return {"status": self.status, "checks": lines}

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return each line as a table of one row."""
        names = ("status", "found", "remedy")
        return [
            (one.check, {name: str(getattr(one, name)) for name in names})
            for one in self.findings
        ]

    def raise_for_failures(self) -> None:
        """Raise if a check failed.

        Raises:
            TargetError: with the first failure, and its remedy.
        """
        for one in self.findings:
            if one.status is Status.FAIL:
                raise TargetError(f"{one.check}: {one.found}", one.remedy)


def diagnose(
    context: CheckContext, checks: Sequence[Check], seconds: float = CHECK_SECONDS
) -> Iterator[Finding]:
    """Make the checks in their order; yield what each has found."""
    with context.opened:
        for check in checks:
            missing = [n for n in check.needs if getattr(context, n) is None]
            if missing:
                found = skipped(f"not checked: see {FOUND_BY[missing[0]]}")
            else:
                found = _bounded(check, context, seconds)
            yield replace(found, check=check.name)


def _bounded(check: Check, context: CheckContext, seconds: float) -> Finding:
    """Make one check, but wait no longer for it than so many seconds."""
    done: queue.SimpleQueue[Finding] = queue.SimpleQueue()

    def work() -> None:
        done.put(_guarded(check, context))

    threading.Thread(target=work, daemon=True).start()
    try:
        return done.get(timeout=seconds)
    except queue.Empty:
        found = f"no answer within {seconds:.0f} s"
        return fail(found, "Check the network, and what the server waits for.")


def _guarded(check: Check, context: CheckContext) -> Finding:
    try:
        return check.examine(context)
    except MigrationError as error:
        return fail(error.message, error.remedy)
    except Exception as error:  # noqa: BLE001
        # Not its text, which may hold a value or a password.
        found = f"a fault of the program ({type(error).__name__})"
        return fail(found, f"Please report it, with the check: {check.name}.")
