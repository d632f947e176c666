"""The rules of ids, times, keys and equality, and the reports that steps exchange."""

import pickle
import re
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.models import (
    ITEM_ATTRIBUTES,
    Difference,
    IdKind,
    Ledger,
    MigrateOptions,
    PartitionLedger,
    PartitionSpec,
    Report,
    add_counts,
    derive_ids,
    describe_left_behind,
    digest,
    format_timestamps,
    is_enterprise,
)
from flows.settings import ID_NAMESPACE
from tests.support.source_table import make_source_table

SOURCE = make_source_table(
    updated_zoneless=True, timezone="Europe/Paris", columns_not_migrated=("notes",)
)
SPEC = PartitionSpec(
    run_id="run",
    number=2,
    source=SOURCE,
    lower="25",
    upper=None,
    snapshot="00000003-0000001B-1",
    table_was_empty=True,
    deadline=1.5,
    duplicate_ids=("3500a20a-fa32-5543-842f-da54bef06c63",),
)
LEDGER = Ledger(read=15, written=5, unchanged=4, kept_newer=3, quarantined=2, failed=1)
ENTERPRISE = {"PK": "ENT#1", "SK": "METADATA", "entity_type": "enterprise"}


def copied(value: object) -> object:
    """Send a value through pickle, as another process would receive it."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - just made here


def formatted(*texts: str | None) -> list[str | None]:
    """Format PostgreSQL's timestamps, as Python values."""
    found: list[str | None] = format_timestamps(
        pa.array(texts, pa.string())
    ).to_pylist()
    return found


def test_names_that_stay_behind_can_be_separated() -> None:
    """A column with a comma or a quote in its name must not read as two columns."""
    source = replace(SOURCE, columns_not_migrated=("notes", "été_2", 'We "ird, col'))

    assert describe_left_behind([source])["columns"] == 'notes, été_2, "We ""ird, col"'


# --- The id rule


def test_the_id_of_42_is_the_documented_one() -> None:
    """The id rule is a contract with every reader: its example must be correct."""
    assert derive_ids(["42"], "integer", ID_NAMESPACE) == [
        "3500a20a-fa32-5543-842f-da54bef06c63"
    ]


@given(
    st.lists(st.integers(min_value=-(2**63), max_value=2**63 - 1)),
    st.uuids() | st.just(ID_NAMESPACE),
)
@example([-1, 0, 9007199254740993, -(2**63), 2**63 - 1], ID_NAMESPACE)
@hypothesis(deadline=None)
def test_an_integer_becomes_its_version_5_id(ids: list[int], namespace: UUID) -> None:
    """The vectorised rule must be `uuid.uuid5` of the decimal text, for every id."""
    texts = [str(each) for each in ids]

    derived = derive_ids(texts, "integer", namespace)

    assert derived == [str(uuid5(namespace, text)) for text in texts]


@pytest.mark.parametrize("kind", ["uuid", "text"])
@pytest.mark.parametrize(
    "text",
    [
        "3500a20a-fa32-5543-842f-da54bef06c63",
        "3500A20A-FA32-5543-842F-DA54BEF06C63",
        "{3500a20a-fa32-5543-842f-da54bef06c63}",
        "3500a20afa325543842fda54bef06c63",
    ],
)
def test_a_uuid_is_kept_in_canonical_form(kind: IdKind, text: str) -> None:
    """All spellings of a UUID must give one key: lower case, with hyphens."""
    assert derive_ids([text], kind, ID_NAMESPACE) == [
        "3500a20a-fa32-5543-842f-da54bef06c63"
    ]


@pytest.mark.parametrize("text", ["42", "", "3500a20a", "not a uuid", "x" * 32])
def test_a_text_that_is_no_uuid_raises(text: str) -> None:
    """A text id that cannot be kept must not be replaced by an invented one."""
    with pytest.raises(ValueError, match=r"UUID|invalid literal"):
        derive_ids([text], "text", ID_NAMESPACE)


def test_no_ids_give_no_ids() -> None:
    """An empty partition must pass through the rule."""
    assert derive_ids([], "integer", ID_NAMESPACE) == []


# --- The timestamp rule


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2024-01-05 12:34:56+00", "2024-01-05T12:34:56.000Z"),
        ("2024-01-05 12:34:56.7+00", "2024-01-05T12:34:56.700Z"),
        ("2024-01-05 12:34:56.78+00", "2024-01-05T12:34:56.780Z"),
        ("2024-01-05 12:34:56.789+00", "2024-01-05T12:34:56.789Z"),
        ("2024-01-05 12:34:56.789999+00", "2024-01-05T12:34:56.789Z"),
        ("2024-12-31 23:59:59.999999+00", "2024-12-31T23:59:59.999Z"),
        ("2024-01-05 12:34:59.9995+00", "2024-01-05T12:34:59.999Z"),
        ("1969-12-31 23:59:59.999999+00", "1969-12-31T23:59:59.999Z"),
        ("0044-03-15 00:00:00.0009+00", "0044-03-15T00:00:00.000Z"),
        ("0001-01-01 00:00:00+00", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31 23:59:59.999999+00", "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_timestamp_is_cut_to_milliseconds(text: str, stamp: str) -> None:
    """A stamp must have three decimals and four digits of year, and not be rounded."""
    assert formatted(text) == [stamp]


@given(st.datetimes(timezones=st.just(UTC)))
@hypothesis(deadline=None)
def test_a_timestamp_is_what_the_standard_library_says(instant: datetime) -> None:
    """For every instant of a datetime the rule must agree with `isoformat`."""
    text = instant.replace(tzinfo=None).isoformat(sep=" ")
    expected = instant.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    assert formatted(f"{text}+00") == [expected]


@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2, max_size=2))
@hypothesis(deadline=None)
def test_stamps_sort_as_their_instants(instants: list[datetime]) -> None:
    """Stamps are compared as text, so their order must be that of time."""
    earlier, later = sorted(instants)
    texts = [
        i.replace(tzinfo=None).isoformat(sep=" ") + "+00" for i in (earlier, later)
    ]

    first, second = formatted(*texts)

    assert first is not None
    assert second is not None
    assert first <= second


def test_null_stays_null() -> None:
    """NULL must stay None, alone, among others and in an empty column."""
    assert formatted(None, "2024-01-05 12:34:56+00", None) == [
        None,
        "2024-01-05T12:34:56.000Z",
        None,
    ]
    assert formatted(None) == [None]
    assert formatted() == []


@pytest.mark.parametrize(
    "text",
    [
        "infinity",
        "-infinity",
        "0044-03-15 00:00:00+00 BC",
        "10000-01-01 00:00:00+00",
        "294276-12-31 23:59:59.999999+00",
        "2024-01-05 12:34:56",
        "2024-01-05 12:34:56+02",
        "2024-01-05 12:34:56+05:30",
        "2024-01-05T12:34:56Z",
        "05.01.2024 12:34:56 UTC",
        "2024-01-05 12:34:56+00\n",
        " 2024-01-05 12:34:56+00",
        "٢٠٢٤-01-05 12:34:56+00",
        "nan",
        "NaT",
        "",
    ],
)
def test_what_is_no_utc_timestamp_raises(text: str) -> None:
    """Nothing may be guessed: the error must name the invalid text at any position."""
    good = "2024-01-05 12:34:56+00"

    with pytest.raises(ValueError, match=f"9999: {re.escape(text)}$"):
        formatted(good, None, text, good)


# --- The equality rules


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"PK": "EPS#1"}, False),
        ({"PK": "ent#1"}, False),
        ({"PK": None}, False),
        ({"SK": "PROD#1"}, False),
        ({"SK": None}, False),
        ({"entity_type": "product"}, False),
        ({"entity_type": None}, False),
    ],
)
def test_an_enterprise_is_told_by_all_three(
    change: dict[str, Any], *, expected: bool
) -> None:
    """Prefix, sort key and entity type must all match: other kinds share the table."""
    item = {k: v for k, v in (ENTERPRISE | change).items() if v is not None}

    assert is_enterprise(item) is expected


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (["ab", "c"], ["a", "bc"]),
        (["ab", ""], ["a", "b"]),
        (["", "a"], ["a", ""]),
        (["a"], ["a", ""]),
        (["1:sa"], ["a"]),
        (["a:sb"], ["a", "b"]),
        (["a2:sb"], ["a", "b"]),
        (["s1:s", ""], ["s1", "s"]),
        (["True"], [True]),
        ([1], [True]),
        (["1"], [1]),
        (["None"], [None]),
        ([None], [""]),
        ([None, "a"], ["a", None]),
        (["é"], ["e\u0301"]),
        (["a"], ["A"]),
        (["a"], ["a "]),
        (["a"], ["a\x00"]),
        ([{"N": "1.5"}], ["1.5"]),
        ([{"S": "1"}], ["1"]),
        (["{'S': 'a'}"], [{"S": "a"}]),
    ],
)
def test_different_values_have_different_digests(
    ours: list[Any], theirs: list[Any]
) -> None:
    """The construction of a digest must not map two lists of values to one digest."""
    assert digest(ours) != digest(theirs)


values = st.none() | st.booleans() | st.integers() | st.text("a1:sN é", max_size=4)


@given(st.lists(values, max_size=4), st.lists(values, max_size=4))
@hypothesis(deadline=None)
def test_digests_are_equal_for_equal_values_only(
    ours: list[Any], theirs: list[Any]
) -> None:
    """Digests must be equal exactly if values, types and order are equal."""
    same = [(type(v), v) for v in ours] == [(type(v), v) for v in theirs]

    assert (digest(ours) == digest(theirs)) is same


def test_a_digest_has_128_bits_whatever_it_is_of() -> None:
    """Manifests have room for 16 bytes; unusual text must not break the digest."""
    assert len(digest(["\ud800", "\U0001f600" * 100_000, None, True, 1])) == 16
    assert digest(iter(["a", "b"])) == digest(("a", "b"))


# --- Ledgers and reports


def test_a_ledger_balances_if_every_row_is_accounted_for() -> None:
    """One row more or less in any single column must unbalance the ledger."""
    assert LEDGER.balanced
    for column in fields(Ledger):
        for step in (-1, 1):
            changed = replace(
                LEDGER, **{column.name: getattr(LEDGER, column.name) + step}
            )

            assert not changed.balanced, column.name


def test_ledgers_add_by_column() -> None:
    """A run's ledger must be the sum of its partitions', starting from nothing."""
    other = Ledger(read=100, written=20, unchanged=20, kept_newer=20, quarantined=40)

    assert sum([LEDGER, other], Ledger()) == Ledger(
        read=115, written=25, unchanged=24, kept_newer=23, quarantined=42, failed=1
    )
    assert sum([], Ledger()) == Ledger()
    assert Ledger().balanced


def test_counts_add_by_key() -> None:
    """Validations and times of partitions must add up, nested ones too."""
    first = {"rows": 2, "by_reason": {"name_blank": 1}, "seconds": 0.5}
    second = {"rows": 3, "by_reason": {"name_blank": 1, "id_missing": 2}, "more": 1}

    assert add_counts(first, second, {}) == {
        "rows": 5,
        "by_reason": {"name_blank": 2, "id_missing": 2},
        "seconds": 0.5,
        "more": 1,
    }
    assert first == {"rows": 2, "by_reason": {"name_blank": 1}, "seconds": 0.5}
    assert add_counts() == {}


@pytest.mark.parametrize(
    "value",
    [
        SOURCE,
        SPEC,
        LEDGER,
        PartitionLedger("run", 1, LEDGER, {"rows": 1}, {"load": 0.1}, {"retries": 0.0}),
        Difference("mismatched", "1", "id", {"name": {"source": "a", "target": None}}),
        MigrateOptions(run_id="a", deadline=3.5),
    ],
)
def test_what_workers_exchange_survives_pickling(value: object) -> None:
    """Partitions and their ledgers must cross process borders whole."""
    assert copied(value) == value


def test_what_workers_exchange_is_frozen() -> None:
    """A partition must not change while a worker has it."""
    with pytest.raises(FrozenInstanceError):
        SPEC.number = 3  # type: ignore[misc]


def test_a_table_is_named_with_its_schema() -> None:
    """Two schemas may have a table of one name, so the schema must be shown."""
    assert SOURCE.name == "public.enterprises"


def test_a_difference_names_its_class() -> None:
    """In JSON the kind of a difference must be under `class`, the first key."""
    difference = Difference("missing", "1", "id")

    assert list(difference.asdict().items()) == [
        ("class", "missing"),
        ("source_id", "1"),
        ("id", "id"),
        ("fields", {}),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"run_id": ""},
        {"run_id": "../etc"},
        {"run_id": ".hidden"},
        {"run_id": "a/b"},
        {"run_id": "a\n"},
        {"run_id": "a" * 65},
        {"partition_rows": 0},
        {"partition_rows": 1_000_001},
        {"deadline": 0},
        {"allow_quarantined": -1},
        {"unknown": 1},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    """A run's name must be valid as a folder's name, and its numbers be possible."""
    with pytest.raises(ValidationError):
        MigrateOptions(**options)


def test_a_report_prints_and_shows_itself() -> None:
    """A report must be readable at a prompt, and as safe HTML in a notebook."""

    class Shown(Report):
        def tables(self) -> list[tuple[str, dict[str, Any]]]:
            return [("Ledger", {"read": 2, "note": "<b>"}), ("Seconds", {"total": 1})]

    report = Shown()

    assert str(report) == "Ledger: read 2, note <b>\nSeconds: total 1"
    assert "&lt;b&gt;" in report._repr_html_()
    assert "<b>" not in report._repr_html_()
    with pytest.raises(NotImplementedError):
        report.asdict()


def test_the_item_has_ten_attributes() -> None:
    """The names of the attributes are a contract with every reader of the table."""
    assert ITEM_ATTRIBUTES == (
        "PK",
        "SK",
        "id",
        "enterprise_name",
        "name",
        "created_date",
        "createdAt",
        "updated_date",
        "updatedAt",
        "entity_type",
    )
