"""Rows with a column of every type: each item equals what independent SQL says."""

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid5

import psycopg2
import pytest

from flows import pipeline
from flows.models import MigrateOptions
from flows.settings import ID_NAMESPACE
from flows.stores.dynamodb.table import EnterpriseTable

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

ReadItems = Callable[[], dict[str, dict[str, Any]]]

TYPES = """
CREATE TYPE public.mood AS ENUM ('sad', 'ok', 'very happy');
CREATE DOMAIN public.code AS text CHECK (length(VALUE) < 400);
CREATE DOMAIN public.amount AS numeric;
CREATE DOMAIN public.cost AS public.amount;
"""
NINES = "9" * 38
# The type of each column, how independent SQL says what the item must have, and values.
# `json`: as to_jsonb has it; `text`: as text; `number`: exactly; `time`, `bytes`.
COLUMNS: dict[str, tuple[str, str, list[str | None]]] = {
    "i2": ("smallint", "number", ["0", "-32768", "32767", None]),
    "i4": ("integer", "number", ["0", "-2147483648", "7"]),
    "i8": ("bigint", "number", ["9223372036854775807", "-9223372036854775808", "0"]),
    "num": (
        "numeric",
        "number",
        [
            *("0", "-0.0", "1.50", "1e20", NINES, f"-{NINES}", "1e-130", "-1e-130"),
            *(f"{NINES}e87", "0.1", "100", "-1.10", None),
        ],
    ),
    "fixed": ("numeric(12, 4)", "number", ["1.5", "12345678.1234", "-0.0001"]),
    "price": ("public.cost", "number", ["1.50", "2", None]),
    "f4": ("real", "text", ["1.5", "NaN", "-Infinity", "1e-40", "16777217"]),
    "f8": ("double precision", "text", ["0.1", "1e300", "NaN", "-0"]),
    "b": ("boolean", "json", ["true", "false", None]),
    "t": (
        "text",
        "json",
        ["", " ", 'a"b', "\n\r\t", "NULL", "🚀é́", "x" * 3000, "\\N", "{}", "'", None],
    ),
    "vc": ("varchar(20)", "json", ["", "a ", "ünï"]),
    "ch": ("char(5)", "json", ["a", "abcde", ""]),
    "nm": ("name", "json", ["a", "long_name"]),
    "label": ("public.code", "json", ["x", "", None]),
    "feeling": ("public.mood", "json", ["sad", "very happy"]),
    "d": ("date", "day", ["0001-01-01", "9999-12-31", "2024-02-29", None]),
    "ts": ("timestamp", "local", ["2024-07-01 12:00:00.1239", "0001-01-02", None]),
    "tz": (
        "timestamptz",
        "time",
        ["2024-01-01 00:00:00.999999+00", "1969-12-31 23:59:59.9999+05:30", None],
    ),
    "tm": ("time", "text", ["24:00:00", "00:00:00.000001"]),
    "ttz": ("timetz", "text", ["12:00:00+02"]),
    "iv": ("interval", "text", ["1 year -2 days", "-00:00:01.5", "0"]),
    "u": ("uuid", "json", ["3500a20a-fa32-5543-842f-da54bef06c63", None]),
    "j": (
        "json",
        "last",
        [
            *("{}", '{"a": 1, "a": 2.50}', "[]", '"x"', "1e2", "null", "true", " 1.0 "),
            *('{"n": 12345678901234567890.5}', '{"é": [null, {"b": ""}]}', None),
        ],
    ),
    "jb": (
        "jsonb",
        "json",
        [
            *("{}", '{"a": 2.50}', "[[], {}]", '""', "0", "null", "false", "-0.0"),
            *('{"n": 1e-100, "m": 99999999999999999999}', "[" * 30 + "]" * 30, None),
        ],
    ),
    "by": ("bytea", "bytes", ["\\x", "\\x00", "\\xdeadbeef", None]),
    "ip": ("inet", "json", ["127.0.0.1", "::1/64"]),
    "net": ("cidr", "text", ["10.0.0.0/8"]),
    "mac": ("macaddr", "text", ["08:00:2b:01:02:03"]),
    "bits": ("bit varying", "text", ["", "101"]),
    "mo": ("money", "text", ["-1.50", "1234567.89"]),
    "pt": ("point", "text", ["(1,2.5)"]),
    "bx": ("box", "text", ["(1,2),(0,0)"]),
    "r": ("int4range", "text", ["[1,5)", "empty", "(,3]"]),
    "mr": ("int4multirange", "text", ["{[1,2),[5,7)}", "{}"]),
    "ve": ("tsvector", "text", ["a:1 b:2"]),
    "oi": ("oid", "text", ["4294967295"]),
    "i4a": ("integer[]", "json", ["{}", "{1,NULL}", "{{1,2},{3,4}}", None]),
    "na": ("numeric[]", "json", ["{1.50,-0,1e20}", "{}", "[2:3]={1,2}"]),
    "ta": (
        "text[]",
        "json",
        ["{}", '{"",NULL,"NULL","a,b","q\\"z","\\\\"}', "{{a,b},{c,d}}"],
    ),
    "boa": ("boolean[]", "json", ["{t,f,NULL}"]),
    "jba": ("jsonb[]", "json", ['{"{\\"a\\": 1.0}","null",NULL}', "{}"]),
    "bya": ("bytea[]", "byte list", ['{"\\\\x00ff","\\\\x"}', "{}"]),
    "tza": ("timestamptz[]", "text list", ["{2024-01-01 00:00+00,infinity}"]),
    "ma": ("public.mood[]", "json", ['{sad,"very happy"}']),
    "ua": ("uuid[]", "json", ["{3500a20a-fa32-5543-842f-da54bef06c63}"]),
    "tags": ("text[]", "set", ["{a,b}", '{"a","A",""}', None]),
    "codes": ("numeric[]", "number set", ["{1,2.50}", "{0}", None]),
}
TYPED = {"tags": "string_set", "codes": "number_set"}
DEEP = "[" * 33 + "]" * 33
# A value that cannot be in an item: its column, and the reason.
BAD = [
    ("num", "NaN", "num_not_a_number"),
    ("num", "Infinity", "num_not_a_number"),
    ("num", "1" * 39, "num_too_precise"),
    ("num", "1e-131", "num_out_of_range"),
    ("num", "1e126", "num_out_of_range"),
    ("tz", "infinity", "tz_not_finite"),
    ("tz", "0044-03-15 00:00:00+00 BC", "tz_out_of_range"),
    ("tz", "10000-01-01 00:00:00+00", "tz_out_of_range"),
    ("d", "-infinity", "d_not_finite"),
    ("d", "12000-01-01", "d_out_of_range"),
    ("jb", DEEP, "jb_too_deep"),
    ("jb", f'{{"a": {"1" * 39}}}', "jb_too_precise"),
    ("j", "1e126", "j_out_of_range"),
    # DynamoDB refuses an empty name in a map.
    ("jb", '{"": null}', "refused_by_store"),
    ("na", "{1,NaN}", "na_not_a_number"),
    ("tags", "{}", "tags_set_empty"),
    ("tags", "{a,a}", "tags_set_duplicate"),
    ("tags", "{a,NULL}", "tags_set_null"),
    ("codes", "{1,1.0}", "codes_set_duplicate"),
    ("t", "x" * 409_600, "item_too_large"),
]
# Rows at a fixed distance have one of the bad values, each in turn.
BAD_EVERY = 50
LARGE = 20_000


def write_mapping(folder: Path) -> Path:
    """Write a mapping of all columns."""
    lines = [
        "[enterprise]",
        'table = "public.everything"',
        'id = "id"',
        'partition_key = "ENT#{id}"',
        'sort_key = "METADATA"',
        "[enterprise.attributes]",
        *(
            f'{name} = {{ column = "{name}", type = "{TYPED[name]}" }}'
            if name in TYPED
            else f'{name} = "{name}"'
            for name in COLUMNS
        ),
    ]
    path = folder / "everything.toml"
    path.write_text("\n".join(lines), "utf-8")
    return path


def fill(url: str, rows: int) -> dict[str, str]:
    """Create the table; return the reason of each row that cannot be an item."""
    names = ", ".join(f"{name} {kind}" for name, (kind, _, _) in COLUMNS.items())
    values = ", ".join(
        f"(%({name})s::text[])[1 + n %% {len(some)}]::{kind}"
        for name, (kind, _, some) in COLUMNS.items()
    )
    arrays = {name: some for name, (_, _, some) in COLUMNS.items()}
    reasons = {}
    with closing(psycopg2.connect(url)) as connection, connection:
        cursor = connection.cursor()
        cursor.execute(f"{TYPES} CREATE TABLE everything (id int PRIMARY KEY, {names})")
        cursor.execute(
            f"INSERT INTO everything SELECT n, {values}"  # noqa: S608 - constants
            f" FROM generate_series(1, {rows}) AS n",
            arrays,
        )
        for number, source_id in enumerate(range(BAD_EVERY, rows + 1, BAD_EVERY)):
            column, value, reason = BAD[number % len(BAD)]
            kind = COLUMNS[column][0]
            cursor.execute(
                f"UPDATE everything SET {column} = %s::{kind} WHERE id = %s",  # noqa: S608
                [value, source_id],
            )
            reasons[str(source_id)] = reason
    return reasons


def expected_rows(url: str) -> dict[str, dict[str, Any]]:
    """Return by partition key what each item must have, from SQL."""
    forms = {
        "json": "to_jsonb({0})::text",
        "last": "{0}::jsonb::text",
        "text": "{0}::text",
        "number": "{0}::text",
        "day": "to_char({0}, 'YYYY-MM-DD')",
        "time": "to_char(date_trunc('milliseconds', {0} AT TIME ZONE 'UTC'),"
        ' \'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\')',
        "local": "to_char(date_trunc('milliseconds', {0} AT TIME ZONE 'Europe/Paris'"
        " AT TIME ZONE 'UTC'), 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
        "bytes": "encode({0}, 'hex')",
        "byte list": "to_jsonb({0})::text",
        "text list": "to_jsonb({0}::text[])::text",
        "set": "to_jsonb({0})::text",
        "number set": "to_jsonb({0}::text[])::text",
    }
    columns = ", ".join(
        forms[form].format(name) for name, (_, form, _) in COLUMNS.items()
    )
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'; SET datestyle = 'ISO, YMD'")
        cursor.execute(f"SELECT id, {columns} FROM everything")  # noqa: S608 - constants
        rows = cursor.fetchall()
    found = {}
    for source_id, *values in rows:
        identity = str(uuid5(ID_NAMESPACE, str(source_id)))
        pairs = zip(COLUMNS.items(), values, strict=True)
        found[identity] = {
            name: as_value(form, text)
            for (name, (_, form, _)), text in pairs
            if text is not None
        }
    return found


def as_value(form: str, text: str) -> Any:
    """Return SQL's text as the value that an item must have."""
    readers: dict[str, Callable[[str], Any]] = {
        "number": Decimal,
        "bytes": bytes.fromhex,
        "json": exact_json,
        "last": exact_json,
        "set": lambda some: set(json.loads(some)),
        "number set": lambda some: set(map(Decimal, json.loads(some))),
        "byte list": lambda some: [bytes.fromhex(one[2:]) for one in json.loads(some)],
        "text list": json.loads,
    }
    return readers.get(form, str)(text)


def exact_json(text: str) -> Any:
    """Return a JSON text with exact numbers."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def read_value(typed: Mapping[str, Any]) -> Any:
    """Return a typed value as Python's, with exact numbers; boto3 refuses 1E+125."""
    ((letter, content),) = typed.items()
    readers: dict[str, Callable[[Any], Any]] = {
        "N": Decimal,
        "NULL": lambda _: None,
        "L": lambda some: [read_value(one) for one in some],
        "M": lambda some: {name: read_value(one) for name, one in some.items()},
        "SS": set,
        "NS": lambda some: set(map(Decimal, some)),
    }
    return readers.get(letter, lambda value: value)(content)


def deserialize(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item's mapped attributes."""
    made = {"PK", "SK", "id", "entity_type"}
    return {name: read_value(one) for name, one in item.items() if name not in made}


@pytest.mark.parametrize("rows", [1_100, pytest.param(LARGE, marks=pytest.mark.slow)])
def test_every_type_arrives_as_sql_says(  # noqa: PLR0917 - fixtures
    database_url: str,
    table: EnterpriseTable,
    items: ReadItems,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
) -> None:
    """Each item equals its row, and each row that cannot be one has its reason."""
    assert table.name
    reasons = fill(database_url, rows)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("SOURCE_TIMEZONE", "Europe/Paris")
    monkeypatch.setenv("MAPPING_FILE", str(write_mapping(tmp_path)))

    report = pipeline.migrate(MigrateOptions(allow_quarantined=len(reasons)))

    quarantine = pd_records(report.files["quarantine_parquet"])
    assert {row["source_id"]: row["reasons"] for row in quarantine} == reasons
    assert report.status == "proven", report.verdict
    bad = {str(uuid5(ID_NAMESPACE, source_id)) for source_id in reasons}
    expected = expected_rows(database_url)
    found = {
        item["id"]["S"]: deserialize(item)
        for item in items().values()
        if "entity_type" in item
    }
    assert found.keys() == expected.keys() - bad
    for identity, item in found.items():
        assert item == expected[identity]
    if rows < LARGE:
        again = pipeline.migrate(MigrateOptions(allow_quarantined=len(reasons)))
        assert again.ledger.unchanged == len(found)


def pd_records(path: str | None) -> list[dict[str, Any]]:
    """Return the rows of a Parquet file."""
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(str(path)).to_pylist()
    return rows
