"""The facts: any value is read without a crash, and measured as in the stores."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import pytest

from validation import contract, facts
from validation.arrow_text import read_text
from validation.report import InputError

Frames = Callable[..., pd.DataFrame]


def _by_hand(item: Mapping[Any, str]) -> int:
    return sum(
        len(name.encode()) + len(value.encode("utf-8", "surrogatepass"))
        for name, value in item.items()
    )


def test_text_is_null_where_no_string_is() -> None:
    """Bytes, numbers, containers and all kinds of missing values are not text."""
    values = [None, float("nan"), pd.NA, pd.NaT, b"x", 1, True, ["x"], {"S": "x"}, "x"]
    text = read_text(pd.Series(values, dtype=object))

    assert text.array.to_pylist() == [None] * 9 + ["x"]
    assert text.unicode.all()


def test_words_for_nothing_are_text() -> None:
    """The texts nan, None, NULL and NA, and the empty one, are values like others."""
    words = ["nan", "None", "NULL", "NA", "null", "NaT", "<NA>", ""]

    assert read_text(pd.Series(words, dtype=object)).array.to_pylist() == words


def test_text_keeps_other_dtypes() -> None:
    """A column of pandas' own text, of categories or of floats reads as its values."""
    words = pd.Series(["a", None], dtype="str")

    assert read_text(words).array.to_pylist() == ["a", None]
    assert read_text(words.astype("category")).array.to_pylist() == ["a", None]
    assert read_text(pd.Series([1.5, None])).array.to_pylist() == [None, None]


def test_lone_surrogates_are_found_and_stay_different() -> None:
    """A lone surrogate is reported, and two of them do not become the same text."""
    text = read_text(pd.Series(["\ud800", "\udfff", "😀"], dtype=object))

    assert text.unicode.tolist() == [False, False, True]
    assert len(set(text.array.to_pylist())) == 3


@pytest.mark.parametrize("name", ["A", "Ångström", "😀" * 9, "a\x00b", "\ud800x"])
def test_item_bytes_are_those_of_utf8(make_items: Frames, name: str) -> None:
    """The size of an item is that of its names and values in UTF-8."""
    items = make_items(enterprise_name=[name, "B"])
    expected = [_by_hand(item) for item in items.to_dict("records")]

    assert facts.item_bytes(items).tolist() == expected


@pytest.mark.parametrize("column", contract.SOURCE_COLUMNS)
def test_source_needs_its_columns(make_rows: Frames, column: str) -> None:
    """A frame without a column of the contract is refused by the column's name."""
    with pytest.raises(InputError, match=column):
        facts.source_facts(make_rows().drop(columns=column))


@pytest.mark.parametrize("column", contract.SOURCE_COLUMNS)
@pytest.mark.parametrize("value", [1, pd.Timestamp("2024-01-05"), b"secret"])
def test_source_needs_text(make_rows: Frames, column: str, value: object) -> None:
    """A value that is no text is refused with a remedy, and is not in the message."""
    with pytest.raises(InputError, match=f"{column}::text") as refusal:
        facts.source_facts(make_rows(**{column: [value]}))

    assert "secret" not in str(refusal.value)


def test_frame_is_not_changed(make_rows: Frames, make_items: Frames) -> None:
    """Finding the facts does not change the frame."""
    rows, items = make_rows(), make_items()
    facts.source_facts(rows)
    facts.item_facts(items)

    pd.testing.assert_frame_equal(rows, make_rows())
    pd.testing.assert_frame_equal(items, make_items())
