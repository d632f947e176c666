"""The report: counts, labels and codes; printing, pickling and raising."""

import dataclasses
import json
import pickle
from typing import Any

import pandas as pd
import pytest

from validation import contract
from validation.contract import Reason
from validation.report import (
    FAILURE_COLUMNS,
    ExpectationError,
    InputError,
    ValidationError,
    ValidationFailed,
    ValidationReport,
    describe_result,
    merge_results,
)


def _report(*lines: tuple[Any, ...], rows: int = 10) -> ValidationReport:
    failures = pd.DataFrame(lines, columns=list(FAILURE_COLUMNS), dtype=object)
    return ValidationReport("source_enterprises", rows, failures)


@pytest.fixture
def report() -> ValidationReport:
    """Return three rows: two failed, one of them twice, and one with a warning."""
    return _report(
        (7, "70", "enterprise_name", "name_blank", "critical"),
        (7, "70", "source_id", "id_duplicate", "critical"),
        (2, None, "source_id", "id_missing", "critical"),
        (4, "40", "enterprise_name", "name_padded", "warning"),
    )


def test_only_critical_rows_fail(report: ValidationReport) -> None:
    """A warning counts for its reason, but its row does not fail."""
    assert (report.success, report.failed_rows) == (False, 2)
    assert report.critical.tolist() == [7, 2]
    assert report.by_reason == {"id_duplicate": 1, "id_missing": 1, "name_blank": 1}
    assert report.warnings == {"name_padded": 1}


def test_reasons_are_in_contract_order(report: ValidationReport) -> None:
    """The codes of a row are joined in the order of the contract."""
    assert report.reasons.to_dict() == {7: "id_duplicate;name_blank", 2: "id_missing"}


def test_warnings_alone_are_a_success() -> None:
    """A report without a critical failure is a success and raises nothing."""
    report = _report((1, "1", "enterprise_name", "name_blank", "warning"))
    report.raise_for_failures()

    assert report.success
    assert report.reasons.empty


def test_summary_counts_by_reason(report: ValidationReport) -> None:
    """One line has the number of failed rows and the reasons, as does printing."""
    expected = (
        "source_enterprises: 2 of 10 rows failed "
        "(id_duplicate 1, id_missing 1, name_blank 1); warnings: name_padded 1"
    )

    assert (report.summary(), str(report)) == (expected, expected)
    assert str(_report()) == "source_enterprises: 0 of 10 rows failed"


def test_asdict_is_json(report: ValidationReport) -> None:
    """The counts are those in the JSON of a run, in plain types."""
    assert json.loads(json.dumps(report.asdict())) == {
        "rows": 10,
        "failed_rows": 2,
        "by_reason": {"id_duplicate": 1, "id_missing": 1, "name_blank": 1},
        "warnings": {"name_padded": 1},
    }


def test_html_is_escaped_and_self_contained() -> None:
    """A hostile id shows as text, and the page fetches nothing."""
    line = ("<b>", "<script>x</script>", "source_id", "id_duplicate", "critical")
    shown = _report(line)._repr_html_()  # what a notebook calls

    assert "&lt;script&gt;" in shown
    assert "<script" not in shown
    assert "http" not in shown


def test_html_shows_row_labels_where_no_id_is(report: ValidationReport) -> None:
    """A row without a source id is shown by its label, and each reason is explained."""
    shown = report._repr_html_()  # what a notebook calls

    cells = [cell.rsplit(">", 1)[-1] for cell in shown.split("</td>")[:-1]]
    row = ["id_missing", "source_id", "critical", "1", "2", "The row has an id."]
    assert row == cells[cells.index("id_missing") :][:6]
    assert "<table" not in _report()._repr_html_()


def test_raising_is_asked_for(report: ValidationReport) -> None:
    """The error has the counts as attributes and in its message, and no value."""
    with pytest.raises(ValidationFailed, match="name_blank 1") as failed:
        report.raise_for_failures()

    error = failed.value
    assert (error.suite, error.rows, error.failed_rows, error.by_reason) == (
        "source_enterprises",
        10,
        2,
        report.by_reason,
    )
    assert "70" not in str(error)


def test_merged_reports_keep_their_rows_apart() -> None:
    """Rows of two partitions that bear the same label are two rows, not one."""
    blank = (0, "1", "enterprise_name", "name_blank", "critical")
    missing = (0, "9", "source_id", "id_missing", "critical")
    merged = ValidationReport.merged([_report(blank), _report(), _report(missing)])

    assert merged.asdict() == {
        "rows": 30,
        "failed_rows": 2,
        "by_reason": {"id_missing": 1, "name_blank": 1},
        "warnings": {},
    }
    assert merged.reasons.to_dict() == {(0, 0): "name_blank", (2, 0): "id_missing"}
    assert merged.suite == "source_enterprises"


def test_results_of_partitions_merge_into_one() -> None:
    """Counts add up, and the first rows of the first partitions are the examples."""
    column, padded = "enterprise_name", "name_padded"
    lines = [(n, f"{n}", column, padded, "warning") for n in range(5)]
    lines.append((9, "9", column, "name_blank", "critical"))
    results = [_report(*lines[:2]).result(), _report(*lines[2:]).result()]

    merged = merge_results(json.loads(json.dumps(results)))

    assert merged == {
        "rows": 20,
        "failed_rows": 1,
        "by_reason": {"name_blank": 1},
        "warnings": {"name_padded": 5},
        "examples": {"name_padded": ["0", "1", "2"], "name_blank": ["9"]},
    }


def test_a_result_is_told_reason_by_reason() -> None:
    """Each rule of the suite has its line, with the rows that broke it, or none."""
    blank = (0, "17", "enterprise_name", "name_blank", "critical")
    lines = describe_result(contract.SOURCE_SUITE, _report(blank).result())

    assert [each["reason"] for each in lines] == [
        *contract.SUITE_REASONS[contract.SOURCE_SUITE]
    ]
    assert {each["reason"]: each["rows"] for each in lines if each["rows"]} == {
        "name_blank": 1
    }
    (broken,) = (each for each in lines if each["rows"])
    assert broken["first_source_ids"] == ["17"]
    assert broken["must_hold"] == Reason.NAME_BLANK.description


def test_merged_reports_of_clean_frames_are_clean() -> None:
    """A merged report has no failure if no frame has one."""
    merged = ValidationReport.merged([_report(), _report()])

    assert (merged.success, merged.rows) == (True, 20)


@pytest.mark.parametrize(
    "error",
    [
        InputError("the frame has no column enterprise_name"),
        ExpectationError("suite", "ExpectItemToFitDynamoDB", "no column"),
        ValidationFailed("suite", 10, 2, {"name_blank": 2}),
    ],
)
def test_errors_pickle(error: ValidationError) -> None:
    """An error that crosses a process keeps its type, message and facts."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_report_pickles_and_is_frozen(report: ValidationReport) -> None:
    """A report crosses a process whole, and cannot be altered."""
    copy = pickle.loads(pickle.dumps(report))  # noqa: S301  # our own bytes

    pd.testing.assert_frame_equal(copy.failures, report.failures)
    assert copy.summary() == report.summary()
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.rows = 0  # type: ignore[misc]
