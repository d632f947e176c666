"""The results of a suite as data, and the errors of validation.

    ValidationError
    ├── InputError         the frame cannot be judged
    ├── ExpectationError   an expectation could not be evaluated
    └── ValidationFailed   the frame was judged, and rows failed

All of them pickle, and none contains a value of a row.
"""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import pandas as pd

from validation.contract import Reason, Severity
from validation.html_tables import make_table
from validation.rules import SuiteOf
from validation.subject import ENTERPRISES, Subject
from validation.subject_reasons import reasons_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# A label and an id may be anything.
_FAILURE_TYPES: Final = {
    "row": "object",
    "source_id": "object",
    "column": "str",
    "reason": "str",
    "severity": "str",
}
FAILURE_COLUMNS: Final = tuple(_FAILURE_TYPES)
# The number of rows that are named for each reason.
EXAMPLES: Final = 3
_DESCRIPTIONS: Final = {reason.value: reason.description for reason in Reason}
_ORDER: Final = {code: place for place, code in enumerate(_DESCRIPTIONS)}


class ValidationError(Exception):
    """The base of this package's errors. Never raised directly."""


class InputError(ValidationError):
    """Raised when a frame cannot be judged as it is, before any rule is applied."""


class ExpectationError(ValidationError):
    """Raised when an expectation could not be evaluated, whatever the rows are."""

    def __init__(self, suite: str, expectation: str, cause: str) -> None:
        """Store the facts from which the message is built."""
        super().__init__(suite, expectation, cause)
        self.suite = suite
        self.expectation = expectation
        self.cause = cause

    def __str__(self) -> str:
        """Return the expectation and why it could not be evaluated."""
        return (
            f"{self.expectation} of suite {self.suite} could not be evaluated "
            f"({self.cause}): the frame is not validated"
        )


class ValidationFailed(ValidationError):  # the verdict, not a fault
    """Raised when rows broke a critical rule."""

    def __init__(
        self, suite: str, rows: int, failed_rows: int, by_reason: Mapping[str, int]
    ) -> None:
        """Store the facts from which the message is built."""
        super().__init__(suite, rows, failed_rows, by_reason)
        self.suite = suite
        self.rows = rows
        self.failed_rows = failed_rows
        self.by_reason = dict(by_reason)

    def __str__(self) -> str:
        """Count the failed rows by reason."""
        return _sentence(self.suite, self.rows, self.failed_rows, self.by_reason)


@dataclass(frozen=True, eq=False)
class ValidationReport:
    """The verdict of a suite on a frame.

    *failures* has one line per row and reason, in the frame's order: `row` (the
    label in the frame's index), `source_id` (None if the frame has none),
    `column`, `reason` and `severity`. *descriptions* has the sentences of reasons
    that the contract does not have, by their codes.
    """

    suite: str
    rows: int
    failures: pd.DataFrame
    descriptions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def merged(cls, reports: Sequence[Self]) -> Self:
        """Merge the reports of one suite on several frames, such as partitions.

        A row's label becomes the pair of its frame's number and its label there,
        since the frames may use the same labels for different rows.
        """
        suites = {report.suite for report in reports}
        failures = [
            report.failures.assign(
                row=pd.Series(
                    [(number, label) for label in report.failures["row"]],
                    index=report.failures.index,
                    dtype=object,
                )
            )
            for number, report in enumerate(reports)
            if len(report.failures)
        ]
        return cls(
            suite=", ".join(sorted(suites)),
            rows=sum(report.rows for report in reports),
            failures=pd.concat(failures, ignore_index=True)
            if failures
            else frame_failures([]),
            descriptions={
                code: sentence
                for report in reports
                for code, sentence in report.descriptions.items()
            },
        )

    @property
    def success(self) -> bool:
        """Return whether no row broke a critical rule."""
        return self.failed_rows == 0

    @property
    def failed_rows(self) -> int:
        """Count the rows that broke a critical rule."""
        return len(self.critical)

    @property
    def critical(self) -> pd.Index[Any]:
        """Return the labels of rows that broke a critical rule, in frame order."""
        rows = self._critical_failures["row"].unique()
        labels: pd.Index[Any] = pd.Index(rows, tupleize_cols=False)
        return labels

    @property
    def reasons(self) -> pd.Series[Any]:
        """Join the reason codes of each critical row with `;`, in contract order.

        Those of a mapping's rules come last, in the order of its suite.
        """
        codes: dict[Any, list[str]] = {}
        failures = self._critical_failures
        for row, reason in zip(failures["row"], failures["reason"], strict=True):
            codes.setdefault(row, []).append(reason)
        last = len(_ORDER)
        joined = [
            ";".join(sorted(found, key=lambda code: _ORDER.get(code, last)))
            for found in codes.values()
        ]
        return pd.Series(joined, index=self.critical, name="reasons", dtype=object)

    @property
    def by_reason(self) -> dict[str, int]:
        """Count the rows that failed by reason code, sorted by code."""
        return _count(self._critical_failures["reason"])

    @property
    def warnings(self) -> dict[str, int]:
        """Count the rows that drew a warning by reason code, sorted by code."""
        return _count(self._warnings["reason"])

    def summary(self) -> str:
        """Return one line with the failed rows by reason, and the warnings."""
        facts = (self.suite, self.rows, self.failed_rows, self.by_reason)
        warnings = _listed(self.warnings)
        return _sentence(*facts) + (f"; warnings: {warnings}" if warnings else "")

    def asdict(self) -> dict[str, Any]:
        """Return the counts that a run's JSON holds."""
        return {
            "rows": self.rows,
            "failed_rows": self.failed_rows,
            "by_reason": self.by_reason,
            "warnings": self.warnings,
        }

    def result(self) -> dict[str, Any]:
        """Return the counts, and the ids of the first rows for each reason."""
        examples = {
            str(reason): [str(i) for i in group["source_id"].head(EXAMPLES) if i]
            for reason, group in self.failures.groupby("reason", sort=True)
        }
        return self.asdict() | {"examples": examples}

    def raise_for_failures(self) -> None:
        """Raise `ValidationFailed` if a row broke a critical rule."""
        if not self.success:
            facts = (self.suite, self.rows, self.failed_rows, self.by_reason)
            raise ValidationFailed(*facts)

    def __str__(self) -> str:
        """Return the summary."""
        return self.summary()

    def _repr_html_(self) -> str:
        """Show the reasons, with their counts and first rows, in a notebook."""
        heading = f"<p><strong>{html.escape(self.summary())}</strong></p>"
        if self.failures.empty:
            return heading
        reasons = dict.fromkeys([*self.by_reason, *self.warnings])
        return heading + make_table(self._describe(reason) for reason in reasons)

    def _describe(self, reason: str) -> dict[str, Any]:
        failures = self.failures[self.failures["reason"] == reason]
        first = failures.iloc[0]
        examples = failures.head(EXAMPLES)
        labels = examples["source_id"].where(
            examples["source_id"].notna(), examples["row"]
        )
        return {
            "reason": reason,
            "column": first["column"],
            "severity": first["severity"],
            "rows": len(failures),
            "first rows": ", ".join(map(str, labels)),
            "what must hold": (_DESCRIPTIONS | dict(self.descriptions)).get(reason, ""),
        }

    @property
    def _critical_failures(self) -> pd.DataFrame:
        return self.failures[self.failures["severity"] == Severity.CRITICAL.value]

    @property
    def _warnings(self) -> pd.DataFrame:
        return self.failures[self.failures["severity"] == Severity.WARNING.value]


def frame_failures(lines: pd.DataFrame | Sequence[Any]) -> pd.DataFrame:
    """Return failures with the columns and types of `ValidationReport.failures`."""
    frame = pd.DataFrame(lines, columns=list(FAILURE_COLUMNS))
    return frame.astype(_FAILURE_TYPES)


def merge_results(results: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the results of one suite on the partitions of a run into one."""
    merged: dict[str, Any] = {"rows": 0, "failed_rows": 0}
    merged |= {"by_reason": {}, "warnings": {}, "examples": {}}
    for result in results:
        for name in ("rows", "failed_rows"):
            merged[name] += result.get(name, 0)
        for name in ("by_reason", "warnings"):
            for reason, count in result.get(name, {}).items():
                merged[name][reason] = merged[name].get(reason, 0) + count
        for reason, ids in result.get("examples", {}).items():
            merged["examples"].setdefault(reason, []).extend(ids)
    examples = merged["examples"].items()
    merged["examples"] = {reason: ids[:EXAMPLES] for reason, ids in examples}
    return merged


def describe_result(
    suite: str, result: Mapping[str, Any], subject: Subject = ENTERPRISES
) -> list[dict[str, Any]]:
    """Return a line for each reason of a suite: its rule and its number of rows."""
    counts = {**result.get("warnings", {}), **result.get("by_reason", {})}
    return [
        {
            "reason": reason.value,
            "column": reason.column,
            "severity": reason.severity.value,
            "must_hold": reason.description,
            "rows": counts.get(reason.value, 0),
            "first_source_ids": result.get("examples", {}).get(reason.value, []),
        }
        for reason in reasons_of(SuiteOf(suite, subject))
    ]


def _count(reasons: pd.Series[Any]) -> dict[str, int]:
    counts = reasons.value_counts()
    return {str(reason): int(counts[reason]) for reason in sorted(counts.index)}


def _sentence(
    suite: str, rows: int, failed_rows: int, by_reason: Mapping[str, int]
) -> str:
    counts = _listed(by_reason)
    because = f" ({counts})" if counts else ""
    return f"{suite}: {failed_rows:,} of {rows:,} rows failed{because}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
