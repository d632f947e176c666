"""A mapping that is suggested by a database's catalogue, and what must be decided."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from flows.mapping.catalogue import CatalogueTable, Roles, TableName
from flows.mapping.draft import Draft
from flows.mapping.model import Mapping as EntityMapping
from flows.mapping.moved_tables import choose_tables, describe_left_out

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def suggest_mapping(
    tables: Sequence[CatalogueTable], roles: Mapping[TableName, Roles]
) -> tuple[EntityMapping, dict[str, str]]:
    """Suggest a mapping of tables, of which the first is that of the enterprises.

    Its entity has the keys and attributes of the built-in mapping, and its other
    columns under their names. A table that refers to it shares the partition of its
    enterprise. A table that refers only to another one has a partition for each row
    that it refers to.

    *roles* has for each table the columns that can be its id, its name and its times.
    The comments are by the key of their line, spelled as in TOML, e.g.
    ``product.attributes.price``. That of ``product`` is about the entity; that of the
    empty key is about tables that are left out, with a line for each.
    """
    moved = choose_tables(tables, roles)
    comments: dict[str, str] = {}
    if left_out := list(describe_left_out(tables, roles)):
        comments[""] = "\n".join(left_out)
    entities = {}
    for name, entity in moved.entities.items():
        draft = Draft(moved.tables[name], roles[name], moved)
        entities[entity] = draft.entity
        for path, texts in draft.comments.items():
            comments[_spell_path([entity, *path])] = "; ".join(texts)
    return EntityMapping(entities=entities), comments


def _spell_path(keys: Iterable[str]) -> str:
    return ".".join(
        key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
        for key in keys
    )
