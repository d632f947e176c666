"""The values that a CHECK allows, if it is a list of constants.

PostgreSQL prints ``plan IN ('free', 'pro')`` in one of these forms, by the type of the
column, with casts of the column, of the constants or of the array::

    (plan = ANY (ARRAY['free'::text, 'pro'::text]))
    ((plan)::text = ANY ((ARRAY['free'::character varying, 'pro'::...])::text[]))
    (plan = 'free'::text)
"""

import re

_WORD = r'(?:[^\W\d]\w*|"(?:[^"]|"")+")'
_CAST = rf"::(?:character varying|{_WORD}(?:\.{_WORD})?)"
_CONSTANT = re.compile(
    rf"\(?(?:'((?:[^']|'')*)'|(-?\d+))((?:{_CAST})?)\)?((?:{_CAST})?)"
)
_COMPARED = r"\((?:{0}|\({0}\)::(?:text|bpchar)) = (?:ANY \((.*)\)|(.*))\)"
_ARRAY = re.compile(rf"\(?ARRAY\[(.*?)\](?:\)({_CAST})\[\])?", re.DOTALL)
_LITERAL = re.compile(rf"'((?:[^']|'')*)'({_CAST})\[\]")
_ELEMENT = re.compile(r'(?:"((?:[^"\\]|\\.)*)"|([^\s{},"\\]+))', re.DOTALL)

_TEXTS = {"text", "character varying", "bpchar"}
_INTEGERS = {"smallint", "integer", "bigint"}
# The casts after which a constant still is the text that a column of the type has.
CASTS = {
    "text": _TEXTS - {"bpchar"},
    "varchar": _TEXTS - {"bpchar"},
    "bpchar": _TEXTS,
    "int2": _INTEGERS,
    "int4": _INTEGERS,
    "int8": _INTEGERS,
    "uuid": {"uuid"},
}


def listed_values(
    expression: str, quoted_column: str, base_type: str, *, is_enum: bool = False
) -> tuple[str, ...] | None:
    """Return the values of an expression that compares a column with constants.

    *expression* is what ``pg_get_expr`` prints. Values are PostgreSQL's text of the
    column's values. None if the expression has another form, or if a value of the type
    has several texts that are equal, e.g. 1.5 and 1.50.
    """
    if not is_enum and base_type not in CASTS:
        return None
    form = _COMPARED.format(re.escape(quoted_column))
    match = re.fullmatch(form, expression, re.DOTALL)
    if match is None:
        return None
    several, single = match.groups()
    found = _constants(single) if several is None else _members(several)
    if not found:
        return None
    values = tuple(value for value, _ in found)
    if not is_enum and not {c for _, casts in found for c in casts} <= CASTS[base_type]:
        return None
    if base_type == "bpchar":
        # Blanks at the end of a char(n) have no meaning, and its text has none.
        values = tuple(value.rstrip(" ") for value in values)
    return tuple(dict.fromkeys(values))


def _members(text: str) -> list[tuple[str, list[str]]] | None:
    """Return the constants of an array, each with its casts; None if one is none."""
    array = _ARRAY.fullmatch(text)
    if array is not None:
        found = _constants(array[1])
        casts = _names(array[2])
        return found and [(value, own + casts) for value, own in found]
    literal = _LITERAL.fullmatch(text)
    if literal is None:
        return None
    casts = _names(literal[2])
    values = _elements(literal[1].replace("''", "'"))
    return None if values is None else [(value, casts) for value in values]


def _constants(text: str) -> list[tuple[str, list[str]]] | None:
    """Return constants that are separated by commas, each with its casts."""
    found: list[tuple[str, list[str]]] = []
    place = 0
    while match := _CONSTANT.match(text, place):
        quoted, number, inner, outer = match.groups()
        value = number if quoted is None else quoted.replace("''", "'")
        found.append((value, _names(inner) + _names(outer)))
        place = match.end()
        if place == len(text):
            return found
        if not text.startswith(", ", place):
            return None
        place += 2
    return None


def _elements(text: str) -> list[str] | None:
    """Return the elements of an array's text; None if one is NULL or an array."""
    found: list[str] = []
    place = 1
    while match := _ELEMENT.match(text, place):
        quoted, plain = match.groups()
        if plain is not None and plain.upper() == "NULL":
            # A check that compares with NULL refuses no value.
            return None
        found.append(plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        place = match.end() + 1
        if text[match.end() :] == "}":
            return found
    return None


def _names(cast: str | None) -> list[str]:
    return [cast.removeprefix("::")] if cast else []
