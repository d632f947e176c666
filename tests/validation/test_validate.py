"""The runs: the report names each broken row with its reasons, and no other row."""

import pickle
import random
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import great_expectations as gx
import pandas as pd
import pyarrow as pa
import pytest
from great_expectations.data_context.data_context import context_factory

from validation import contract, facts, suite_runner, suites
from validation.report import ExpectationError, InputError, ValidationReport
from validation.validate import validate_enterprises, validate_items

Frames = Callable[..., pd.DataFrame]

VALID_NAMES = [
    *("nan", "NaN", "None", "NULL", "NA", "null", "<NA>", "NaT", "0", "False"),
    *("=1+1", "a\n", "\na", "  padded  ", "\u200bx\u200b", "x" * 100_000),
    *("😀", "👩\u200d👩\u200d👧", "שלום", "\u202eمرحبا", "株式会社", "é", "e\u0301"),
    *("\u0301", "\u06dd", "\ufffd", "\ue000", "\u2801", "𝒳", "a\x00b", "'; --", "."),
]
BLANK_NAMES = [
    *("", " ", "\t", "\n", "\r\n", "\x00", "\x1f\x7f", "\x85", "\u00a0 \t\n"),
    *("\u3000", "\u200b", "\u200b\u200c\u200d\u2060", "\ufeff", "\u2028\u2029"),
    *("\u00ad", "\u034f", "\u180e", "\u2800", "\u3164", "\u115f\u1160", "\uffa0"),
    *("\u202e\u202c", "\u2066\u2069", "\ufe0f", "\U000e0020\U000e007f", "\u1680"),
    *(
        "\u2000\u200a\u202f\u205f",
        "\u061c",
        "\U0001d173",
        "\ufff9\ufffb",
        " " * 100_000,
    ),
]
MOMENTS = {
    "2024-01-05 12:34:56.789+00": None,
    "2024-01-05 12:34:56+00": None,
    "2024-01-05 12:34:56.123456+00": None,
    "0001-01-01 00:00:00+00": None,
    "9999-12-31 23:59:59.999999+00": None,
    None: None,
    "infinity": "not_finite",
    "-infinity": "not_finite",
    "0044-03-15 00:00:00+00 BC": "out_of_range",
    "0001-12-31 23:59:59.999999+00 BC": "out_of_range",
    "4713-01-01 00:00:00+00 BC": "out_of_range",
    "10000-01-01 00:00:00+00": "out_of_range",
    "12000-01-01 00:00:00+00": "out_of_range",
    "294276-12-31 23:59:59.999999+00": "out_of_range",
    "0000-01-01 00:00:00+00": "out_of_range",
    "2024-01-05 12:34:56+02": "malformed",
    "2024-01-05T12:34:56Z": "malformed",
    "2024-01-05 12:34:56": "malformed",
    "2024-01-05 12:34:56+00\n": "malformed",
    "2024-13-05 12:34:56+00": "malformed",
    "Infinity": "malformed",
    "now": "malformed",
    "": "malformed",
    "\ud800": "malformed",
}
SURROGATES = ["\ud800", "a\udfffb", "\udc80", "\ude00\ud83d", " \ud83d"]


# Letters that resemble others are intended here.
# ruff: noqa: RUF001


def _reasons(report: ValidationReport) -> list[tuple[Any, str]]:
    failures = report.failures[report.failures["severity"] == "critical"]
    return list(zip(failures["row"], failures["reason"], strict=True))


def _warnings(report: ValidationReport) -> list[tuple[Any, str]]:
    failures = report.failures[report.failures["severity"] == "warning"]
    return list(zip(failures["row"], failures["reason"], strict=True))


def _only(report: ValidationReport) -> set[str]:
    """Return the reasons of a frame whose rows are all broken in the same way."""
    assert report.failed_rows == report.rows
    return set(report.failures["reason"])


def test_ordinary_and_odd_names_pass(make_rows: Frames, make_items: Frames) -> None:
    """A name with any visible character is valid, on both sides."""
    rows = validate_enterprises(make_rows(enterprise_name=VALID_NAMES))
    items = validate_items(make_items(enterprise_name=VALID_NAMES))

    assert (_reasons(rows), _reasons(items)) == ([], [])


def test_twin_names_pass(make_rows: Frames) -> None:
    """Names need not be unique: NFC and NFD twins, and equal ones, all pass."""
    names = ["é", "e\u0301", "é", "É"]

    assert validate_enterprises(make_rows(enterprise_name=names)).success


def test_blank_names_fail(make_rows: Frames, make_items: Frames) -> None:
    """A name without visible characters is blank, and only blank."""
    rows = validate_enterprises(make_rows(enterprise_name=BLANK_NAMES))
    items = validate_items(make_items(enterprise_name=BLANK_NAMES))

    assert (_only(rows), _only(items)) == ({"name_blank"}, {"name_blank"})


def test_lone_surrogates_fail(make_rows: Frames, make_items: Frames) -> None:
    """A name that is not Unicode fails for that reason only, without a crash."""
    rows = validate_enterprises(make_rows(enterprise_name=SURROGATES))
    items = validate_items(make_items(enterprise_name=SURROGATES))

    assert (_only(rows), _only(items)) == ({"name_not_unicode"}, {"name_not_unicode"})


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT])
def test_null_name_is_only_missing(make_rows: Frames, nothing: object) -> None:
    """A NULL name is missing, and not blank as well."""
    report = validate_enterprises(make_rows(enterprise_name=["A", nothing, "None"]))

    assert _reasons(report) == [(1, "name_missing")]


def test_ids_must_be_there_and_unique(make_rows: Frames) -> None:
    """A NULL id is missing, and each copy of an id is a duplicate."""
    ids = ["7", None, "8", "7", None, "-7", "07"]
    report = validate_enterprises(make_rows(source_id=ids))

    assert _reasons(report) == [
        (0, "id_duplicate"),
        (1, "id_missing"),
        (3, "id_duplicate"),
        (4, "id_missing"),
    ]


@pytest.mark.parametrize(
    "flags", [[True, False, True], [True, None, True], pd.array([True, None, True])]
)
def test_ids_claimed_elsewhere_are_duplicates(
    make_rows: Frames, flags: Sequence[Any]
) -> None:
    """A row with the id of another row of the table is a duplicate, counted once."""
    rows = make_rows(source_id=["1", "2", "1"]).assign(id_duplicate=flags)

    assert _reasons(validate_enterprises(rows)) == [
        (0, "id_duplicate"),
        (2, "id_duplicate"),
    ]


@pytest.mark.parametrize("column", ["created_date", "updated_date"])
def test_source_moments(make_rows: Frames, column: str) -> None:
    """A timestamp of the source breaks exactly the expected rule, or none."""
    report = validate_enterprises(make_rows(**{column: list(MOMENTS)}))
    found = dict(_reasons(report))

    assert len(found) == len(_reasons(report))
    assert {text: found.get(row) for row, text in enumerate(MOMENTS)} == {
        text: reason and f"{column}_{reason}" for text, reason in MOMENTS.items()
    }


def test_one_missing_moment_is_fine_and_two_are_not(make_rows: Frames) -> None:
    """Either date may replace the other, but nothing can replace both."""
    moment = "2024-01-05 12:34:56+00"
    report = validate_enterprises(
        make_rows(
            created_date=[None, moment, None, "infinity"],
            updated_date=[moment, None, None, None],
        )
    )

    assert _reasons(report) == [
        (2, "timestamps_missing"),
        (3, "created_date_not_finite"),
    ]


def test_valid_items_pass(make_items: Frames) -> None:
    """Items of the contract pass, with any other columns in the frame."""
    items = make_items().assign(source_id=["1", "2", "3"], original_pg_id=[1, 2, 3])

    assert validate_items(items).asdict() == {
        "rows": 3,
        "failed_rows": 0,
        "by_reason": {},
        "warnings": {},
    }


@pytest.mark.parametrize("value", [None, float("nan"), 1, b"x", {"S": "x"}, ["x"]])
def test_items_need_each_attribute_as_text(make_items: Frames, value: Any) -> None:
    """An attribute that is absent or no string is missing, and only missing."""
    names = contract.ITEM_ATTRIBUTES
    items = make_items(SK=["METADATA"] * len(names))
    for row, name in enumerate(names):
        items.at[row, name] = value  # noqa: PD008  # loc would unpack the list
    report = validate_items(items)

    assert _reasons(report) == [(row, "attribute_missing") for row in range(10)]
    assert report.failures["column"].tolist() == list(names)


def test_items_need_each_column(make_items: Frames) -> None:
    """A column that is absent altogether is missing in every item."""
    report = validate_items(make_items()[["PK", "id"]])

    assert _reasons(report) == [(row, "attribute_missing") for row in range(3)]


UUID = "3500a20a-fa32-5543-842f-da54bef06c63"


@pytest.mark.parametrize(
    ("attribute", "value", "reasons"),
    [
        ("PK", UUID, ["key_mismatch"]),
        ("PK", f"ENT#{UUID}", ["key_mismatch"]),
        ("PK", "", ["key_mismatch"]),
        ("SK", "metadata", ["sort_key_wrong"]),
        ("SK", "METADATA ", ["sort_key_wrong"]),
        ("SK", "METADATA\n", ["sort_key_wrong"]),
        ("SK", "PROD#1", ["sort_key_wrong"]),
        ("entity_type", "Enterprise", ["entity_type_wrong"]),
        ("entity_type", "product", ["entity_type_wrong"]),
        ("id", UUID.upper(), ["key_mismatch", "id_malformed"]),
        ("id", f"{UUID}\n", ["key_mismatch", "id_malformed"]),
        ("id", "\ud800", ["key_mismatch", "id_malformed"]),
        ("name", "Ångström & Co ", ["name_twins_differ"]),
        ("name", "A\u030angstro\u0308m & Co", ["name_twins_differ"]),
        ("name", "\ud800", ["name_not_unicode", "name_twins_differ"]),
        ("createdAt", "2024-01-05T12:34:56.788Z", ["created_twins_differ"]),
        ("updatedAt", "2024-02-29T00:00:00.0Z", ["updated_twins_differ"]),
        (
            "created_date",
            "2023-02-29T00:00:00.000Z",
            ["created_date_malformed", "created_twins_differ"],
        ),
        (
            "updated_date",
            "2024-01-05T12:34:56.789+00:00",
            ["updated_date_malformed", "updated_twins_differ"],
        ),
    ],
)
def test_items_break_the_rule_they_should(
    make_items: Frames, attribute: str, value: str, reasons: list[str]
) -> None:
    """A wrong attribute breaks only its own rules, in contract order."""
    items = make_items()
    items.loc[1, attribute] = value

    assert _reasons(validate_items(items)) == [(1, reason) for reason in reasons]


def test_items_must_not_share_an_id(make_items: Frames) -> None:
    """Each item of a shared id is a duplicate."""
    report = validate_items(make_items(id=[UUID, "00" + UUID[2:], UUID]))

    assert _reasons(report) == [(0, "item_duplicate"), (2, "item_duplicate")]


def test_item_size_limit_is_inclusive(make_items: Frames) -> None:
    """An item of 409,600 bytes passes, and one byte more does not."""
    room = (
        contract.MAX_ITEM_BYTES
        - facts.item_bytes(make_items(name=[""]))[0]
        + len("Ångström & Co".encode())
    )
    # The name counts twice: an odd byte goes to another attribute.
    fits = make_items(enterprise_name=["é" * (room // 4) + "x" * (room % 4 // 2)])
    fits["entity_type"] += "x" * (room % 2)
    too_large = fits.assign(entity_type=fits["entity_type"] + "x")
    sizes = [facts.item_bytes(each)[0] for each in (fits, too_large)]

    assert sizes == [409_600, 409_601]
    assert "item_too_large" not in validate_items(fits).by_reason
    assert "item_too_large" in validate_items(too_large).by_reason


def test_a_key_of_an_index_is_measured_in_bytes(make_items: Frames) -> None:
    """The limit of each index counts, and a missing attribute is no key."""
    items = make_items(enterprise_name=["ééé", "éééé", None])
    limits = [("enterprise_name", 6), ("name", 7), ("updatedAt", 1_024)]

    judged = _reasons(validate_items(items, key_limits=limits))
    assert judged == [
        (1, "index_key_too_long"),
        *[(2, reason) for _, reason in _reasons(validate_items(items))],
    ]


@pytest.mark.parametrize("validate", [validate_enterprises, validate_items])
@pytest.mark.parametrize(
    "empty", [pd.DataFrame(), pd.DataFrame(columns=["source_id", "enterprise_name"])]
)
def test_empty_frames_pass(
    validate: Callable[[pd.DataFrame], ValidationReport], empty: pd.DataFrame
) -> None:
    """A frame without rows has no failures, with any columns."""
    report = validate(empty)

    assert (report.success, report.rows, len(report.failures)) == (True, 0, 0)


def test_failures_name_rows_by_label(make_rows: Frames, make_items: Frames) -> None:
    """In a shuffled and cut frame, failures have its labels, not positions."""
    rows = make_rows(enterprise_name=["A", "B", None, "D", " "]).loc[[4, 1, 2, 0]]
    items = make_items(SK=["METADATA", "x", "y"]).set_axis([30, 10, 20])

    assert _reasons(validate_enterprises(rows)) == [
        (4, "name_blank"),
        (2, "name_missing"),
    ]
    assert validate_items(items).critical.tolist() == [10, 20]


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["x", "y", "z"]),
        pd.Index([2.5, -1.0, 0.0]),
        pd.to_datetime(["2024-01-03", "2024-01-01", "2024-01-02"]),
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]),
    ],
)
def test_any_unique_index_will_do(make_rows: Frames, index: "pd.Index[Any]") -> None:
    """Labels of any kind identify the rows, and can drop them."""
    rows = make_rows(enterprise_name=["A", None, "C"]).set_axis(index)
    report = validate_enterprises(rows)

    assert report.critical.tolist() == [index[1]]
    assert rows.drop(report.critical)["enterprise_name"].tolist() == ["A", "C"]


def test_repeated_labels_are_refused(make_rows: Frames, make_items: Frames) -> None:
    """A label of two rows would quarantine a good one: it is refused."""
    with pytest.raises(InputError, match="reset_index"):
        validate_enterprises(make_rows().set_axis([0, 1, 1]))
    with pytest.raises(InputError, match="rename"):
        validate_items(make_items().rename(columns={"name": "id"}))


def test_failures_carry_the_source_id(make_rows: Frames, make_items: Frames) -> None:
    """A failure has the exact source id, or None without one."""
    rows = make_rows(source_id=["9007199254740993", None], enterprise_name=[None, "B"])
    items = make_items(SK=["x", "y"])
    known = make_items(SK=["x", "y"], source_id=["5", None])

    ids = [
        validate(frame).failures["source_id"].tolist()
        for validate, frame in (
            (validate_enterprises, rows),
            (validate_items, items),
            (validate_items, known),
        )
    ]
    assert ids == [["9007199254740993", None], [None, None], ["5", None]]


def test_reports_pickle_whole(make_rows: Frames) -> None:
    """A report crosses a process with its failures, and a NULL id stays None."""
    report = validate_enterprises(
        make_rows(source_id=["1", None], enterprise_name=["\ud800", " "])
    )
    copy = pickle.loads(pickle.dumps(report))  # noqa: S301  # our own bytes

    pd.testing.assert_frame_equal(copy.failures, report.failures)
    assert copy.failures["source_id"].tolist() == ["1", None, None]


def test_input_is_not_changed(make_rows: Frames, make_items: Frames) -> None:
    """Validation must change neither values nor columns nor index."""
    rows = make_rows(enterprise_name=["A", None, "\ud800"]).set_axis([5, 3, 4])
    items = make_items(enterprise_name=[" ", "B", "\udfff"]).set_axis([5, 3, 4])
    before = pickle.dumps((rows.to_dict("index"), items.to_dict("index")))
    validate_enterprises(rows)
    validate_items(items)

    after = pickle.dumps((rows.to_dict("index"), items.to_dict("index")))
    assert after == before


def _expected(row: Mapping[Any, Any], ids: Sequence[str | None]) -> set[str]:
    """Judge a row by the documented rules, one value at a time."""
    name, moments = row["enterprise_name"], ("created_date", "updated_date")
    found = {
        "id_missing": row["source_id"] is None,
        "id_duplicate": row["source_id"] is not None
        and ids.count(row["source_id"]) > 1,
        "name_missing": name is None,
        "name_blank": name in BLANK_NAMES,
        "name_not_unicode": name in SURROGATES,
        "timestamps_missing": all(row[column] is None for column in moments),
    }
    for column in moments:
        text = row[column] or ""
        far = text.endswith("BC") or re.match("[0-9]{5}", text) is not None
        found[f"{column}_not_finite"] = text.endswith("infinity")
        found[f"{column}_out_of_range"] = far
        found[f"{column}_malformed"] = text == "soon"
    return {reason for reason, broken in found.items() if broken}


def test_suite_agrees_with_the_rules_row_by_row(make_rows: Frames) -> None:
    """For thousands of mixed rows the suite agrees with a plain implementation."""
    chance = random.Random(20240105)  # noqa: S311  # no secret
    moments = ["2024-01-05 12:34:56.789+00"] * 6
    moments += ["infinity", "0044-03-15 00:00:00+00 BC", "12000-01-01 00:00:00+00"]
    pool = [*moments, "-infinity", None, "soon"]
    names = [*VALID_NAMES[:20], *BLANK_NAMES[:20], *SURROGATES, None]
    ids = [chance.choice([str(n), str(n // 2), None]) for n in range(3_000)]
    rows = make_rows(
        source_id=ids,
        enterprise_name=[chance.choice(names) for _ in ids],
        created_date=[chance.choice(pool) for _ in ids],
        updated_date=[chance.choice(pool) for _ in ids],
    )
    expected = {
        label: reasons
        for label, row in rows.to_dict("index").items()
        if (reasons := _expected(row, ids))
    }

    report = validate_enterprises(rows)
    found = {row: set(codes.split(";")) for row, codes in report.reasons.items()}
    assert found == expected


PADDED = ["a ", " a", "a\n", "\u3000a", "\u00a0a", "a\u2028", "\x85a"]
UNPRINTABLE = ["a\nb", "a\x00b", "a\x1bb", "a\x7fb", "a\x80b", "a\x9fb"]


def test_unusual_names_draw_warnings_and_pass(make_rows: Frames) -> None:
    """Blanks at the ends, controls, length and twins give warnings, not failures."""
    long, short = "x" * 256, "y" * 255
    twins = ["Twin", "Twin", "twin", "T\u200bwin"]
    report = validate_enterprises(
        make_rows(enterprise_name=[*PADDED, *UNPRINTABLE, long, short, *twins])
    )
    found: dict[str, list[int]] = {}
    for row, reason in _warnings(report):
        found.setdefault(reason, []).append(row)

    assert report.success
    assert found == {
        "name_padded": [0, 1, 2, 3, 4, 5, 6],
        # A line end and a next-line character at an end have both reasons.
        "name_control_characters": [2, 6, 7, 8, 9, 10, 11, 12],
        "name_long": [13],
        "name_duplicate": [15, 16],
    }


def test_a_blank_name_draws_no_warning(make_rows: Frames) -> None:
    """A name without visible characters has no other reason."""
    assert _warnings(validate_enterprises(make_rows(enterprise_name=[" "] * 2))) == []


def test_moments_of_the_future_and_in_disorder_draw_warnings(
    make_rows: Frames,
) -> None:
    """Times after the call are in the future; equal times are in order."""
    now = datetime(2024, 1, 5, 12, 34, 56, 789_000, tzinfo=UTC)
    at, after = "2024-01-05 12:34:56.789+00", "2024-01-05 12:34:56.789001+00"
    whole, before = "2024-01-05 12:34:56+00", "2024-01-05 12:34:55.999999+00"
    created = [
        at,
        after,
        whole,
        whole,
        at,
        "infinity",
        None,
        "0044-03-15 00:00:00+00 BC",
    ]
    updated = [at, after, before, at, whole, before, before, before]
    report = validate_enterprises(
        make_rows(created_date=created, updated_date=updated), now=now
    )

    assert _warnings(report) == [
        (1, "created_date_in_future"),
        (1, "updated_date_in_future"),
        (2, "updated_before_created"),
        (4, "updated_before_created"),
    ]


NAMESPACE = uuid.UUID("f1bf414b-7026-5797-bdf7-4a76844e36fc")


def test_ids_of_integers_are_derived(make_items: Frames) -> None:
    """An item with a source id must have the version 5 UUID of that id."""
    derived = [str(uuid.uuid5(NAMESPACE, text)) for text in ("42", "-7", "9" * 19)]
    other = str(uuid.uuid5(NAMESPACE, "43"))
    random_id = "3500a20a-fa32-4543-842f-da54bef06c63"
    ids = [*derived, other, random_id, random_id[:-1] + "4", "no-uuid"]
    sources = ["42", "-7", "9" * 19, "42", "44", None, "45"]
    items = make_items(id=ids, source_id=sources)

    assert _reasons(validate_items(items, namespace=NAMESPACE)) == [
        (3, "id_not_derived"),
        (4, "id_not_derived"),
        (5, "id_not_derived"),
        (6, "id_malformed"),
    ]
    assert _reasons(validate_items(items)) == [(6, "id_malformed")]


def test_provenance_counts_towards_the_size(make_items: Frames) -> None:
    """DynamoDB counts the two attributes that a setting adds."""
    numbers = [0, 7, -7, 42, 100, 123, 9007199254740993]
    items = make_items(SK=["METADATA"] * len(numbers))
    bare = facts.item_bytes(items)
    more = items.assign(migrated_from_pg=True, original_pg_id=numbers)

    added = len("migrated_from_pg") + 1 + len("original_pg_id")
    sizes = [1, 2, 3, 2, 2, 3, 9]
    assert (facts.item_bytes(more) - bare - added).tolist() == sizes


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_arrow_columns_are_judged_like_objects(
    make_rows: Frames, make_items: Frames, kind: pa.DataType
) -> None:
    """Columns in Arrow's own form get the same verdict, missing values included."""
    names = ["A", None, " ", "株式会社 ", "NULL", "A"]
    rows, items = make_rows(enterprise_name=names), make_items(enterprise_name=names)
    text = pd.ArrowDtype(kind)
    for judge, frame in ((validate_enterprises, rows), (validate_items, items)):
        expected, found = judge(frame), judge(frame.astype(text))

        pd.testing.assert_frame_equal(found.failures, expected.failures)
        assert not expected.success


def test_a_suite_that_disagrees_with_the_facts_is_an_error(
    make_rows: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts find the rows and the suite judges them: both must agree."""
    monkeypatch.setattr(suite_runner, "_judged", {})
    ask = suite_runner.ask_suite
    monkeypatch.setattr(
        suite_runner, "ask_suite", lambda *asked: [() for _ in ask(*asked)]
    )

    with pytest.raises(ExpectationError, match="name_present"):
        validate_enterprises(make_rows(enterprise_name=["A", None]))


def test_a_combination_is_judged_once(
    make_rows: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite must judge each new combination, and none twice."""
    monkeypatch.setattr(suite_runner, "_judged", {})
    asked: list[int] = []
    ask = suite_runner.ask_suite

    def count(suite: str, known: pd.DataFrame) -> list[tuple[suite_runner.Broken, ...]]:
        asked.append(len(known))
        return ask(suite, known)

    monkeypatch.setattr(suite_runner, "ask_suite", count)
    rows = make_rows(enterprise_name=["A", None, "B", " ", "C"])
    reports = [validate_enterprises(rows) for _ in range(3)]
    validate_enterprises(make_rows(enterprise_name=["A", "x" * 256]))

    assert asked == [3, 1]
    assert [report.critical.tolist() for report in reports] == [[1, 3]] * 3


def test_an_expectation_that_cannot_be_evaluated_is_an_error(
    make_rows: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule that raised must be neither ignored nor counted as failed rows."""
    find = facts.source_facts
    monkeypatch.setattr(
        facts, "source_facts", lambda rows, **_: find(rows).drop(columns="name_visible")
    )

    with pytest.raises(ExpectationError, match="ExpectEnterpriseNameToBeVisible"):
        validate_enterprises(make_rows())


def test_an_expectation_without_a_result_is_an_error(
    make_rows: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite with results for only some of its rules must be an error."""
    monkeypatch.setattr(suite_runner, "_judged", {})
    judged = suites.source_suite()
    judged.expectations = judged.expectations[1:]
    configurations = judged.expectation_configurations
    monkeypatch.setattr(
        gx.ExpectationSuite, "expectation_configurations", configurations
    )

    with pytest.raises(ExpectationError, match="no result"):
        validate_enterprises(make_rows())


@pytest.mark.parametrize(
    ("success", "counted", "unexpected", "named"),
    [(False, 3, 2, [0]), (True, 2, 0, []), (True, 3, 1, [0]), (False, 3, 0, [])],
)
def test_a_result_that_does_not_add_up_is_an_error(
    *, success: bool, counted: int, unexpected: int, named: list[int]
) -> None:
    """A verdict with missing rows, too few names or contradictory counts is invalid.

    Great Expectations gives no such result for this suite today; its SQL engine
    does truncate the list of rows.
    """
    result = gx.core.ExpectationValidationResult(
        success=success,
        expectation_config=suites.source_suite().expectations[0].configuration,
        result={
            "element_count": counted,
            "unexpected_count": unexpected,
            "unexpected_index_list": named,
        },
    )

    with pytest.raises(ExpectationError, match="do not add up"):
        suite_runner._read("suite", 3, result)


def test_threads_do_not_mix_their_rows(make_rows: Frames, make_items: Frames) -> None:
    """Partitions validated at once must each get their own failures."""

    def judge(number: int) -> tuple[list[Any], list[Any]]:
        names = ["A"] * 20
        names[number] = " "
        rows = validate_enterprises(make_rows(enterprise_name=names))
        items = validate_items(make_items(enterprise_name=names))
        return rows.critical.tolist(), items.critical.tolist()

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(judge, range(16)))

    assert found == [([number], [number]) for number in range(16)]


@pytest.fixture
def _former_context() -> Iterator[None]:
    yield
    context_factory.set_context(None)


@pytest.mark.usefixtures("_former_context")
def test_an_analyst_keeps_the_current_context(make_rows: Frames) -> None:
    """The current context must be the same after a validation as before."""
    mine = gx.get_context(mode="ephemeral")
    validate_enterprises(make_rows())

    assert context_factory.project_manager.get_current_project() is mine


def test_validation_is_silent(
    make_rows: Frames, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither a progress bar nor a message may appear on the terminal."""
    validate_enterprises(make_rows(enterprise_name=["A", None, " "]))

    assert capfd.readouterr() == ("", "")
