"""Digests of columns: byte for byte equal to the digests of the single items."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from flows.models import Attribute, digest
from flows.models.digests import digest_columns, digest_texts

TYPES: list[st.SearchStrategy[Any]] = [
    st.text("a1:sN é\ud800🚀\x00", max_size=5),
    st.integers(),
    st.booleans(),
]
any_type = st.one_of(*TYPES)


def one_by_one(columns: list[list[Attribute | None]]) -> list[bytes]:
    """Digest each item separately."""
    return [digest(values) for values in zip(*columns, strict=True)]


@given(st.data(), st.integers(0, 5), st.integers(1, 4))
@hypothesis(deadline=None)
def test_columns_have_the_digests_of_their_items(
    data: st.DataObject, rows: int, width: int
) -> None:
    """Digests must be equal for all types, nulls, surrogates and mixed columns."""
    columns = [
        data.draw(
            st.lists(
                data.draw(st.sampled_from([*TYPES, any_type])) | st.none(),
                min_size=rows,
                max_size=rows,
            )
        )
        for _ in range(width)
    ]

    assert digest_columns(columns).to_pylist() == one_by_one(columns)


@pytest.mark.parametrize("rows", [0, 1, 9_999, 10_000, 10_001, 25_000])
def test_slices_leave_no_seam(rows: int) -> None:
    """Digests must be equal for columns longer than a slice and for a constant text."""
    names = [f"Enterprise {number}" for number in range(rows)]
    digests = digest_texts([("s", pa.array(names, pa.string())), ("s", "x")], rows)

    assert digests.to_pylist() == one_by_one([list(names), ["x"] * rows])
