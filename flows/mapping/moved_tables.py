"""The tables that a suggested mapping moves: which, in which order, by which names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flows.mapping.catalogue import CatalogueTable, ForeignKey, Roles, TableName
from flows.mapping.naming import name_entities, name_prefixes, spell_table


@dataclass(frozen=True)
class MovedTables:
    """The tables that become entities, the root first, with what they are called."""

    root: TableName
    tables: Mapping[TableName, CatalogueTable]
    entities: Mapping[TableName, str]
    # The beginning of their keys, e.g. PROD.
    prefixes: Mapping[TableName, str]
    ids: Mapping[TableName, str]

    def referred(self, table: CatalogueTable, key: ForeignKey) -> str | None:
        """Return the entity whose ids a foreign key has; None if there is none."""
        if self.ids.get(key.table) != key.target[0]:
            return None
        target = self.tables[key.table].by_name[key.target[0]]
        column = table.by_name[key.columns[0]]
        # A UUID may be stored as a text on either side, and is never an integer.
        same = (column.id_kind == "integer") is (target.id_kind == "integer")
        return self.entities[key.table] if column.id_kind and same else None

    def parents(self, table: CatalogueTable) -> list[ForeignKey]:
        """Return the references of which a partition key can be made, the best first.

        The root comes first, then the tables in their order. Of two references to one
        table a column without NULL comes first.
        """
        order = {name: place for place, name in enumerate(self.tables)}

        def rank(key: ForeignKey) -> tuple[int, bool]:
            return order[key.table], not table.by_name[key.columns[0]].not_null

        # A table that follows refers to this one itself, or to one that follows.
        fitting = (
            key
            for key in table.references
            if self.referred(table, key) and order[key.table] < order[table.name]
        )
        return sorted(fitting, key=rank)


def choose_tables(
    tables: Sequence[CatalogueTable], roles: Mapping[TableName, Roles]
) -> MovedTables:
    """Choose the tables that can be moved; each follows a table that it refers to.

    The first table is the root, and needs an id.
    """
    root, *others = tables
    usable = {t.name: t for t in others if not _why_left_out(t, roles[t.name])}
    placed = {root.name: root}
    # A table that refers only to one that is left out comes last.
    while len(placed) <= len(usable):
        left = {name: one for name, one in usable.items() if name not in placed}
        reached = {
            name: one
            for name, one in left.items()
            if any(key.table in placed for key in one.references)
        }
        placed |= reached or left
    entities = name_entities(root.name, [name for name in placed if name != root.name])
    ids = {name: roles[name]["id"][0] for name in placed}
    return MovedTables(root.name, placed, entities, name_prefixes(entities), ids)


def describe_left_out(
    tables: Sequence[CatalogueTable], roles: Mapping[TableName, Roles]
) -> Iterator[str]:
    """Yield a sentence for each table that refers to others and cannot be moved."""
    for table in tables:
        name = spell_table(table.name)
        if why := _why_left_out(table, roles[table.name]):
            yield f"{name} is left out: {why}."
        for other in table.composite_referrers:
            referrer = spell_table(other)
            yield f"{referrer} is left out: it refers to {name} by several columns."


def _why_left_out(table: CatalogueTable, roles: Roles) -> str:
    if not roles["id"]:
        return "its ids need a unique, not-null column of type integer, uuid or text"
    if table.inherited:
        return "it has inherited tables, whose rows may repeat its ids"
    return ""
