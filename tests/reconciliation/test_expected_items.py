"""Rows derived in columns: the same items as derived one by one."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.models import IdKind, SourceTable, digest
from flows.reconciliation.expected_items import COLUMNS, TEXT, ExpectedItems
from flows.settings import ID_NAMESPACE

names = st.none() | st.text(st.characters(codec="utf-8"), max_size=5)
stamps = st.none() | st.just("2024-02-29T00:00:00.000Z")
rows = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), names, stamps, stamps))


def expected_items(kind: IdKind, *, provenance: bool) -> ExpectedItems:
    """Create the expected_items of a source with ids of a kind."""
    columns = ("id", "name", "created", "updated")
    source = SourceTable("s", "t", *columns, kind, False, False, None)
    return ExpectedItems(source, ID_NAMESPACE, provenance)


@pytest.mark.parametrize("provenance", [False, True])
@given(found=rows)
def test_columns_are_derived_as_rows_are(
    found: list[tuple[int, str | None, str | None, str | None]],
    provenance: bool,  # noqa: FBT001 - a test's argument
) -> None:
    """Key and digest must be those of the row's item; none if it cannot be an item."""
    texts = [(str(number), *others) for number, *others in found]
    columns = list(zip(*texts, strict=True)) or [()] * 4
    table = pa.table([pa.array(c, TEXT) for c in columns], names=list(COLUMNS))
    one = expected_items("integer", provenance=provenance)
    derived = one.derive(table)
    items = [one.item(row) for row in texts]

    assert derived["key"].to_pylist() == [str(i["PK"]).encode() for i in items]
    assert derived["digest"].to_pylist() == [
        None if None in item.values() else digest(item.values()) for item in items
    ]
    assert derived["source_id"].to_pylist() == [row[0] for row in texts]
