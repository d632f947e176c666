"""Rows that break naive migrations, and the expected outcome of each.

The source id of each row is its position from 1. This module derives the expected
items without code of the program.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

NAMESPACE = UUID("f1bf414b-7026-5797-bdf7-4a76844e36fc")
DAY = "2024-02-29 12:00:00+00"
DAY_STAMP = "2024-02-29T12:00:00.000Z"
# With two names of that many bytes an item takes 409,600 bytes.
LONGEST_NAME = 204_666

# Letters that resemble others are intended here.
# ruff: noqa: RUF001


@dataclass(frozen=True)
class Hostile:
    """A row, and its expected outcome: quarantined for *reasons*, or moved.

    *created* and *updated* are the input of PostgreSQL; *stamps* are the expected
    times of the item, unless they are the plain day.
    """

    kind: str
    name: str | None = "Plain"
    created: str | None = DAY
    updated: str | None = DAY
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    stamps: tuple[str, str] = (DAY_STAMP, DAY_STAMP)
    id: str | None = None


def named(kind: str, name: str, *warnings: str) -> Hostile:
    """Create a row with an odd name that must arrive unchanged."""
    return Hostile(kind, name=name, warnings=warnings)


def barred(kind: str, name: str | None, reason: str, *warnings: str) -> Hostile:
    """Create a row that is quarantined because of its name."""
    return Hostile(kind, name=name, reasons=(reason,), warnings=warnings)


PADDED, CONTROL = "name_padded", "name_control_characters"
FUTURE = ("created_date_in_future", "updated_date_in_future")
BEFORE = "updated_before_created"

NAMES = [
    named("plain", "Plain 1"),
    named("the word NULL", "NULL"),
    named("the word nan", "nan"),
    named("the word NaN", "NaN"),
    named("the word NA", "NA"),
    named("the word N/A", "N/A"),
    named("the word None", "None"),
    named("the word NaT", "NaT"),
    named("pandas' own nothing", "<NA>"),
    named("COPY's own nothing", r"\N"),
    named("COPY's own end", r"\."),
    named("a backslash and a letter", r"a\tb"),
    named("a number", "1e5"),
    named("zeros before", "007"),
    named("True", "True"),
    named("a formula", "=1+1"),
    named("a formula that calls", "@SUM(1+1)*cmd|' /C calc'!A0"),
    named("a minus", "-1+1"),
    named("a far date", "9999-12-31 GmbH"),
    named("quotes", 'O\'Neill "& Sons", Ltd.'),
    named("markup", "<script>alert(1)</script>"),
    named("SQL", "'; DROP TABLE enterprises; --"),
    named("a template", "{{ 7 * 7 }} ${x} %s {0}"),
    named("blanks at both ends", "  padded  ", PADDED),
    named("a tabulator before", "\ttab", PADDED, CONTROL),
    named("a line end within", "two\nlines", CONTROL),
    named("a line end after", "line\n", PADDED, CONTROL),
    named("a carriage return", "a\r\nb", CONTROL),
    named("a no-break space before", "\u00a0padded", PADDED),
    named("an ideographic space after", "株式会社\u3000", PADDED),
    named("a line separator after", "a\u2028", PADDED),
    named("an escape", "\x1b[31mred", CONTROL),
    named("a control of Latin-1", "a\x85b", CONTROL),
    named("the first control", "a\x01b", CONTROL),
    named("a byte order mark", "\ufeffmarked"),
    named("zero width", "zero\u200bwidth"),
    named("NFC", "Café"),
    named("NFD", "Cafe\u0301"),
    named("Hebrew", "שלום בע\u05f4מ"),
    named("Arabic with an override", "\u202eمرحبا\u202c"),
    named("Devanagari", "नमस्ते"),
    named("Hangul jamo", "\u1112\u1161\u11ab"),
    named("plane 0, its last", "\ufffd\uffee"),
    named("plane 1", "𝒳 😀"),
    named("plane 2", "𠀀𪛖"),
    named("plane 3", "\U00030000"),
    named("plane 14", "tag\U000e0041"),
    named("plane 15, private", "\U000f0000"),
    named("plane 16, the last of all", "\U0010ffff"),
    named("a noncharacter", "\uffff"),
    named("a private character", "\ue000"),
    named("a family", "👩\u200d👩\u200d👧"),
    named("a flag", "🇫🇷"),
    named("many marks", "Z" + "\u0301" * 50),
    named("one mark alone", "\u0301"),
    named("Turkish", "İıIi"),
    named("sharp s", "STRASSE straße"),
    named("255 characters", "x" * 255),
    named("256 characters", "x" * 256, "name_long"),
    named("twins", "Twin", "name_duplicate"),
    named("twins again", "Twin", "name_duplicate"),
    named("the longest that fits", "y" * LONGEST_NAME, "name_long"),
    barred(
        "one character too many",
        "z" * (LONGEST_NAME + 1),
        "item_too_large",
        "name_long",
    ),
    barred("410 KB", "w" * 410_000, "item_too_large", "name_long"),
    barred("410 KB of emoji", "😀" * 102_500, "item_too_large", "name_long"),
    barred("no name", None, "name_missing"),
    barred("an empty name", "", "name_blank"),
    barred("one blank", " ", "name_blank"),
    barred("blanks of all kinds", " \t\n\u00a0\u2003\u3000", "name_blank"),
    barred("zero width alone", "\u200b\u200c\u200d", "name_blank"),
    barred("a soft hyphen alone", "\u00ad", "name_blank"),
    barred("a blank Braille pattern", "\u2800", "name_blank"),
    barred("a Hangul filler", "\u3164", "name_blank"),
    barred("overrides alone", "\u202e\u202c", "name_blank"),
    barred("a control alone", "\x01", "name_blank"),
]


def at(
    kind: str,
    created: str | None,
    updated: str | None,
    stamps: tuple[str, str],
    *warnings: str,
) -> Hostile:
    """Create a row with odd times that must arrive, truncated to milliseconds."""
    times = {"created": created, "updated": updated, "stamps": stamps}
    return Hostile(kind, name=kind, warnings=warnings, **times)  # type: ignore[arg-type]


def undated(
    kind: str, created: str | None, updated: str | None, *reasons: str
) -> Hostile:
    """Create a row that is quarantined because of its times."""
    return Hostile(kind, name=kind, created=created, updated=updated, reasons=reasons)


YEAR_1 = "0001-01-01T00:00:00.000Z"
END = "9999-12-31T23:59:59.999Z"
NEW_YEAR = "1999-12-31T23:59:59.999Z"
TIMES = [
    at(
        "microseconds",
        "2024-01-05 12:34:56.789999+00",
        DAY,
        ("2024-01-05T12:34:56.789Z", DAY_STAMP),
    ),
    at(
        "would round to a year",
        "1999-12-31 23:59:59.999999+00",
        DAY,
        (NEW_YEAR, DAY_STAMP),
    ),
    at(
        "one digit of a second",
        "2024-01-05 12:34:56.5+00",
        DAY,
        ("2024-01-05T12:34:56.500Z", DAY_STAMP),
    ),
    at("the first moment", "0001-01-01 00:00:00+00", DAY, (YEAR_1, DAY_STAMP)),
    at(
        "the last moment",
        "9999-12-31 23:59:59.999999+00",
        "9999-12-31 23:59:59.999999+00",
        (END, END),
        *FUTURE,
    ),
    at(
        "year 44",
        "0044-03-15 00:00:00+00",
        DAY,
        ("0044-03-15T00:00:00.000Z", DAY_STAMP),
    ),
    at(
        "a leap day",
        "2000-02-29 00:00:00+00",
        DAY,
        ("2000-02-29T00:00:00.000Z", DAY_STAMP),
    ),
    at(
        "24 o'clock",
        "2023-12-31 24:00:00+00",
        DAY,
        ("2024-01-01T00:00:00.000Z", DAY_STAMP),
    ),
    at(
        "a leap second",
        "2016-12-31 23:59:60+00",
        DAY,
        ("2017-01-01T00:00:00.000Z", DAY_STAMP),
    ),
    at(
        "another zone",
        "2024-02-29 12:00:00+05:30",
        DAY,
        ("2024-02-29T06:30:00.000Z", DAY_STAMP),
    ),
    at(
        "before the epoch",
        "1969-12-31 23:59:59.9999+00",
        DAY,
        ("1969-12-31T23:59:59.999Z", DAY_STAMP),
    ),
    at("no update", DAY, None, (DAY_STAMP, DAY_STAMP)),
    at("no creation", None, DAY, (DAY_STAMP, DAY_STAMP)),
    at(
        "updated before created",
        DAY,
        "2024-02-29 11:59:59.999999+00",
        (DAY_STAMP, "2024-02-29T11:59:59.999Z"),
        BEFORE,
    ),
    at(
        "in the future",
        "2999-01-01 00:00:00+00",
        "2999-01-01 00:00:00+00",
        ("2999-01-01T00:00:00.000Z",) * 2,
        *FUTURE,
    ),
    undated("neither time", None, None, "timestamps_missing"),
    undated("created infinity", "infinity", DAY, "created_date_not_finite"),
    undated("created -infinity", "-infinity", DAY, "created_date_not_finite"),
    undated("updated infinity", DAY, "infinity", "updated_date_not_finite"),
    undated(
        "both infinite",
        "infinity",
        "-infinity",
        "created_date_not_finite",
        "updated_date_not_finite",
    ),
    undated("44 BC", "0044-03-15 00:00:00+00 BC", DAY, "created_date_out_of_range"),
    undated(
        "the last of BC",
        DAY,
        "0001-12-31 23:59:59.999999+00 BC",
        "updated_date_out_of_range",
    ),
    undated("year 10000", "10000-01-01 00:00:00+00", DAY, "created_date_out_of_range"),
    undated(
        "the last timestamptz",
        DAY,
        "294276-12-31 23:59:59.999999+00",
        "updated_date_out_of_range",
    ),
    undated(
        "the first timestamptz",
        "4714-11-24 00:00:00+00 BC",
        DAY,
        "created_date_out_of_range",
    ),
    Hostile(
        "all of it",
        name=" ",
        created=None,
        updated="infinity",
        reasons=("name_blank", "updated_date_not_finite"),
    ),
]
IDS = [
    Hostile("2^53 + 1", name="a", id="9007199254740993"),
    Hostile("2^53 - 1", name="b", id="9007199254740991"),
    Hostile("the greatest id", name="c", id="9223372036854775807"),
    Hostile("the least id", name="d", id="-9223372036854775808"),
    Hostile("the id zero", name="e", id="0"),
    Hostile("the id -1", name="f", id="-1"),
]
HOSTILE = [*NAMES, *TIMES, *IDS]
ROWS = {row.id or str(number): row for number, row in enumerate(HOSTILE, start=1)}


def item_of(source_id: str, row: Hostile) -> dict[str, Any]:
    """Return the item that a row must become, in DynamoDB's form."""
    key = str(uuid5(NAMESPACE, source_id))
    created, updated = row.stamps
    values = {
        "PK": f"ENT#{key}",
        "SK": "METADATA",
        "id": key,
        "enterprise_name": row.name,
        "name": row.name,
        "created_date": created,
        "createdAt": created,
        "updated_date": updated,
        "updatedAt": updated,
        "entity_type": "enterprise",
    }
    return {name: {"S": value} for name, value in values.items()}
