"""Rows of every type: what the proof expects, against values that are written here.

Each case has a column's type, PostgreSQL's input, and the value that an item must have.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg2
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.extract import extract_enterprises
from flows.mapping.model import Attribute, Entity, Mapping
from flows.models import PartitionSpec, SourceTable, digest
from flows.models.values import canonical
from flows.reconciliation.compare import as_rows
from flows.reconciliation.expected_items import ExpectedItems
from flows.reconciliation.source_rows import copy_rows
from flows.settings import ID_NAMESPACE
from flows.stores.postgres.entities import describe_entities
from flows.stores.postgres.session import open_source
from flows.transform import transform_enterprises
from tests.support.source_database import SourceDatabase

INSERT = sql.SQL("INSERT INTO public.typed (id, {}) VALUES (%s, %s)")
# No item can have the value.
NEVER = object()
NULL: dict[str, Any] = {"NULL": True}
UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
TYPES = """
CREATE TYPE public.plan AS ENUM ('free', 'pro, "new"');
CREATE TYPE public.pair AS (one int, other text);
CREATE DOMAIN public.cents AS numeric(12, 4);
CREATE DOMAIN public.small_cents AS public.cents;
CREATE DOMAIN public.numbers AS int[];
"""


@dataclass(frozen=True)
class Case:
    """A column's type, the input of PostgreSQL, and the value of its attribute."""

    pg_type: str
    text: str | None
    expected: Any
    type: Any = None
    null: Any = "omit"


def deep(levels: int) -> Any:
    """Return that many lists, one in another."""
    value: dict[str, Any] = {"L": []}
    for _ in range(levels - 1):
        value = {"L": [value]}
    return value


def strings(*texts: str | None) -> Any:
    """Return a list of strings and NULLs."""
    return {"L": [NULL if text is None else {"S": text} for text in texts]}


def numbers(*texts: str) -> Any:
    """Return a list of numbers."""
    return {"L": [{"N": text} for text in texts]}


NUMBERS = [
    Case("int2", "-32768", -32768),
    Case("int4", "0", 0),
    Case("int8", "9223372036854775807", 2**63 - 1),
    Case("numeric", "9223372036854775808", 2**63),
    Case("numeric", "1.50", {"N": "1.5"}),
    Case("numeric", "-0.0", 0),
    Case("numeric", "100", 100),
    Case("numeric", "100.000", 100),
    Case("numeric", "9" * 38, int("9" * 38)),
    Case("numeric", "9" * 39, NEVER),
    Case("numeric", "0." + "9" * 38, {"N": "0." + "9" * 38}),
    Case("numeric", "1" + "0" * 125, 10**125),
    Case("numeric", "1" + "0" * 126, NEVER),
    Case("numeric", "1e-130", {"N": "0." + "0" * 129 + "1"}),
    Case("numeric", "1e-131", NEVER),
    Case("numeric", "NaN", NEVER),
    Case("numeric", "-Infinity", NEVER),
    Case("numeric", None, None),
    Case("numeric", None, NULL, null="keep"),
    Case("numeric", "1.50", {"N": "1.5"}, null="keep"),
    Case("numeric", "1.50", "1.50", type="text"),
    Case("public.small_cents", "1.5", {"N": "1.5"}),
    Case("float4", "0.1", "0.1"),
    Case("float8", "1e20", 10**20, type="number"),
    Case("float8", "-0", 0, type="number"),
    Case("float8", "NaN", NEVER, type="number"),
    Case("float8", "0.30000000000000004", "0.30000000000000004"),
]
TEXTS = [
    Case("text", "", ""),
    Case("text", "NULL", "NULL"),
    Case("text", 'a "b"\n,\\x', 'a "b"\n,\\x'),
    Case("varchar(3)", "é🚀x", "é🚀x"),
    Case("char(4)", "ab", "ab  "),
    Case("name", "n", "n"),
    Case('"char"', "c", "c"),
    Case("uuid", UUID.upper(), UUID),
    Case("public.plan", 'pro, "new"', 'pro, "new"'),
    Case("public.pair", '(1,"a,b")', '(1,"a,b")'),
    Case("inet", "10.0.0.1/8", "10.0.0.1/8"),
    Case("inet", "10.0.0.1", "10.0.0.1"),
    Case("cidr", "10.0.0.0/8", "10.0.0.0/8"),
    Case("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:03"),
    Case("interval", "1 day 2 hours", "1 day 02:00:00"),
    Case("int4range", "[1,3]", "[1,4)"),
    Case("bit(3)", "101", "101"),
    Case("varbit", "1", "1"),
    Case("time", "01:02:03", "01:02:03"),
    Case("timetz", "01:02:03+02", "01:02:03+02"),
    Case("point", "(1,2)", "(1,2)"),
    Case("tsvector", "a b", "'a' 'b'"),
    Case("oid", "42", "42"),
    Case("pg_lsn", "16/B374D848", "16/B374D848"),
    Case("jsonb", '{"b": 1,  "a": 1.0}', '{"a": 1.0, "b": 1}', type="text"),
]
OTHERS = [
    Case("bool", "t", True),
    Case("bool", "f", False),
    Case("bool", None, NULL, null="keep"),
    Case("bool", "t", "true", type="text"),
    Case("bytea", "\\x", {"B": b""}),
    Case("bytea", "\\x00ff" + "ab" * 100, {"B": b"\x00\xff" + b"\xab" * 100}),
    Case("timestamptz", "2024-02-29 23:59:59.9999999+02", "2024-02-29T22:00:00.000Z"),
    Case("timestamptz", "0001-01-01 00:00:00+00", "0001-01-01T00:00:00.000Z"),
    Case("timestamptz", "0001-12-31 00:00:00+00 BC", NEVER),
    Case("timestamptz", "10000-01-01 00:00:00+00", NEVER),
    Case("timestamptz", "infinity", NEVER),
    Case("timestamp", "2024-01-01 00:00:00.5", "2023-12-31T23:00:00.500Z"),
    Case("timestamp", "-infinity", NEVER),
    Case("date", "2024-02-29", "2024-02-29"),
    Case("date", "infinity", NEVER),
    Case("date", "0044-03-15 BC", NEVER),
    Case("date", "10000-01-01", NEVER),
    Case("date", "2024-01-01", "2023-12-31T23:00:00.000Z", type="timestamp"),
]
JSON = [
    Case("jsonb", "{}", {"M": {}}),
    Case("jsonb", '{"": null}', {"M": {"": NULL}}),
    Case("jsonb", "null", NULL),
    Case("jsonb", "[]", {"L": []}),
    Case("jsonb", '"text"', "text"),
    Case("jsonb", "1.50", {"N": "1.5"}),
    Case("jsonb", "true", True),
    Case(
        "jsonb",
        '{"a": [1.0, 1e2, -0, "x", false]}',
        {
            "M": {
                "a": {
                    "L": [
                        {"N": "1"},
                        {"N": "100"},
                        {"N": "0"},
                        {"S": "x"},
                        {"BOOL": False},
                    ]
                }
            }
        },
    ),
    Case("jsonb", "18446744073709551616", 2**64),
    Case(
        "jsonb",
        '{"n": 0.1000000000000000055511151231257827}',
        {"M": {"n": {"N": "0.1000000000000000055511151231257827"}}},
    ),
    Case("jsonb", f"[{'9' * 39}]", NEVER),
    Case("jsonb", "[1e-131]", NEVER),
    Case("jsonb", "[" * 32 + "]" * 32, deep(32)),
    Case("jsonb", "[" * 33 + "]" * 33, NEVER),
    Case("json", '{"a": 1, "a": {"b": 1.10}, "a": 2.0}', {"M": {"a": {"N": "2"}}}),
    Case("json", '"\\u0000"', "\x00"),
    Case("json", "1e400", NEVER),
    Case("json", None, NULL, null="keep"),
]
LISTS = [
    Case("int[]", "{}", {"L": []}),
    Case("int[]", "{1,NULL,-3}", {"L": [{"N": "1"}, NULL, {"N": "-3"}]}),
    Case("int[]", "{{1,2},{3,4}}", {"L": [numbers("1", "2"), numbers("3", "4")]}),
    Case("int[]", "[0:1]={5,6}", numbers("5", "6")),
    Case("public.numbers", "{7}", numbers("7")),
    Case("numeric[]", "{1.50,1e20,0.000}", numbers("1.5", "1" + "0" * 20, "0")),
    Case("numeric[]", "{1,NaN}", NEVER),
    Case("numeric[]", "{" + "9" * 39 + "}", NEVER),
    Case("public.cents[]", "{1.5}", numbers("1.5")),
    Case("float8[]", "{1.5,NaN}", strings("1.5", "NaN")),
    Case("bool[]", "{t,f,NULL}", {"L": [{"BOOL": True}, {"BOOL": False}, NULL]}),
    Case("text[]", '{"",NULL,"NULL"}', strings("", None, "NULL")),
    Case("text[]", '{"a,b","{","\\"","\\\\"}', strings("a,b", "{", '"', "\\")),
    Case("char(2)[]", "{a,b}", strings("a ", "b ")),
    Case("public.plan[]", '{free,"pro, \\"new\\""}', strings("free", 'pro, "new"')),
    Case("uuid[]", "{" + UUID.upper() + "}", strings(UUID)),
    Case("timestamptz[]", '{"2024-02-29 01:00+02"}', strings("2024-02-28 23:00:00+00")),
    Case("date[]", "{2024-02-29,infinity}", strings("2024-02-29", "infinity")),
    Case("public.pair[]", '{"(1,a)"}', strings("(1,a)")),
    Case("jsonb[]", '{"{\\"a\\": 1.0}",null}', {"L": [{"M": {"a": {"N": "1"}}}, NULL]}),
    Case("json[]", '{"\\"\\\\u0000\\""}', strings("\x00")),
    Case("bytea[]", '{"\\\\x00ff","\\\\x"}', {"L": [{"B": b"\x00\xff"}, {"B": b""}]}),
    Case("inet[]", "{10.0.0.1}", strings("10.0.0.1")),
    Case("bool[]", "{t,f}", {"SS": ["false", "true"]}, type="string_set"),
    Case("char(2)[]", "{b,a}", {"SS": ["a ", "b "]}, type="string_set"),
    Case("date[]", "{2024-02-29}", {"SS": ["2024-02-29"]}, type="string_set"),
    Case("text[]", "{b,a}", {"SS": ["a", "b"]}, type="string_set"),
    Case("text[]", '{"",NULL}', NEVER, type="string_set"),
    Case("text[]", "{a,a}", NEVER, type="string_set"),
    Case("text[]", "{}", NEVER, type="string_set"),
    Case("text[]", None, None, type="string_set"),
    Case("text[]", None, NULL, type="string_set", null="keep"),
    Case("numeric[]", "{10.0,9,1.50}", {"NS": ["1.5", "10", "9"]}, type="number_set"),
    Case("numeric[]", "{1.0,1.00}", NEVER, type="number_set"),
    Case("int[]", "{1,NULL}", NEVER, type="number_set"),
]  # fmt: skip
CASES = [*NUMBERS, *TEXTS, *OTHERS, *JSON, *LISTS]


@dataclass(frozen=True)
class Typed:
    """The table of all cases, one row for each: only its own column has a value."""

    database: SourceDatabase
    columns: dict[tuple[Any, ...], str]

    def describe(self, connection: Connection) -> SourceTable:
        """Describe the table, by a mapping of all its columns."""
        attributes = {
            name: Attribute(column=name, type=kind, null=null)
            for (_, kind, null), name in self.columns.items()
        }
        entity = Entity(
            table="public.typed",
            id="id",
            partition_key="TYPED#{id}",
            sort_key="ROW",
            attributes=attributes,
        )
        settings = self.database.settings(source_timezone="Europe/Paris")
        mapping = Mapping(entities={"typed": entity})
        return describe_entities(connection, settings, mapping)[0]

    def expected(self, case: Case) -> tuple[str, dict[str, Any]]:
        """Return the attribute of a case, and the row's values without its own."""
        name = self.columns[case.pg_type, case.type, case.null]
        kept = {n: NULL for (*_, null), n in self.columns.items() if null == "keep"}
        return name, {other: value for other, value in kept.items() if other != name}


@pytest.fixture
def typed(database: SourceDatabase) -> Typed:
    """Create the table, and a row for each case."""
    columns: dict[tuple[Any, ...], str] = {}
    for case in CASES:
        key = case.pg_type, case.type, case.null
        columns.setdefault(key, f"c{len(columns)}")
    made = ", ".join(f"{name} {key[0]}" for key, name in columns.items())
    database.run(TYPES, f"CREATE TABLE public.typed (id int PRIMARY KEY, {made})")
    with closing(psycopg2.connect(database.url)) as connection, connection:
        connection.set_client_encoding("UTF8")
        cursor = connection.cursor()
        for number, case in enumerate(CASES):
            name = columns[case.pg_type, case.type, case.null]
            insert = INSERT.format(sql.Identifier(name))
            cursor.execute(insert, (number, case.text))
    return Typed(database, columns)


def test_every_value_is_as_written_here(typed: Typed) -> None:
    """Each value must be the expected one, by rows and by columns, or be impossible."""
    tables: list[pa.Table] = []
    with open_source(typed.database.settings()) as connection:
        source = typed.describe(connection)
        copy_rows(connection, source, tables.append)
    one = ExpectedItems(source, ID_NAMESPACE)
    rows = pa.concat_tables(tables)
    digests = one.derive(rows)["digest"].to_pylist()

    assert len(rows) == len(CASES)
    for row, found in zip(as_rows(rows), digests, strict=True):
        case = CASES[int(str(row[0]))]
        item, impossible = one.item(row)
        name, others = typed.expected(case)
        values = {n: item[n] for n in typed.columns.values() if item[n] is not None}
        assert (impossible, found is None) == (case.expected is NEVER,) * 2, case
        if not impossible:
            absent = case.expected is None
            assert values == others | ({} if absent else {name: case.expected}), case
            assert type(values.get(name)) is type(case.expected), case
            assert found == digest(item.values()), case
            value = values.get(name)
            if isinstance(value, dict):
                ((letter, content),) = value.items()
                assert canonical(letter, content) == value, case


def test_both_derivations_agree_on_every_type(typed: Typed) -> None:
    """What a run writes must be what the proof expects, whatever the type."""
    never = [n for n, case in enumerate(CASES) if case.expected is NEVER]
    delete = "DELETE FROM public.typed WHERE id = ANY (%s)"
    typed.database.run(delete, values=(never,))
    tables: list[pa.Table] = []
    with open_source(typed.database.settings()) as connection:
        source = typed.describe(connection)
        copy_rows(connection, source, tables.append)
        frame = extract_enterprises(connection, PartitionSpec("run", 1, source))
    items = transform_enterprises(frame, source).drop(columns="source_id")
    one = ExpectedItems(source, ID_NAMESPACE)
    rows = {str(row[0]): row for part in tables for row in as_rows(part)}

    assert len(items) == len(CASES) - len(never)
    for source_id, row in zip(frame["source_id"], items.to_numpy(), strict=True):
        written = dict(zip(map(str, items), row, strict=True))
        assert (written, False) == one.item(rows[source_id]), CASES[int(source_id)]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=4)
decimals = st.decimals(-(10**20), 10**20, places=4) | st.sampled_from(
    [Decimal("NaN"), Decimal("1e-130"), Decimal("1e-131"), Decimal("1e125"), Decimal(0)]
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | texts,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below),
    max_leaves=8,
)
generated = st.lists(
    st.tuples(
        st.none() | decimals,
        documents,
        st.none() | st.lists(st.none() | texts, max_size=4),
        st.none() | st.lists(texts, max_size=4),
        st.none() | st.binary(max_size=80),
    ),
    min_size=1,
    max_size=40,
)
GENERATED = """
CREATE TABLE public.generated (
    id serial PRIMARY KEY, n numeric, j jsonb, l text[], s text[], b bytea
)
"""
FILL = """
INSERT INTO public.generated (n, j, l, s, b)
VALUES (%s, %s, %s::text[], %s::text[], %s)
"""


def as_typed(value: Any) -> dict[str, Any]:
    """Return a document in DynamoDB's typed form, by rules that stand here alone."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, list):
        return {"L": [as_typed(one) for one in value]}
    return {"M": {name: as_typed(one) for name, one in value.items()}}


def as_plain(typed: dict[str, Any]) -> Any:
    """Return a typed value as an attribute has it."""
    ((letter, content),) = typed.items()
    if letter == "N" and "." not in content:
        return int(content)
    return content if letter in {"S", "BOOL"} else typed


def as_number(value: Decimal | None) -> Any:
    """Return a number as an attribute has it, ``NEVER`` if none can."""
    if value is None:
        return None
    if value.is_nan() or value == Decimal("1e-131"):
        return NEVER
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return as_plain({"N": "0" if text == "-0" else text})


def as_set(members: list[str] | None) -> Any:
    """Return a set as an attribute has it, ``NEVER`` if none can."""
    if members is None:
        return None
    different = len(set(members)) == len(members) > 0
    return {"SS": sorted(members)} if different else NEVER


def expected_of(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return the values of a generated row's attributes."""
    number, document, elements, members, content = row
    return {
        "n": as_number(number),
        "j": as_plain(as_typed(document)),
        "l": None if elements is None else strings(*elements),
        "s": as_set(members),
        "b": None if content is None else {"B": content},
    }


@pytest.fixture
def filled(database: SourceDatabase) -> Iterator[Callable[..., None]]:
    """Create a table, and yield a function that replaces its rows."""
    database.run(GENERATED)
    with closing(psycopg2.connect(database.url)) as connection:
        connection.set_client_encoding("UTF8")
        connection.autocommit = True

        def fill(rows: list[tuple[Any, ...]]) -> None:
            cursor = connection.cursor()
            cursor.execute("TRUNCATE public.generated RESTART IDENTITY")
            for number, document, elements, members, content in rows:
                binary = None if content is None else psycopg2.Binary(content)
                text = json.dumps(document)
                cursor.execute(FILL, (number, text, elements, members, binary))

        yield fill


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=generated)
def test_generated_rows_are_as_python_has_them(
    database: SourceDatabase,
    filled: Callable[..., None],
    rows: list[tuple[Any, ...]],
) -> None:
    """What goes into PostgreSQL must be what the proof expects of it."""
    filled(rows)
    kinds = {"s": "string_set"}
    entity = Entity(
        table="public.generated",
        id="id",
        partition_key="G#{id}",
        sort_key="ROW",
        attributes={
            name: Attribute(column=name, type=kinds.get(name)) for name in "njlsb"
        },
    )
    found: list[pa.Table] = []
    mapping = Mapping(entities={"generated": entity})
    with open_source(database.settings()) as connection:
        source = describe_entities(connection, database.settings(), mapping)[0]
        copy_rows(connection, source, found.append)
    one = ExpectedItems(source, ID_NAMESPACE)
    table = pa.concat_tables(found)
    digests = one.derive(table)["digest"].to_pylist()

    assert len(digests) == len(rows)
    for row, digested in zip(as_rows(table), digests, strict=True):
        item, impossible = one.item(row)
        expected = expected_of(rows[int(str(row[0])) - 1])
        never = NEVER in expected.values()
        assert (impossible, digested is None) == (never, never)
        if not never:
            assert {name: item[name] for name in "njlsb"} == expected
            assert digested == digest(item.values())
