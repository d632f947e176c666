"""The report of a run, in each of its forms, and the files beside it."""

import csv
import json
import pickle
import re
from dataclasses import fields, replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow.parquet as pq
import pytest

from flows.cli.output import show
from flows.errors import Incomplete, Unproven
from flows.models import CLASSES, Difference, Ledger
from flows.reconciliation.report import ReconciliationReport
from flows.reports.circumstances import Circumstances
from flows.reports.files import write_differences, write_id_map, write_quarantine
from flows.reports.glossary import GLOSSARY
from flows.reports.rendering import COST
from flows.reports.spot_checks import SpotCheck
from flows.run.entity_end import EntityEnd
from flows.run.next_commands import NextStep, step_after_run
from flows.run.report import MigrationReport
from flows.run.report_files import (
    name_files,
    write_migration,
    write_reconciliation,
)
from flows.run.trial import Trial
from flows.state import manifest
from flows.state.runs import QUARANTINE_COLUMNS
from tests.support.source_table import make_source_table
from tests.support.target_table import numbered

HOSTILE = "<script>alert('1')</script>"
FORMULAS = [
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"),
    *("=cmd|' /C calc'!A0", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)"),
    # A spreadsheet may skip blanks, separators and marks before it.
    *(" =1", "  +1+1", "\u00a0-1-1", ";@SUM(A1)", ",=1", "\ufeff=1", "\u200b=1"),
    *("\u00a0 ;\u200b\ufeff=1", " \uff1d1", "\x00=1", " -7"),
]
SNAPSHOT = "2024-02-29T00:00:00.000Z, LSN 0/1"
SOURCE = make_source_table(columns_not_migrated=("phone",))


def written(made: MigrationReport, folder: Path) -> MigrationReport:
    """Write a report's files; return the report that names them."""
    found = made.reconciliation
    differences = write_differences(found.differences, folder) if found else {}
    files = {**made.files, **differences, **name_files(folder)}
    made = replace(made, files=files)
    write_migration(made, folder)
    return made


def reconciliation(
    *found: Difference, matched: int = 0, explained: int = 0
) -> ReconciliationReport:
    """Create the report of a comparison."""
    counts = dict.fromkeys(CLASSES, 0) | {"matched": matched, "explained": explained}
    for difference in found:
        counts[difference.kind] += 1
    return ReconciliationReport(10, 10, counts, found)


def report(**changes: Any) -> MigrationReport:
    """Create the report of a run of ten rows, proven except for the changes."""
    ledger = changes.pop("ledger", Ledger(read=10, written=10))
    part = EntityEnd(
        changes.pop("source", SOURCE),
        changes.pop("source_rows", 10),
        ledger=ledger,
        loaded=changes.pop("loaded", ledger),
        validation={"source": {"rows": 10, "failed_rows": 0, "by_reason": {}}},
    )
    names = {field.name for field in fields(EntityEnd)} - {"warnings"}
    given = {name: changes.pop(name) for name in names & changes.keys()}
    found = given.pop("reconciliation", reconciliation(matched=10))
    made = MigrationReport(
        run_id="run-1",
        entities=(replace(part, **given),),
        snapshot=SNAPSHOT,
        target={"table": "T", "region": "eu-west-1", "endpoint": "https://target"},
        allowed=0,
        reconciliation=found,
        seconds={"extract": 0.12345, "total": 2.0},
        capacity={"write_units": 10.0},
        files={"quarantine": "quarantine.csv", "id_map": "id_map.parquet"},
    )
    return replace(made, **changes)


def mismatch(source: Any, target: Any, identity: str = "x") -> Difference:
    """Create a difference of names."""
    fields = {"name": {"source": source, "target": target}}
    return Difference("mismatched", "-7", identity, fields)


# The verdict.


def test_a_proven_run_says_what_was_proven() -> None:
    """The verdict must contain the number of equal rows and the snapshot."""
    proven = report()

    assert proven.status == "proven"
    assert proven.findings == []
    assert proven.verdict == (
        f"Proven: 10 of 10 rows proven equal in 4 of 5 columns, at {SNAPSHOT}."
    )
    proven.raise_for_failures()


def test_a_proven_run_says_what_is_not_equal_by_right() -> None:
    """Newer items and allowed quarantine are no failure, and must be in the verdict."""
    newer = Difference("newer_in_target", "1", "x")
    proven = report(
        ledger=Ledger(read=10, written=8, kept_newer=1, quarantined=1),
        allowed=1,
        reconciliation=reconciliation(newer, matched=8, explained=1),
    )

    assert proven.status == "proven"
    assert proven.verdict == (
        "Proven: 8 of 10 rows proven equal in 4 of 5 columns, 1 newer in the target,"
        " 1 in quarantine,"
        f" at {SNAPSHOT}."
    )


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"ledger": Ledger(read=10, written=9)}, "does not account for the 10 rows"),
        ({"ledger": Ledger(read=9, written=9)}, "does not account for the 10 rows"),
        (
            {"ledger": Ledger(read=10, written=9, quarantined=1)},
            "1 rows are in quarantine, 0 allowed",
        ),
        ({"ledger": Ledger(read=10, written=9, failed=1)}, "1 rows could not be"),
        ({"reconciliation": None}, "not compared"),
        (
            {"reconciliation": reconciliation(mismatch("a", "b"), matched=9)},
            "Source and target differ: 1 mismatched.",
        ),
        (
            {"reconciliation": reconciliation(Difference("extra", None, "x"))},
            "Source and target differ: 1 extra.",
        ),
    ],
)
def test_an_unproven_run_says_why(changes: dict[str, Any], finding: str) -> None:
    """Each reason alone must make a run unproven, and be in the verdict."""
    unproven = report(**changes)

    assert unproven.status == "unproven"
    assert len(unproven.findings) == 1
    assert finding in unproven.verdict
    assert unproven.verdict.startswith("Unproven: ")
    with pytest.raises(Unproven, match=re.escape(finding)) as caught:
        unproven.raise_for_failures()
    assert (caught.value.exit_code, str(caught.value)) == (
        3,
        str(pickle.loads(pickle.dumps(caught.value))),  # noqa: S301
    )


def test_all_reasons_are_told() -> None:
    """A run with two faults must name both."""
    unproven = report(
        ledger=Ledger(read=10, written=7, quarantined=2, failed=1),
        reconciliation=reconciliation(Difference("missing", "1", "x"), matched=7),
    )

    assert [finding[:6] for finding in unproven.findings] == [
        "2 rows",
        "1 rows",
        "Source",
    ]


def test_an_incomplete_run_says_what_stopped_it() -> None:
    """A stopped run must be neither proven nor unproven, regardless of its ledger."""
    stopped = report(
        ledger=Ledger(read=5, written=5),
        reconciliation=None,
        stopped="The deadline of the run has passed.",
    )

    assert stopped.status == "incomplete"
    assert stopped.verdict == "Incomplete: The deadline of the run has passed."
    with pytest.raises(Incomplete, match="deadline") as caught:
        stopped.raise_for_failures()
    assert caught.value.exit_code == 4


def test_a_trial_is_never_proven() -> None:
    """Even if all its rows are equal, it must end with 3 and say of how many rows."""
    trial = report(trial=Trial(10, 2_000_000))

    assert trial.status == "unproven"
    (finding,) = trial.findings
    assert "trial of 10 of about 2,000,000 rows" in finding
    assert "10 are equal to their items" in finding
    assert trial.asdict()["trial"] == {"rows": 10, "of": 2_000_000, "estimated": True}
    assert step_after_run(trial).command == "enterprises migrate"
    with pytest.raises(Unproven, match="trial of 10"):
        trial.raise_for_failures()
    stopped = report(trial=Trial(10, 20), stopped="The deadline has passed.")
    assert stopped.findings == ["The deadline has passed."]


# JSON.


@pytest.mark.parametrize("bare", [True, False])
def test_the_json_has_the_frozen_keys(*, bare: bool) -> None:
    """Every key of the contract must be present, in every run, with its type."""
    nothing: dict[str, Any] = {
        "reconciliation": None,
        "validation": {},
        "seconds": {},
        "capacity": {},
        "files": {},
        "stopped": "stopped",
    }
    values = json.loads(json.dumps(report(**(nothing if bare else {})).asdict()))
    shape = {
        key: set(value) if isinstance(value, dict) else type(value)
        for key, value in values.items()
    }

    assert (
        shape.items()
        >= {
            "run_id": str,
            "status": str,
            "exit_code": int,
            "resumed": bool,
            "target": {"table", "region", "endpoint"},
            "ledger": {
                "read",
                "written",
                "unchanged",
                "kept_newer",
                "quarantined",
                "failed",
            },
            "validation": {"source", "items"},
            "seconds": {
                "extract",
                "validate",
                "transform",
                "load",
                "reconcile",
                "total",
            },
            "capacity": {"write_units", "read_units", "throttles", "retries"},
        }.items()
    )
    assert set(values) >= {"begun", "ended", "version", "host", "operator"}
    assert set(values["source"]) >= {
        "table",
        "rows",
        "snapshot",
        "columns_not_migrated",
    }
    assert set(values["files"]) >= {
        "report",
        "report_json",
        "quarantine",
        "id_map",
        "data_docs",
    }
    assert set(values["reconciliation"]) >= {
        "matched",
        "missing",
        "extra",
        "mismatched",
        "malformed",
        "newer_in_target",
        "deleted_in_target",
        "explained",
        "explained_with_item",
        "created_in_target",
    }
    for side in ("source", "items"):
        assert set(values["validation"][side]) >= {"rows", "failed_rows", "by_reason"}


def test_a_comparison_that_was_never_made_has_no_counts(tmp_path: Path) -> None:
    """Zeros would mean that nothing is missing: no numbers must be shown."""
    stopped = report(reconciliation=None, stopped="The deadline of the run has passed.")
    counts = stopped.asdict()["reconciliation"]

    assert set(counts) == {*CLASSES, "explained_with_item"}
    assert set(counts.values()) == {None}
    assert "Reconciliation: rows and items not compared" in str(stopped)
    files = written(stopped, tmp_path).files
    for name in ("report", "report_markdown"):
        assert "not compared" in Path(str(files[name])).read_text("utf-8")


def test_the_json_has_the_values() -> None:
    """The counts must be numbers, as in the report."""
    values = json.loads(json.dumps(report().asdict()))

    assert values["ledger"]["written"] == 10
    assert values["reconciliation"]["matched"] == 10
    assert values["seconds"]["extract"] == 0.123
    assert values["capacity"] == {
        "write_units": 10.0,
        "read_units": 0,
        "throttles": 0,
        "retries": 0,
    }
    assert values["source"] == {
        "table": "public.enterprises",
        "rows": 10,
        "snapshot": SNAPSHOT,
        "columns_migrated": ["id", "name", "created_date", "updated_date"],
        "columns_not_migrated": ["phone"],
        "referring_tables": [],
    }


# The files.


class Page(HTMLParser):
    """A page as a browser parses it: its tags and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the tag and its attributes."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        """Record the text."""
        self.text += data


def test_the_page_stands_alone_and_runs_nothing(tmp_path: Path) -> None:
    """No name may become markup, and nothing may be loaded from anywhere."""
    hostile = report(
        reconciliation=reconciliation(
            mismatch(HOSTILE, '"><img src=x onerror=alert(1)>', HOSTILE)
        ),
        warnings=(HOSTILE,),
        target={"table": HOSTILE, "region": HOSTILE, "endpoint": "https://target"},
    )
    hostile = written(hostile, tmp_path / "new" / "folder")
    text = Path(str(hostile.files["report"])).read_text("utf-8")
    page = Page(text)

    assert HOSTILE in page.text
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    assert {name for name, _ in page.attributes} <= {
        "lang",
        "charset",
        "name",
        "content",
        "class",
        "href",
    }
    assert re.findall(r"url\(|@import|src=", text.replace("&lt;img src=x", "")) == []
    assert all(is_beside(hostile, link) for link in links_of(page))
    assert "Unproven" in page.text


def links_of(page: Page) -> list[str]:
    """Return the addresses of a page's links."""
    return [str(value) for name, value in page.attributes if name == "href"]


def is_beside(made: Any, link: str) -> bool:
    """Return whether a link is the name of a file in the folder of the page."""
    folder = Path(str(made.files["report"])).parent
    return "/" not in unquote(link) and (folder / unquote(link)).is_file()


def test_the_page_tells_null_from_its_name(tmp_path: Path) -> None:
    """An attribute that is absent must not look like the text None, or like ""."""
    extra = Difference("extra", None, "y")
    found = [mismatch("None", None), mismatch("Acme", ""), extra]
    made = report(reconciliation=reconciliation(*found))
    page = Page(Path(str(written(made, tmp_path).files["report"])).read_text("utf-8"))

    assert page.text.count("None") == 1
    assert page.text.count("absent") == 1
    assert page.text.count("empty") == 1


def test_a_lone_surrogate_breaks_no_file(tmp_path: Path) -> None:
    """No file can store a surrogate of DynamoDB: the report must still be written."""
    made = report(reconciliation=reconciliation(mismatch("a", "\ud800")))
    files = written(made, tmp_path).files

    assert json.loads(Path(str(files["report_json"])).read_text("utf-8"))
    assert "\\ud800" in Path(str(files["differences_csv"])).read_text("utf-8")
    assert "Unproven" in Path(str(files["report"])).read_text("utf-8")


def test_the_markdown_has_the_counts_and_no_markup(tmp_path: Path) -> None:
    """No viewer of Markdown may interpret any message as HTML."""
    made = report(
        stopped=f"The table {HOSTILE} | [x](javascript:alert(1)) is gone.",
        reconciliation=None,
    )
    written(made, tmp_path)
    text = (tmp_path / "report.md").read_text("utf-8")

    assert text.startswith("# Run run-1: incomplete\n")
    assert f"| read | 10 | {GLOSSARY['read']} |" in text
    assert "| write units | 10 |" in text
    assert "<" not in text
    assert "[x]" not in text


def test_the_differences_of_a_report_stay_out_of_the_markdown(tmp_path: Path) -> None:
    """Values of rows must be only in the files for them, not in a comment."""
    made = report(reconciliation=reconciliation(mismatch("canary", "kanari")))
    written(made, tmp_path)

    assert "canary" not in (tmp_path / "report.md").read_text("utf-8")


def test_the_files_are_the_report(tmp_path: Path) -> None:
    """The JSON file must equal the object, and name the files that exist."""
    made = written(report(), tmp_path)
    values = json.loads((tmp_path / "report.json").read_text("utf-8"))

    assert values == json.loads(json.dumps(made.asdict()))
    assert values["files"]["report"] == str(tmp_path / "report.html")
    assert values["files"]["quarantine"] == "quarantine.csv"
    for name in ("report", "report_json"):
        assert Path(values["files"][name]).is_file()


def test_people_see_the_verdict_first() -> None:
    """Text and notebook must begin with the verdict, and show the ledger."""
    shown = report(stopped=HOSTILE)

    assert str(shown).splitlines()[0] == f"Incomplete: {HOSTILE}"
    assert "Ledger: read 10, written 10" in str(shown)
    page = Page(shown._repr_html_())
    assert page.text.startswith(f"Incomplete: {HOSTILE}")
    assert "script" not in page.tags


# What a person signs.

CHECK = SpotCheck(
    source_id="-7",
    id="x",
    row={"id": "-7", "name": "canary", "created_date": None, "updated_date": None},
    item={"PK": {"S": "ENT#x"}, "name": {"S": HOSTILE}},
    attributes=SOURCE.attributes,
    commands=("psql 'a <b>'", "aws x\ny"),
)


def signed(**changes: Any) -> MigrationReport:
    """Create a report with circumstances, and an item to check by hand."""
    made = Circumstances(
        begun="2024-02-29T00:00:00.000Z",
        ended="2024-02-29T00:00:09.200Z",
        version="0.1.0",
        host="worker-1",
        operator="Ana Ng",
    )
    return report(circumstances=made, spot_checks=(CHECK,), **changes)


@pytest.mark.parametrize("name", ["report", "report_markdown"])
def test_the_digest_of_the_json_is_on_the_page(tmp_path: Path, name: str) -> None:
    """A signature under the page must cover the numbers in the file beside it."""
    made = written(signed(), tmp_path)
    digest = sha256((tmp_path / "report.json").read_bytes()).hexdigest()

    assert digest in Path(str(made.files[name])).read_text("utf-8")
    assert digest not in (tmp_path / "report.json").read_text("utf-8")


@pytest.mark.parametrize("name", ["report", "report_markdown"])
def test_the_page_says_who_signs_what(tmp_path: Path, name: str) -> None:
    """Facts, reasons of exceptions and lines to sign must be before all tables."""
    made = signed(
        ledger=Ledger(read=10, written=8, quarantined=2),
        allowed=2,
        reconciliation=reconciliation(matched=8, explained=2),
        quarantine={"name_missing": 2},
    )
    text = Path(str(written(made, tmp_path).files[name])).read_text("utf-8")
    first = text.split("<h2>")[0].split("## ")[0]

    for fact in (
        made.verdict,
        "run run-1",
        "2024-02-29 00:00:00 UTC",
        "2024-02-29 00:00:09 UTC",
        "9.2 s",
        "enterprise-migration 0.1.0",
        "worker-1",
        "Ana Ng",
        "T, eu-west-1, https://target",
        "id as PK, id",
        "phone",
        f"2 explained: {GLOSSARY['explained']}",
        "reasons of the quarantine: name_missing 2",
        "not known",
        *("Name", "Date", "Signature"),
    ):
        assert fact in first, fact


def test_words_are_explained_where_they_stand(tmp_path: Path) -> None:
    """A signer must not need the guide to read the counts."""
    page = Page(
        Path(str(written(signed(), tmp_path).files["report"])).read_text("utf-8")
    )

    for word in ("written", "kept newer", "explained", "malformed", "newer in target"):
        assert GLOSSARY[word] in page.text, word


def test_items_to_check_are_on_the_page_alone(tmp_path: Path) -> None:
    """Their values must be escaped there, and in no file that Prefect gets."""
    made = written(signed(), tmp_path)
    page = Page(Path(str(made.files["report"])).read_text("utf-8"))
    markdown = (tmp_path / "report.md").read_text("utf-8")

    assert "canary" in page.text
    assert json.dumps({"S": HOSTILE}) in page.text
    assert "psql 'a <b>'" in page.text
    assert page.text.count("absent") == 6
    assert "script" not in page.tags
    assert "\n    psql 'a <b>'\n    aws x y\n" in markdown
    for text in (markdown, (tmp_path / "report.json").read_text("utf-8"), str(made)):
        assert "canary" not in text
    assert made.asdict()["spot_checks"] == [{"source_id": "-7", "id": "x"}]


def test_links_work_wherever_the_folder_is(tmp_path: Path) -> None:
    """Each file beside the page must be linked by its name, however it is spelled."""
    folder = tmp_path / "old"
    files = {"data_docs": str(folder / "data docs#1" / "index.html"), "id_map": "x"}
    made = written(signed(files=files), folder)
    page = Page(Path(str(made.files["report"])).read_text("utf-8"))

    assert set(links_of(page)) == {
        "data%20docs%231/index.html",
        "differences.csv",
        "differences.parquet",
        "report.json",
        "report.md",
        "validation.json",
    }


def test_numbers_have_separators(tmp_path: Path) -> None:
    """A number of seven digits must be readable on the page and in Markdown."""
    made = signed(
        source_rows=1_234_567,
        ledger=Ledger(read=1_234_567, written=1_234_567),
        reconciliation=reconciliation(matched=1_234_567),
        profile={"rows": 1_234_567, "name_blank": 2},
    )
    files = written(made, tmp_path).files

    assert "1,234,567 of 1,234,567 rows proven equal" in made.verdict
    for name in ("report", "report_markdown"):
        text = Path(str(files[name])).read_text("utf-8")
        assert "1234567" not in text
        assert "1,234,567" in text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"reconciliation": None}, 3),
        ({"stopped": "The deadline of the run has passed."}, 4),
    ],
)
def test_the_exit_code_is_that_of_the_error(changes: dict[str, Any], code: int) -> None:
    """The file must have the code with which the command ends."""
    assert report(**changes).asdict()["exit_code"] == code


# CSV and Parquet.


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV file as a spreadsheet would."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_field_is_a_formula(tmp_path: Path, formula: str) -> None:
    """A spreadsheet must show a name literally, in any column, and run nothing."""
    found = Difference(
        "malformed", None, formula, {"name": {"source": formula, "target": formula}}
    )
    files = write_differences(reconciliation(found).differences, tmp_path)
    rows = read_csv(Path(files["differences_csv"]))
    frame = pd.DataFrame(
        [("-7", "name_blank", formula, None, None, None)],
        columns=list(QUARANTINE_COLUMNS),
    )
    quarantine = read_csv(Path(write_quarantine(frame, tmp_path)["quarantine"]))

    (row,) = rows
    assert (row["id"], row["source"], row["target"]) == (f"'{formula}",) * 3
    assert quarantine[0]["enterprise_name"] == f"'{formula}"


@pytest.mark.parametrize("text", ["Acme", " Acme", "-7", "a=1", "\ufeffAcme", " a-b"])
def test_a_text_that_is_no_formula_stays(tmp_path: Path, text: str) -> None:
    """A name that contains a sign, and a negative id, must not be changed."""
    frame = pd.DataFrame(
        [("-7", "name_blank", text, None, None, None)], columns=list(QUARANTINE_COLUMNS)
    )

    (row,) = read_csv(Path(write_quarantine(frame, tmp_path)["quarantine"]))

    assert row["enterprise_name"] == text


@pytest.mark.parametrize(
    "source_id",
    ["-1", "0", "-9223372036854775808", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "007"],
)
def test_ids_are_exact(tmp_path: Path, source_id: str) -> None:
    """Ids are join keys: not even a negative one may be changed."""
    found = Difference("missing", source_id, source_id)
    files = write_differences(reconciliation(found).differences, tmp_path)
    frame = pd.DataFrame(
        [(source_id, "name_missing", None, None, None, None)],
        columns=list(QUARANTINE_COLUMNS),
        dtype=object,
    )
    quarantine = read_csv(Path(write_quarantine(frame, tmp_path)["quarantine"]))
    (row,) = read_csv(Path(files["differences_csv"]))
    (stored,) = pq.read_table(files["differences"]).to_pylist()

    assert (row["source_id"], row["id"]) == (source_id, source_id)
    assert (stored["source_id"], stored["id"]) == (source_id, source_id)
    assert quarantine[0]["source_id"] == source_id


def test_null_is_no_empty_text(tmp_path: Path) -> None:
    """PostgreSQL's COPY must be able to read the file back unchanged."""
    rows = [
        ("1", "name_missing", None, "infinity", None, None),
        ("2", "name_blank", "", 'a "quoted", name', "two\r\nlines", None),
    ]
    frame = pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS), dtype=object)
    text = Path(write_quarantine(frame, tmp_path)["quarantine"]).read_bytes().decode()

    assert text == (
        "source_id,reasons,enterprise_name,created_date,updated_date,store_reason\n"
        '"1","name_missing",,"infinity",,\n'
        '"2","name_blank","","a ""quoted"", name","two\r\nlines",\n'
    )


def test_nothing_in_quarantine_is_a_file_all_the_same(tmp_path: Path) -> None:
    """A file without rows must still have the columns."""
    frame = pd.DataFrame(columns=list(QUARANTINE_COLUMNS), dtype=object)
    path = Path(write_quarantine(frame, tmp_path / "new")["quarantine"])

    assert path.read_text() == ",".join(QUARANTINE_COLUMNS) + "\n"


def test_all_differences_are_in_the_files(tmp_path: Path) -> None:
    """The JSON may stop at a thousand; the files must have all, with the same types."""
    found = [
        Difference("missing", str(number), f"id-{number}") for number in range(1_500)
    ]
    found.append(mismatch("a", {"NULL": True}))
    made = write_reconciliation(reconciliation(*found), tmp_path / "new")
    files = made.files or {}
    stored = pq.read_table(files["differences"])
    values = json.loads(Path(files["report_json"]).read_text("utf-8"))

    assert stored.num_rows == len(read_csv(Path(files["differences_csv"]))) == 1_501
    assert stored.column_names == [
        "class",
        "source_id",
        "id",
        "field",
        "source",
        "target",
    ]
    assert stored.to_pylist()[-1]["target"] == "{'NULL': True}"
    assert stored.to_pylist()[0]["target"] is None
    assert len(values["differences"]) == 1_000
    assert set(values["files"]) == {
        "differences",
        "differences_csv",
        "report",
        "report_json",
        "report_markdown",
    }


@pytest.mark.parametrize(
    ("count", "said"), [(100, "All 100; they are also"), (101, "The first 100 of 101")]
)
def test_the_page_links_to_what_it_does_not_show(
    tmp_path: Path, count: int, said: str
) -> None:
    """After the first hundred, all differences are in the file beside the page."""
    found = [Difference("missing", str(n), f"id-{n}") for n in range(count)]
    made = write_reconciliation(reconciliation(*found), tmp_path / "new")
    path = Path((made.files or {})["report"])
    page = Page(path.read_text("utf-8"))

    assert said in " ".join(page.text.split())
    assert "differences.csv" in links_of(page)
    assert all(is_beside(made, link) for link in links_of(page))
    assert len(re.findall(r"id-\d", page.text)) == 100


def test_a_reconciliation_alone_has_all_renderings(tmp_path: Path) -> None:
    """Page, Markdown and JSON must agree, and the page must run nothing from a name."""
    past: dict[str, Any] = {
        "at": "2024-02-29T00:00:00.000+00:00",
        "mode": "full",
        "status": "clean",
        "source_rows": 10,
        "counts": dict.fromkeys(CLASSES, 0),
    }
    now = past | {"status": "different", "counts": past["counts"] | {"mismatched": 1}}
    made = replace(
        reconciliation(mismatch(HOSTILE, "kanari"), matched=9),
        name="reconcile-1",
        taken=SNAPSHOT,
        where={"source": HOSTILE, "table": "T", "region": "r", "endpoint": "e"},
        capacity={"read_units": 12.5},
        new_classes=("mismatched",),
        history=(past, now),
        environment={"python": "3.13", "source_table": HOSTILE},
    )
    files = write_reconciliation(made, tmp_path).files or {}
    texts = {
        name: Path(path).read_text("utf-8")
        for name, path in files.items()
        if name.startswith("report")
    }
    page = Page(texts["report"])

    verdict = f"Different: 1 mismatched, at {SNAPSHOT}."
    appeared = "New since the previous reconciliation: mismatched."
    assert json.loads(texts["report_json"])["statement"] == verdict
    for text in (page.text, texts["report_markdown"], str(made) + made.appeared):
        assert verdict in text
        assert appeared in text
        assert "12.5" in text
    assert json.loads(texts["report_json"])["new_classes"] == ["mismatched"]
    assert HOSTILE in page.text
    assert not {"script", "img", "link"} & set(page.tags)
    assert "kanari" not in texts["report_markdown"]


def test_the_cost_is_told_where_prices_are_known(tmp_path: Path) -> None:
    """Units must be priced with date and source, and only by their region's prices."""
    target = {"table": "T", "region": "us-east-1", "endpoint": "https://target"}
    units = {"write_units": 2_000_000_000.0, "read_units": 2_000_000.0}
    made = written(report(target=target, capacity=units), tmp_path)
    page = Page(Path(str(made.files["report"])).read_text("utf-8")).text
    found = replace(reconciliation(), where=target, capacity=units)
    cost = {"writes": "1,250.00", "reads": "0.25", "total": "1,250.25"}

    assert dict(made.tables())[COST] == dict(found.tables())[COST] == cost
    assert "1,250.25" in page
    assert "Prices as of 20" in page
    assert COST not in dict(report(capacity=units).tables())


def test_less_than_a_cent_is_told_as_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No form may show a small cost in exponent notation, or as nothing."""
    target = {"table": "T", "region": "us-east-1", "endpoint": "https://target"}
    made = written(report(target=target, capacity={"write_units": 2.0}), tmp_path)
    show(made, NextStep("Sign it."), verbose=True)
    forms = {
        "page": Page(Path(str(made.files["report"])).read_text("utf-8")).text,
        "markdown": Path(str(made.files["report_markdown"])).read_text("utf-8"),
        "terminal": capsys.readouterr().out,
        "notebook": Page(made._repr_html_()).text,
        "text": str(made),
    }

    for form, text in forms.items():
        cost = text[text.index(COST) :]
        assert cost.count("< 0.01") == 2, form
        assert "0.00" in cost, form
        assert "e-0" not in cost, form


def test_a_notebook_gets_the_charts() -> None:
    """Charts must contain their colours, and no script."""
    one = {"2024-01-01": 1, "2024-01-02": 2}
    days = {"created": {"source": one, "target": one}}
    found = replace(reconciliation(matched=10), days=days)
    loading = ((1.0, 2.0, 10), (2.0, 9.0, 10))
    drawn = report(reconciliation=found, loading=loading).plot()
    page = Page(drawn._repr_html_())

    assert page.tags.count("svg") == 2
    assert len(found.plot().charts) == 1
    assert "style" in page.tags
    assert "script" not in page.tags


def test_no_differences_are_files_with_columns(tmp_path: Path) -> None:
    """A clean comparison must leave readable files, without rows."""
    files = write_differences(reconciliation().differences, tmp_path)

    assert pq.read_table(files["differences"]).num_rows == 0
    assert read_csv(Path(files["differences_csv"])) == []


def test_the_id_map_has_every_id(tmp_path: Path) -> None:
    """It remaps other tables: it must have both ids, as text, of all partitions."""
    parts = [numbered(3), numbered(0), numbered(5).iloc[3:]]
    tables = [(manifest.decode(manifest.encode(part)), None) for part in parts]
    path = write_id_map(tables, tmp_path / "new" / "id_map.parquet")
    stored = pq.read_table(path)

    expected = numbered(5)[["source_id", "id"]].to_dict("records")
    assert stored.to_pylist() == expected
    assert {str(field.type) for field in stored.schema} == {"string"}


def test_no_run_has_an_id_map_too(tmp_path: Path) -> None:
    """A run without partitions must have the file, without rows."""
    assert pq.read_table(write_id_map([], tmp_path / "id_map.parquet")).num_rows == 0
