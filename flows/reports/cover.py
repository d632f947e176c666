"""The first lines of a report: the facts that a person signs for."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from flows.models import SourceTable, describe_left_behind
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
    def sources(self) -> Sequence[SourceTable]:
        """The source tables, if they are known."""

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
    made, sources = report.circumstances, report.sources
    target = [report.target.get(name) for name in ("table", "region", "endpoint")]
    rows = f"{report.source_rows:,} rows"
    names = ", ".join(dict.fromkeys(source.name for source in sources))
    kind = "table" if len(sources) == 1 else "tables"
    table = f"{kind} {names}, {rows}" if sources else rows
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
        **(_columns(sources) if sources else {}),
        "Excepted": "; ".join(report.excepted) or "nothing",
        "Exit code": str(report.exit_code),
    }
    return {title: text or NOT_KNOWN for title, text in known.items()}


def _columns(sources: Sequence[SourceTable]) -> dict[str, str]:
    """Return lines on the columns that are moved, and on what is left behind."""
    several = len(sources) > 1
    moved = (
        f"{f'{source.table}.' if several else ''}{column} as {', '.join(names)}"
        for source in sources
        for column, names in source.attributes.items()
        if names
    )
    behind = describe_left_behind(sources)
    left = {name.capitalize(): text for name, text in behind.items()}
    columns = left.pop("Columns", "none")
    return {"Columns moved": "; ".join(moved), "Columns left behind": columns} | left


def _shown(moment: str) -> str:
    """Return a time in ISO 8601 as people read it, without milliseconds."""
    return f"{moment[:19].replace('T', ' ')} UTC" if moment else ""
