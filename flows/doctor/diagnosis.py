"""The findings of ``doctor``, one line per check, and how the checks run.

A check is skipped if a check that it needs has failed; its line names that check. Every
check has a time limit, and none ends in a traceback.
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
    """What is known so far, passed from check to check; None is unknown.

    ``unanswered`` is the reason why the table cannot be queried at all.
    """

    purpose: Purpose = "migrate"
    settings: Any = None
    arguments: Any = None
    # Whether DynamoDB is checked; a service over PostgreSQL does not use it.
    aws: Any = None
    connection: Any = None
    sources: Any = None
    table: Any = None
    greeting: Any = None
    description: Any = None
    lease: Any = None
    unanswered: MigrationError | None = None
    opened: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True)
class Check:
    """A check: the values that it needs, and how it runs."""

    name: str
    examine: Callable[[Any], Finding]
    needs: Sequence[str] = ()


# The check that provides each value that others need.
FOUND_BY = {
    "settings": "settings",
    "arguments": "settings",
    "aws": "settings",
    "connection": "PostgreSQL",
    "sources": "table and columns",
    "table": "region",
    "greeting": "endpoint",
    "description": "DynamoDB table",
    "lease": "lease",
}


@dataclass(frozen=True, repr=False)
class Diagnosis(Report):
    """All findings, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def status(self) -> Literal["fit", "unfit"]:
        """Return ``unfit`` if a check failed."""
        failed = any(one.status is Status.FAIL for one in self.findings)
        return "unfit" if failed else "fit"

    def asdict(self) -> dict[str, Any]:
        """Return the findings as plain values, in the form of ``doctor --json``."""
        lines = []
        for finding in self.findings:
            line = asdict(finding)
            lines.append({"check": line.pop("check")} | line)
        return {"status": self.status, "checks": lines}

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return each finding as a table of one row."""
        names = ("status", "found", "remedy")
        return [
            (one.check, {name: str(getattr(one, name)) for name in names})
            for one in self.findings
        ]

    def raise_for_failures(self) -> None:
        """Raise if a check failed.

        Raises:
            TargetError: a check failed; the error has its message and remedy.
        """
        for one in self.findings:
            if one.status is Status.FAIL:
                raise TargetError(f"{one.check}: {one.found}", one.remedy)


def diagnose(
    context: CheckContext, checks: Sequence[Check], seconds: float = CHECK_SECONDS
) -> Iterator[Finding]:
    """Run the checks in order; yield the finding of each."""
    with context.opened:
        for check in checks:
            missing = [n for n in check.needs if getattr(context, n) is None]
            if missing:
                found = skipped(f"not checked: see {FOUND_BY[missing[0]]}")
            else:
                found = _run_in_time(check, context, seconds)
            yield replace(found, check=check.name)


def _run_in_time(check: Check, context: CheckContext, seconds: float) -> Finding:
    """Run one check; wait at most this many seconds for it."""
    done: queue.SimpleQueue[Finding] = queue.SimpleQueue()

    def work() -> None:
        done.put(_run_check(check, context))

    threading.Thread(target=work, daemon=True).start()
    try:
        return done.get(timeout=seconds)
    except queue.Empty:
        found = f"no answer within {seconds:.0f} s"
        return fail(found, "Check the network, and what the server waits for.")


def _run_check(check: Check, context: CheckContext) -> Finding:
    try:
        return check.examine(context)
    except MigrationError as error:
        return fail(error.message, error.remedy)
    except Exception as error:  # noqa: BLE001
        # Without its text, which may hold a value or a password.
        found = f"internal error ({type(error).__name__})"
        return fail(found, f"Please report it, with the check: {check.name}.")
