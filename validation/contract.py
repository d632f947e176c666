r"""The contract of a row and of an item: columns, patterns, limits and reasons.

A pattern holds for a whole value (`re.fullmatch`), so it carries no anchors, and
it uses only syntax that Python's `re` and RE2 (Arrow) share: no `\s`, no `\d`, no
`\u` escapes, no `$`.
"""

from enum import StrEnum
from typing import Final

SOURCE_SUITE: Final = "source_enterprises"
ITEM_SUITE: Final = "enterprise_items"
TABLE_SUITE: Final = "source_table"

SOURCE_COLUMNS: Final = ("source_id", "enterprise_name", "created_date", "updated_date")
# Flags of rows: another row of the table makes the same id, or the same key; and, with
# the column's name after it, that the row to which a column refers is not there.
ID_DUPLICATE_COLUMN: Final = "id_duplicate"
KEY_DUPLICATE_COLUMN: Final = "key_duplicate"
REFERENCE_MISSING: Final = "reference_missing:"

ITEM_ATTRIBUTES: Final = (
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
# Two more, if a setting requests them: a boolean, and the source id as a number.
FLAG_ATTRIBUTE: Final = "migrated_from_pg"
NUMBER_ATTRIBUTE: Final = "original_pg_id"
KEY_PREFIX: Final = "ENT#"
SORT_KEY: Final = "METADATA"
ENTITY_TYPE: Final = "enterprise"

# DynamoDB counts attribute names and values in UTF-8; the limit itself is allowed.
MAX_ITEM_BYTES: Final = 409_600
MAX_PARTITION_KEY_BYTES: Final = 2_048
MAX_SORT_KEY_BYTES: Final = 1_024
USUAL_NAME_CHARACTERS: Final = 255
# The share of the last run's rows by which a table may usually grow or shrink.
USUAL_ROW_CHANGE: Final = 0.2

# A UUID in any case and with any hyphens, as a source may spell it.
_DIGITS: Final = "(?:-*[0-9a-fA-F]){32}-*"
UUID_TEXT: Final = rf"{_DIGITS}|\{{{_DIGITS}\}}"
UUID_PATTERN: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
DERIVED_UUID_PATTERN: Final = (
    "[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)

_TIME: Final = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_YEAR: Final = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP_YEAR: Final = (
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
)
_MONTH_AND_DAY: Final = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
ITEM_TIMESTAMP_PATTERN: Final = (
    f"(?:{_YEAR}-{_MONTH_AND_DAY}|{_LEAP_YEAR}-02-29)T{_TIME}[.][0-9]{{3}}Z"
)

INFINITIES: Final = ("infinity", "-infinity")
_DAY: Final = "(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_MOMENT: Final = f" {_TIME}(?:[.][0-9]{{1,6}})?"
# Matches nearly every moment; only the others need the patterns below.
PLAIN_TIMESTAMP_PATTERN: Final = f"{_YEAR}-{_DAY}{_MOMENT}[+]00"
# A day or a local time beyond the range of timestamptz arrives unchanged.
SOURCE_TIMESTAMP_PATTERN: Final = (
    f"[0-9]{{4,6}}-{_DAY}{_MOMENT}[+]00(?: BC)?"
    f"|[0-9]{{5,7}}-{_DAY}(?:{_MOMENT})?|[0-9]{{4}}-{_DAY}(?:{_MOMENT})? BC"
)
SOURCE_YEAR_PATTERN: Final = f"{_YEAR}-[^B]*"
# The same for dates.
PLAIN_DATE_PATTERN: Final = f"{_YEAR}-{_DAY}"
SOURCE_DATE_PATTERN: Final = f"[0-9]{{4,7}}-{_DAY}(?: BC)?"

# Unicode's White_Space, as the inside of a character class.
BLANKS: Final = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
CONTROL_CHARACTER_PATTERN: Final = "[\x00-\x1f\x7f-\x9f]"

# Unicode 16: White_Space, Cc, Default_Ignorable_Code_Point, the invisible Cf, and
# two characters that are drawn as nothing (U+2800, U+1D159). The visible Cf, such as
# U+06DD, are left out.
INVISIBLE_RANGES: Final = (
    (0x0000, 0x0020),
    (0x007F, 0x00A0),
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x1680, 0x1680),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2000, 0x200F),
    (0x2028, 0x202F),
    (0x205F, 0x206F),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D159, 0x1D159),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
# The same for PostgreSQL, whose text has no U+0000 and whose patterns accept escapes.
SQL_VISIBLE_CHARACTER_PATTERN: Final = (
    "[^" + "".join(f"\\U{max(a, 1):08X}-\\U{z:08X}" for a, z in INVISIBLE_RANGES) + "]"
)
_INVISIBLE: Final = "".join(f"{chr(a)}-{chr(z)}" for a, z in INVISIBLE_RANGES)
VISIBLE_CHARACTER_PATTERN: Final = f"[^{_INVISIBLE}]"


class Severity(StrEnum):
    """The severity of a broken rule."""

    CRITICAL = "critical"
    """The row cannot be migrated: it goes to quarantine."""
    WARNING = "warning"
    """The row is migrated and the report names it."""


class Reason(StrEnum):
    """The reason why a row failed, as a stable code.

    The order of the members is the order in which a row's reasons are written.
    """

    ID_MISSING = "id_missing"
    ID_DUPLICATE = "id_duplicate"
    ATTRIBUTE_MISSING = "attribute_missing"
    KEY_MISMATCH = "key_mismatch"
    SORT_KEY_WRONG = "sort_key_wrong"
    ENTITY_TYPE_WRONG = "entity_type_wrong"
    ID_MALFORMED = "id_malformed"
    ITEM_DUPLICATE = "item_duplicate"
    NAME_MISSING = "name_missing"
    NAME_BLANK = "name_blank"
    NAME_NOT_UNICODE = "name_not_unicode"
    NAME_TWINS_DIFFER = "name_twins_differ"
    CREATED_DATE_NOT_FINITE = "created_date_not_finite"
    CREATED_DATE_OUT_OF_RANGE = "created_date_out_of_range"
    CREATED_DATE_MALFORMED = "created_date_malformed"
    CREATED_TWINS_DIFFER = "created_twins_differ"
    UPDATED_DATE_NOT_FINITE = "updated_date_not_finite"
    UPDATED_DATE_OUT_OF_RANGE = "updated_date_out_of_range"
    UPDATED_DATE_MALFORMED = "updated_date_malformed"
    UPDATED_TWINS_DIFFER = "updated_twins_differ"
    TIMESTAMPS_MISSING = "timestamps_missing"
    ITEM_TOO_LARGE = "item_too_large"
    INDEX_KEY_TOO_LONG = "index_key_too_long"
    ID_NOT_DERIVED = "id_not_derived"
    NAME_PADDED = "name_padded"
    NAME_CONTROL_CHARACTERS = "name_control_characters"
    NAME_LONG = "name_long"
    NAME_DUPLICATE = "name_duplicate"
    CREATED_DATE_IN_FUTURE = "created_date_in_future"
    UPDATED_DATE_IN_FUTURE = "updated_date_in_future"
    UPDATED_BEFORE_CREATED = "updated_before_created"
    ROW_COUNT_UNUSUAL = "row_count_unusual"

    @property
    def column(self) -> str:
        """Return the column that the reason concerns."""
        return _RULES[self][0]

    @property
    def description(self) -> str:
        """Return the rule as a sentence."""
        return _RULES[self][1]

    @property
    def severity(self) -> Severity:
        """Return the severity: a critical reason prevents a row from being moved."""
        return Severity.WARNING if self in _WARNINGS else Severity.CRITICAL


_RULES: Final = {
    Reason.ID_MISSING: ("source_id", "The row has an id."),
    Reason.ID_DUPLICATE: ("source_id", "No other row of the table has this id."),
    Reason.ATTRIBUTE_MISSING: (
        "PK",
        "All ten attributes of the item are there, and each is a string.",
    ),
    Reason.KEY_MISMATCH: ("PK", "The partition key is ENT# followed by the item's id."),
    Reason.SORT_KEY_WRONG: ("SK", "The sort key is METADATA."),
    Reason.ENTITY_TYPE_WRONG: (
        "entity_type",
        "The item says that it is an enterprise.",
    ),
    Reason.ID_MALFORMED: ("id", "The id is a UUID in canonical lower case."),
    Reason.ITEM_DUPLICATE: ("id", "No other item has this id."),
    Reason.NAME_MISSING: ("enterprise_name", "The name is not NULL."),
    Reason.NAME_BLANK: (
        "enterprise_name",
        "The name has at least one character that can be seen.",
    ),
    Reason.NAME_NOT_UNICODE: (
        "enterprise_name",
        "The name can be written as UTF-8: it holds no lone surrogate.",
    ),
    Reason.NAME_TWINS_DIFFER: ("name", "name and enterprise_name are the same text."),
    Reason.CREATED_DATE_NOT_FINITE: (
        "created_date",
        "created_date is a moment, not infinity.",
    ),
    Reason.CREATED_DATE_OUT_OF_RANGE: (
        "created_date",
        "created_date lies in the years 0001 to 9999.",
    ),
    Reason.CREATED_DATE_MALFORMED: (
        "created_date",
        "created_date is spelt as its store spells a moment in UTC.",
    ),
    Reason.CREATED_TWINS_DIFFER: (
        "createdAt",
        "createdAt and created_date are the same text.",
    ),
    Reason.UPDATED_DATE_NOT_FINITE: (
        "updated_date",
        "updated_date is a moment, not infinity.",
    ),
    Reason.UPDATED_DATE_OUT_OF_RANGE: (
        "updated_date",
        "updated_date lies in the years 0001 to 9999.",
    ),
    Reason.UPDATED_DATE_MALFORMED: (
        "updated_date",
        "updated_date is spelt as its store spells a moment in UTC.",
    ),
    Reason.UPDATED_TWINS_DIFFER: (
        "updatedAt",
        "updatedAt and updated_date are the same text.",
    ),
    Reason.TIMESTAMPS_MISSING: (
        "created_date",
        "The row has a created_date or an updated_date.",
    ),
    Reason.ITEM_TOO_LARGE: (
        "enterprise_name",
        "The item is within DynamoDB's limit of 409,600 bytes.",
    ),
    Reason.INDEX_KEY_TOO_LONG: (
        "enterprise_name",
        "A name that is the key of an index is no longer than such a key may be.",
    ),
    Reason.ID_NOT_DERIVED: (
        "id",
        "The id of an integer source id is its version 5 UUID under the namespace.",
    ),
    Reason.NAME_PADDED: (
        "enterprise_name",
        "The name neither begins nor ends with a blank.",
    ),
    Reason.NAME_CONTROL_CHARACTERS: (
        "enterprise_name",
        "The name holds no control character, such as a line end or a tabulator.",
    ),
    Reason.NAME_LONG: ("enterprise_name", "The name has at most 255 characters."),
    Reason.NAME_DUPLICATE: ("enterprise_name", "No other row has the same name."),
    Reason.CREATED_DATE_IN_FUTURE: (
        "created_date",
        "created_date is not in the future.",
    ),
    Reason.UPDATED_DATE_IN_FUTURE: (
        "updated_date",
        "updated_date is not in the future.",
    ),
    Reason.UPDATED_BEFORE_CREATED: (
        "updated_date",
        "updated_date is not before created_date.",
    ),
    Reason.ROW_COUNT_UNUSUAL: (
        "source_id",
        "The table has, within a fifth, as many rows as in the last run.",
    ),
}
_WARNINGS: Final = frozenset(
    {
        Reason.NAME_PADDED,
        Reason.NAME_CONTROL_CHARACTERS,
        Reason.NAME_LONG,
        Reason.NAME_DUPLICATE,
        Reason.CREATED_DATE_IN_FUTURE,
        Reason.UPDATED_DATE_IN_FUTURE,
        Reason.UPDATED_BEFORE_CREATED,
        Reason.ROW_COUNT_UNUSUAL,
    }
)

SUITE_REASONS: Final = {
    SOURCE_SUITE: (
        Reason.ID_MISSING,
        Reason.ID_DUPLICATE,
        Reason.NAME_MISSING,
        Reason.NAME_BLANK,
        Reason.NAME_NOT_UNICODE,
        Reason.CREATED_DATE_NOT_FINITE,
        Reason.CREATED_DATE_MALFORMED,
        Reason.CREATED_DATE_OUT_OF_RANGE,
        Reason.UPDATED_DATE_NOT_FINITE,
        Reason.UPDATED_DATE_MALFORMED,
        Reason.UPDATED_DATE_OUT_OF_RANGE,
        Reason.TIMESTAMPS_MISSING,
        Reason.NAME_PADDED,
        Reason.NAME_CONTROL_CHARACTERS,
        Reason.NAME_LONG,
        Reason.NAME_DUPLICATE,
        Reason.CREATED_DATE_IN_FUTURE,
        Reason.UPDATED_DATE_IN_FUTURE,
        Reason.UPDATED_BEFORE_CREATED,
    ),
    ITEM_SUITE: (
        Reason.ATTRIBUTE_MISSING,
        Reason.KEY_MISMATCH,
        Reason.SORT_KEY_WRONG,
        Reason.ENTITY_TYPE_WRONG,
        Reason.ID_MALFORMED,
        Reason.ITEM_DUPLICATE,
        Reason.ID_NOT_DERIVED,
        Reason.NAME_BLANK,
        Reason.NAME_NOT_UNICODE,
        Reason.NAME_TWINS_DIFFER,
        Reason.CREATED_DATE_MALFORMED,
        Reason.CREATED_TWINS_DIFFER,
        Reason.UPDATED_DATE_MALFORMED,
        Reason.UPDATED_TWINS_DIFFER,
        Reason.ITEM_TOO_LARGE,
        Reason.INDEX_KEY_TOO_LONG,
    ),
}
