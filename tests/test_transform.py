"""The transformation: rows to items, one for one, with nothing invented."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from flows.models import ENTERPRISE_TABLE, ITEM_ATTRIBUTES, PROVENANCE_ATTRIBUTES
from flows.settings import ID_NAMESPACE
from flows.transform import transform_enterprises

ROW = ("42", "Acme GmbH", "2024-01-05 12:34:56.789999+00", "2024-02-01 00:00:00+00")
ITEM = {
    "PK": "ENT#3500a20a-fa32-5543-842f-da54bef06c63",
    "SK": "METADATA",
    "id": "3500a20a-fa32-5543-842f-da54bef06c63",
    "enterprise_name": "Acme GmbH",
    "name": "Acme GmbH",
    "created_date": "2024-01-05T12:34:56.789Z",
    "createdAt": "2024-01-05T12:34:56.789Z",
    "updated_date": "2024-02-01T00:00:00.000Z",
    "updatedAt": "2024-02-01T00:00:00.000Z",
    "entity_type": "enterprise",
}
NAMES = [
    *("nan", "NaN", "NaT", "None", "NULL", "null", "<NA>", "", "0", "007", "1.10"),
    *("=cmd()", "a\nb\r\n", "  padded  ", "\u00a0x\u3000", 'say "hi"', "O'Brien", "\\"),
    *(
        "é",
        "e\u0301",
        "株式会社",
        "שלום",
        "\u202eabc",
        "👩\u200d👩\u200d👧",
        "\U00020bb7",
    ),
    *("\u2028", "\x1b[31m", "a\x00b", "x" * 409_600),
]

instants = st.none() | st.datetimes(timezones=st.just(UTC))
rows_of_all_kinds = st.lists(
    st.tuples(st.integers(-(2**63), 2**63 - 1), st.text(), instants, instants).filter(
        lambda row: row[2] is not None or row[3] is not None
    ),
    unique_by=lambda row: row[0],
    max_size=8,
)


def make_rows(*rows: Sequence[str | None]) -> pd.DataFrame:
    """Create a frame as extraction returns it."""
    return pd.DataFrame(
        list(rows), columns=list(ENTERPRISE_TABLE.columns), dtype=object
    )


def text_of(instant: datetime | None) -> str | None:
    """Format an instant as PostgreSQL does."""
    if instant is None:
        return None
    return instant.replace(tzinfo=None).isoformat(sep=" ") + "+00"


def stamp_of(instant: datetime) -> str:
    """Format an instant as in the item, with the standard library."""
    return instant.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def test_a_row_becomes_exactly_the_item_of_the_contract() -> None:
    """The item must have the ten attributes with the documented values, and no more."""
    items = transform_enterprises(make_rows(ROW))

    assert items.to_dict("records") == [ITEM | {"source_id": "42"}]
    assert list(items.columns) == [*ITEM_ATTRIBUTES, "source_id"]


def test_provenance_adds_exactly_two_attributes() -> None:
    """With provenance an item records its origin: a bool and an exact number."""
    rows = make_rows(ROW, ("9007199254740993", *ROW[1:]))

    items = transform_enterprises(rows, provenance=True)

    assert items.iloc[0].to_dict() == ITEM | {
        "migrated_from_pg": True,
        "original_pg_id": 42,
        "source_id": "42",
    }
    assert items["original_pg_id"].tolist() == [42, 9007199254740993]
    assert {type(v) for v in items["original_pg_id"]} == {int}
    assert {type(v) for v in items["migrated_from_pg"]} == {bool}
    assert list(items.columns) == [
        *ITEM_ATTRIBUTES,
        *PROVENANCE_ATTRIBUTES,
        "source_id",
    ]


@given(rows_of_all_kinds, st.uuids(), st.booleans())
@example([(0, "nan", None, datetime(1, 1, 1, tzinfo=UTC))], ID_NAMESPACE, False)
@hypothesis(deadline=None)
def test_every_valid_row_becomes_its_item(
    rows: list[tuple[int, str, datetime | None, datetime | None]],
    namespace: UUID,
    provenance: bool,  # noqa: FBT001 - Hypothesis gives it by position
) -> None:
    """For rows of all kinds the item must equal the standard library's result."""
    frame = make_rows(*((str(i), n, text_of(c), text_of(u)) for i, n, c, u in rows))

    items = transform_enterprises(frame, namespace=namespace, provenance=provenance)

    expected = []
    for source_id, name, created, updated in rows:
        identity = str(uuid5(namespace, str(source_id)))
        first, last = created or updated, updated or created
        assert first is not None
        assert last is not None
        more = {"migrated_from_pg": True, "original_pg_id": source_id}
        expected.append(
            {
                "PK": f"ENT#{identity}",
                "SK": "METADATA",
                "id": identity,
                "enterprise_name": name,
                "name": name,
                "created_date": stamp_of(first),
                "createdAt": stamp_of(first),
                "updated_date": stamp_of(last),
                "updatedAt": stamp_of(last),
                "entity_type": "enterprise",
                "source_id": str(source_id),
            }
            | (more if provenance else {})
        )
    assert items.to_dict("records") == expected
    assert set(map(type, items[list(ITEM_ATTRIBUTES)].to_numpy().ravel())) <= {str}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_passed_on_untouched(name: str) -> None:
    """A name must be neither trimmed, normalised, shortened nor read as NULL."""
    items = transform_enterprises(make_rows(("1", name, *ROW[2:])))

    assert items["enterprise_name"].tolist() == [name]
    assert items["name"].tolist() == [name]


@pytest.mark.parametrize(
    ("created", "updated", "expected"),
    [
        (ROW[2], None, ("2024-01-05T12:34:56.789Z", "2024-01-05T12:34:56.789Z")),
        (None, ROW[3], ("2024-02-01T00:00:00.000Z", "2024-02-01T00:00:00.000Z")),
        (ROW[2], ROW[3], ("2024-01-05T12:34:56.789Z", "2024-02-01T00:00:00.000Z")),
        (ROW[3], ROW[2], ("2024-02-01T00:00:00.000Z", "2024-01-05T12:34:56.789Z")),
    ],
)
def test_a_missing_time_takes_the_other_one(
    created: str | None, updated: str | None, expected: tuple[str, str]
) -> None:
    """Each time replaces the other one, so that a re-run gives the same item."""
    items = transform_enterprises(make_rows(("1", "a", created, updated)))

    assert tuple(items.loc[0, ["createdAt", "updatedAt"]]) == expected
    assert tuple(items.loc[0, ["created_date", "updated_date"]]) == expected


def test_nothing_is_made_up_for_null() -> None:
    """Among rows with gaps no item may hold the text of a missing value."""
    rows = make_rows(
        ("1", "a", ROW[2], None), ("2", "b", None, ROW[3]), ("3", "c", *ROW[2:])
    )

    found = set(transform_enterprises(rows).to_numpy().ravel())

    assert found & {"nan", "NaN", "NaT", "None", "<NA>", "NULL", None} == set()


@pytest.mark.parametrize(
    "row",
    [
        ("1", "a", None, None),
        ("1", "a", "infinity", ROW[3]),
        ("1", "a", ROW[2], "-infinity"),
        ("1", "a", "0044-03-15 00:00:00+00 BC", None),
        ("1", "a", None, "10000-01-01 00:00:00+00"),
    ],
)
def test_a_row_for_the_quarantine_raises(row: tuple[str | None, ...]) -> None:
    """A quarantined row must never become an item, alone or among others."""
    for rows in ([row], [ROW, row, ROW]):
        with pytest.raises(ValueError, match=r"not a timestamp|cannot be an item"):
            transform_enterprises(make_rows(*rows))


@pytest.mark.parametrize(
    "index", [[7, 3, 5], ["x", "y", "z"], [(0, 1), (0, 2), (1, 1)]]
)
def test_index_and_order_are_kept(index: list[Any]) -> None:
    """Labels lead from an item back to its row, so none may move."""
    rows = make_rows(("3", "c", *ROW[2:]), ROW, ("-1", "a", *ROW[2:]))
    rows.index = pd.Index(index, tupleize_cols=False)

    items = transform_enterprises(rows)

    assert items.index.tolist() == index
    assert items["source_id"].tolist() == ["3", "42", "-1"]


def test_the_rows_are_not_changed() -> None:
    """The transformation is pure: the same rows give the same items, unchanged."""
    rows = make_rows(ROW, ("7", "b", None, ROW[3])).set_axis([9, 4])
    before = rows.copy(deep=True)

    first = transform_enterprises(rows)
    first.loc[:, "name"] = "changed"
    second = transform_enterprises(rows)

    assert_frame_equal(rows, before)
    assert second["name"].tolist() == ["Acme GmbH", "b"]


def test_a_part_of_the_rows_gives_a_part_of_the_items() -> None:
    """Rows left out by the quarantine must not shift the values of the others."""
    rows = make_rows(*(((str(i), f"name {i}", *ROW[2:])) for i in range(6)))

    whole = transform_enterprises(rows)

    assert_frame_equal(transform_enterprises(rows.drop([0, 3])), whole.drop([0, 3]))
    assert_frame_equal(transform_enterprises(rows.iloc[::-1]), whole.iloc[::-1])


@pytest.mark.parametrize("provenance", [False, True])
def test_no_rows_give_no_items(*, provenance: bool) -> None:
    """An empty partition must have the columns of a full one."""
    empty = transform_enterprises(make_rows(), provenance=provenance)
    full = transform_enterprises(make_rows(ROW), provenance=provenance)

    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns)


def test_uuids_are_kept_and_need_no_namespace() -> None:
    """A row that already has a UUID must keep it, in lower case."""
    upper = "3500A20A-FA32-5543-842F-DA54BEF06C63"

    items = transform_enterprises(make_rows((upper, *ROW[1:])), id_kind="text")

    assert items.to_dict("records") == [ITEM | {"source_id": upper}]


def test_a_column_more_does_no_harm() -> None:
    """The mark of duplicates that extraction may add must not reach the items."""
    rows = make_rows(ROW).assign(id_duplicate=False)

    items = transform_enterprises(rows)

    assert list(items.columns) == [*ITEM_ATTRIBUTES, "source_id"]


def test_columns_of_pandas_own_text_type_are_read_alike() -> None:
    """A frame read in a notebook has pandas' `str` columns; the items are the same."""
    rows = make_rows(("1", "a", ROW[2], None), ROW)

    items = transform_enterprises(rows.astype("str"))

    assert_frame_equal(items, transform_enterprises(rows))
