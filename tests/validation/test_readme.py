"""The contract's table matches the suites."""

from pathlib import Path

from validation.contract import Reason
from validation.suites import item_suite, source_suite, table_suite

README = Path(__file__).parents[2] / "validation" / "README.md"
HAPPENS = {"critical": "quarantine", "warning": "moved, with a warning"}


def contract_rows() -> list[str]:
    """Return the lines of the table, derived from the suites."""
    lines = []
    for suite in (source_suite(), item_suite(), table_suite(last_rows=0)):
        for rule in suite.expectations:
            reason = Reason((rule.meta or {})["reason"])
            severity = reason.severity.value
            cells = (
                suite.name,
                f"`{type(rule).__name__}`",
                rule.description,
                severity,
                f"`{reason.value}`",
                HAPPENS[severity],
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def test_the_table_is_that_of_the_suites() -> None:
    """Each expectation has one line, in the suites' order, and no line is extra."""
    lines = README.read_text("utf-8").splitlines()
    table = [line for line in lines if line.startswith("|") and "`Expect" in line]

    assert table == contract_rows()
