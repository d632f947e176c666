"""The suite of a mapped entity in PostgreSQL: the same counts as in frames."""

from contextlib import closing

import pandas as pd
import psycopg2

from validation.rules import row_rules
from validation.sql import validate_table
from validation.subject import ColumnRules, Subject
from validation.validate import validate_enterprises

MAPPED = Subject(
    "item",
    (
        ColumnRules("code", in_key=True, max_length=3, matches="[a-z:\\\\]*"),
        ColumnRules(
            "plan", required=True, one_of=("free", "pro's", "%s :a"), severity="warning"
        ),
        ColumnRules("price", "number", minimum="0", maximum="10.5", unique=True),
        ColumnRules("rate", "number", one_of=("1", "2.5"), minimum="-1e300"),
        ColumnRules("sold", "timestamp", minimum="2020-01-01T01:00:00+01:00"),
        ColumnRules("day", "date", maximum="2024-12-31", one_of=("2024-02-29",)),
        ColumnRules("note", min_length=2, minimum="a", maximum="b", unique=True),
        ColumnRules("owner", is_reference=True, is_uuid=True),
        ColumnRules("tags", "string_set"),
    ),
    created=False,
    partition_key=(("", "code"),),
    sort_key=(("I#", "id"),),
)
COLUMNS = {
    "id": "id",
    "updated_date": "changed",
    **{column.name: column.name for column in MAPPED.columns},
    "sold": '"sold at"',
}
VALUES = [
    ("a", "free", "1.50", "1", "2020-01-01 00:00+00", "2024-02-29", "aa"),
    ("", "pro's", "1.5", "2.5", "2019-12-31 23:59:59.999999+00", "2024-03-01", "a"),
    (None, "%s :a", "10.51", "1e-7", "infinity", "infinity", "AA"),
    ("abcd", "x", "NaN", "NaN", "0044-03-15 00:00+00 BC", "0044-03-15 BC", "b"),
    ("a\\:", None, "NaN", "Infinity", "12000-01-01 00:00+00", "12000-01-01", "ba"),
    ("A", "", "-0.01", "-1e301", None, "2025-01-01", "\n\n"),
    ("a", "free", "9" * 39, "1e-131", None, None, None),
    ("a", "free", "1e-131", "1e126", None, None, "é"),
    ("a", "free", "0." + "9" * 39, "1e125", None, None, "aa"),
    ("a", "free", None, "-0", None, None, None),
]
OWNERS = [
    None,
    "3500A20A-FA32-5543-842F-DA54BEF06C63",
    "{3500a20afa325543842fda54bef06c63}",
    "3500a20afa325543842fda54bef06c63}",
    "3500a20a-fa32-5543-842f-da54bef06c6",
    "nobody",
    "",
    *[None] * 3,
]

TABLE = """
CREATE TABLE t (
    id int, code text, plan text, price numeric, rate float8, "sold at" timestamptz,
    day date, note text, owner text, tags text[], changed timestamptz
)
"""


def sqlalchemy_url(url: str) -> str:
    """Return a database's URL in SQLAlchemy's form, at UTC."""
    url = url.replace("postgresql://", "postgresql+psycopg2://")
    return url + ("&" if "?" in url else "?") + "options=-c%20timezone%3DUTC"


def test_a_mapped_table_and_its_frames_get_the_same_verdict(database_url: str) -> None:
    """Each rule that SQL can judge has the same count as in a frame of these rows."""
    with closing(psycopg2.connect(database_url)) as connection:
        connection.set_client_encoding("UTF8")
        cursor = connection.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.execute(TABLE)
        for number, row in enumerate(VALUES):
            values = (number, *row, OWNERS[number], "{a}", "2024-02-29 00:00+00")
            cursor.execute("INSERT INTO t VALUES %s", [values])
        # A row that the condition leaves out.
        cursor.execute("INSERT INTO t VALUES (-1)")
        connection.commit()
        texts = [f"{sql}::text" for sql in COLUMNS.values()]
        cursor.execute(f"SELECT {', '.join(texts)} FROM t WHERE id >= 0")  # noqa: S608
        names = ["source_id", *list(COLUMNS)[1:]]
        frame = pd.DataFrame(cursor.fetchall(), columns=names, dtype=object)
    where = "id >= 0 AND 2::text = '2'"
    url = sqlalchemy_url(database_url)

    found = validate_table(url, "public.t", COLUMNS, subject=MAPPED, where=where)

    report = validate_enterprises(frame, subject=MAPPED)

    assert found == {
        "rows": len(VALUES),
        "by_reason": report.by_reason,
        "warnings": report.warnings,
    }
    rules = {rule.reason.value for rule in row_rules(MAPPED)}
    assert rules - {*report.by_reason, *report.warnings} == {
        "owner_reference_missing",
        "tags_set_empty",
        "tags_set_null",
        "tags_set_nested",
        "tags_set_duplicate",
        "sold_malformed",
        "day_malformed",
        "key_duplicate",
        # No float has as many digits.
        "rate_too_precise",
    }
