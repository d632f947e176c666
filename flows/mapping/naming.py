"""Names of a suggested mapping: of entities, of their keys, and of attributes."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from itertools import chain, count

from flows.mapping.catalogue import TableName
from flows.mapping.model import ENTERPRISE, RESERVED

# Characters that a name in the braces of a template cannot have.
_NOT_IN_BRACES = re.compile(r"[{}\[\]!:]")
_NOT_IN_ENTITY = re.compile(r"[^A-Za-z0-9_.-]")
_PREFIX_LENGTH = 4
# The longest entity_type of a mapping file.
_ENTITY_LENGTH = 64
_ADDED = "_column"


def singular(name: str) -> str:
    """Return the singular of an English plural, by the form of its ending."""
    lower = name.lower()
    if lower.endswith("ies"):
        return name[:-3] + ("Y" if name.isupper() else "y")
    # As of address, box, branch and status, but not of course and warehouse.
    if re.search(r"(ss|x|ch|sh|[^aeo]us)es$", lower):
        return name[:-2]
    singular_already = lower.endswith(("ss", "us", "is"))
    return name[:-1] if lower.endswith("s") and not singular_already else name


def name_entities(root: TableName, others: Iterable[TableName]) -> dict[TableName, str]:
    """Return a unique entity for each table; that of the root is ``enterprise``."""
    entities = {root: ENTERPRISE}
    for schema, table in others:
        name = _as_entity(singular(table))
        longer = _as_entity(f"{schema}_{singular(table)}")
        numbered = (f"{longer}_{number}" for number in count(2))
        taken = entities.values()
        free = (one for one in chain((name, longer), numbered) if one not in taken)
        entities[schema, table] = next(free)
    return entities


def name_prefixes(entities: Mapping[TableName, str]) -> dict[TableName, str]:
    """Return a unique prefix for the keys of each entity, e.g. ``PROD`` of product."""
    prefixes: dict[TableName, str] = {}
    for table, entity in entities.items():
        if entity == ENTERPRISE:
            prefixes[table] = "ENT"
            continue
        letters = re.sub(r"[^A-Z0-9]", "", entity.upper())
        lengths = range(_PREFIX_LENGTH, max(len(letters), _PREFIX_LENGTH) + 1)
        longer = (letters[:length] for length in lengths)
        numbered = (f"{letters[:_PREFIX_LENGTH]}{number}" for number in count(2))
        taken = prefixes.values()
        free = (one for one in chain(longer, numbered) if one not in taken)
        prefixes[table] = next(free)
    return prefixes


def name_attribute(column: str, taken: Collection[str]) -> str:
    """Return the attribute of a column: its own name, unless that cannot be one."""
    name = _NOT_IN_BRACES.sub("_", column)
    while name in RESERVED or name in taken:
        name += _ADDED
    return name


def spell_table(name: TableName) -> str:
    """Return a table's name as a mapping file and ``SOURCE_TABLE`` have it."""
    return ".".join(map(_spell_part, name))


def _spell_part(part: str) -> str:
    # Elsewhere than in SQL, names without quotes keep their capitals.
    plain = part.strip() == part and not {'"', "."} & set(part)
    return part if plain else '"' + part.replace('"', '""') + '"'


def _as_entity(name: str) -> str:
    """Return a name with only the characters that an entity_type may have."""
    decomposed = unicodedata.normalize("NFKD", name)
    bare = "".join(one for one in decomposed if not unicodedata.combining(one))
    plain = _NOT_IN_ENTITY.sub("_", bare)[: _ENTITY_LENGTH - len(_ADDED)]
    return plain if re.search(r"[A-Za-z0-9]", plain) else "row"
