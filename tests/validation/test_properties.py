"""For any row, the suite and the vectorised verdict agree.

Great Expectations runs the suite over the facts of every row, without the shortcut for
whole partitions.
"""

import uuid
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from validation import contract, facts
from validation.report import ValidationReport
from validation.suite_runner import ask_suite
from validation.validate import validate_enterprises, validate_items

NAMESPACE = uuid.UUID("f1bf414b-7026-5797-bdf7-4a76844e36fc")
# Great Expectations takes a fifth of a second per example.
PROFILE = settings(
    max_examples=20,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)

ODD_TEXTS = st.sampled_from(
    ["", " ", "\u3164", "nan", "NULL", "a\n", " a", "a\x00b", "x" * 256, "\ud800"]
)
TEXTS = st.none() | ODD_TEXTS | st.text(st.characters(), max_size=20)
IDS = st.none() | st.integers(-3, 3).map(str) | st.sampled_from(["", "07", "\u0661"])
MOMENTS = (
    st.none()
    | st.sampled_from(["infinity", "-infinity", "now", "", "0044-03-15 00:00:00+00 BC"])
    | st.sampled_from(["12000-01-01 00:00:00+00", "5874897-12-31"])
    | st.just("2999-01-01 00:00:00+00")
    | st.datetimes().map(lambda moment: f"{moment:%Y-%m-%d %H:%M:%S.%f}+00")
    | st.datetimes().map(lambda moment: f"{moment.isoformat(' ', 'seconds')}+00")
)
ROWS = st.lists(st.tuples(IDS, TEXTS, MOMENTS, MOMENTS), min_size=1, max_size=12)

STAMPS = st.sampled_from(["2024-02-29T00:00:00.000Z", "2023-02-29T00:00:00.000Z", ""])
GOOD = str(uuid.uuid5(NAMESPACE, "1"))
UUIDS = st.sampled_from([GOOD, GOOD.upper(), str(uuid.uuid5(NAMESPACE, "2")), "x"])
ANYTHING = st.none() | st.integers() | st.binary(max_size=3) | st.text(max_size=3)
VALUES = {
    "PK": UUIDS.map(lambda each: f"ENT#{each}") | ANYTHING,
    "SK": st.just("METADATA") | ANYTHING,
    "id": UUIDS | ANYTHING,
    "enterprise_name": TEXTS | ANYTHING,
    "name": TEXTS | ANYTHING,
    "created_date": STAMPS | ANYTHING,
    "createdAt": STAMPS | ANYTHING,
    "updated_date": STAMPS | ANYTHING,
    "updatedAt": STAMPS | ANYTHING,
    "entity_type": st.just("enterprise") | ANYTHING,
    "source_id": st.sampled_from(["1", "2", None]),
}
ITEMS = st.lists(st.tuples(*VALUES.values()), min_size=1, max_size=12)


def vectorised(report: ValidationReport) -> list[set[str]]:
    """Return the reasons of each row, as the report names them."""
    found: list[set[str]] = [set() for _ in range(report.rows)]
    lines = zip(report.failures["row"], report.failures["reason"], strict=True)
    for row, reason in lines:
        found[row].add(reason)
    return found


def by_suite(suite: str, known: pd.DataFrame) -> list[set[str]]:
    """Return the reasons of each row, as the suite finds them over all rows."""
    return [{rule.reason.value for rule in rules} for rules in ask_suite(suite, known)]


@PROFILE
@given(ROWS)
def test_rows_get_the_suites_verdict(rows: list[tuple[Any, ...]]) -> None:
    """For any row, both find the same reasons, and no others."""
    frame = pd.DataFrame(rows, columns=list(contract.SOURCE_COLUMNS), dtype=object)

    suite = by_suite(contract.SOURCE_SUITE, facts.source_facts(frame))

    assert vectorised(validate_enterprises(frame)) == suite


@PROFILE
@given(ITEMS)
def test_items_get_the_suites_verdict(items: list[tuple[Any, ...]]) -> None:
    """For any item, both find the same reasons, and no others."""
    frame = pd.DataFrame(items, columns=list(VALUES), dtype=object)

    suite = by_suite(contract.ITEM_SUITE, facts.item_facts(frame, namespace=NAMESPACE))

    assert vectorised(validate_items(frame, namespace=NAMESPACE)) == suite


@settings(PROFILE, max_examples=200)
@given(st.lists(TEXTS, min_size=1), st.lists(MOMENTS, min_size=1))
def test_facts_are_the_same_in_arrows_form(
    names: list[str | None], moments: list[str | None]
) -> None:
    """A column in Arrow's own form has the same facts as one of objects."""
    size = min(len(names), len(moments))
    rows = {
        "source_id": [str(number) for number in range(size)],
        "enterprise_name": [n if n != "\ud800" else "" for n in names[:size]],
        "created_date": moments[:size],
        "updated_date": moments[:size][::-1],
    }
    objects = pd.DataFrame(rows, dtype=object)
    arrow = objects.astype(pd.ArrowDtype(pa.string()))

    pd.testing.assert_frame_equal(
        facts.source_facts(arrow), facts.source_facts(objects)
    )
