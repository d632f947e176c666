"""The first lines of a report: the facts that a person signs for."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from flows.models import SourceTable
from flows.reports.circumstances import NOT_KNOWN, Circumstances


class Covered(Protocol):
    """A report of which the first lines can be written."""

    @property
    def subject(self) -> str:
        """What the report is of."""

    @property
    def circumstances(self) -> Circumstances:
        """When, where and by whom it was made."""

    @property
    def source(self) -> SourceTable | None:
        """The source table."""

    @property
    def source_rows(self) -> int:
        """The rows of the source, or those that were compared."""

    @property
    def snapshot(self) -> str:
        """Time and LSN of the snapshot."""

    @property
    def target(self) -> Mapping[str, str]:
        """Name, region and endpoint of the table."""

    @property
    def excepted(self) -> Sequence[str]:
        """What is excepted from the proof, and why."""

    @property
    def exit_code(self) -> int:
        """The exit code of the command."""


def cover_lines(report: Covered) -> dict[str, str]:
    """Return the facts of a report by their titles, each as one text."""
    made, source = report.circumstances, report.source
    target = [report.target.get(name) for name in ("table", "region", "endpoint")]
    rows = f"{report.source_rows:,} rows"
    table = f"table {source.name}, {rows}" if source else rows
    known = {
        "Report of": report.subject,
        "Begun": _shown(made.begun),
        "Ended": _shown(made.ended),
        "Duration": made.duration,
        "Program": made.version and f"enterprise-migration {made.version}",
        "Host": made.host,
        "Operator": made.operator,
        "Source": ", ".join(text for text in (made.database, table) if text),
        "Server": made.server,
        "Snapshot": report.snapshot,
        "Target": ", ".join(str(text) for text in target if text),
        "Account": made.account,
        **(_columns(source) if source else {}),
        "Excepted": "; ".join(report.excepted) or "nothing",
        "Exit code": str(report.exit_code),
    }
    return {title: text or NOT_KNOWN for title, text in known.items()}


def _columns(source: SourceTable) -> dict[str, str]:
    """Return lines on the columns that are moved, and on what is left behind."""
    moved = (f"{c} as {', '.join(names)}" for c, names in source.attributes.items())
    left = {name.capitalize(): text for name, text in source.left_behind.items()}
    behind = left.pop("Columns", "none")
    return {"Columns moved": "; ".join(moved), "Columns left behind": behind} | left


def _shown(moment: str) -> str:
    """Return a time in ISO 8601 as people read it, without milliseconds."""
    return f"{moment[:19].replace('T', ' ')} UTC" if moment else ""
