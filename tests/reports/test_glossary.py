"""The words of the reports: each has one meaning, wherever it is explained."""

import re
from pathlib import Path

import pytest

from flows.models import CLASSES, Ledger
from flows.reports.glossary import GLOSSARY, meaning_of

GUIDE = Path(__file__).parents[2] / "flows" / "README.md"


def test_the_guide_has_the_same_meanings() -> None:
    """The table of terms must have every word, with the same meaning."""
    section = GUIDE.read_text("utf-8").split("## Terms")[1].split("## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section, re.MULTILINE)

    assert rows[:2] == [("term", "meaning"), ("---", "---")]
    assert dict(rows[2:]) == GLOSSARY


@pytest.mark.parametrize("name", [*Ledger.__dataclass_fields__, *CLASSES])
def test_what_a_report_counts_has_a_meaning(name: str) -> None:
    """No column of the ledger and no class may be left to be guessed."""
    assert meaning_of(name)


def test_another_word_has_none() -> None:
    """A name that is no term must be shown without an explanation."""
    assert meaning_of("elephants") == ""
