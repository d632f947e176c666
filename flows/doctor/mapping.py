"""Mapping files: one made from the catalogue, and one held against the database."""

from collections.abc import Mapping as Plain
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.extract import extract_enterprises, sample_ids
from flows.mapping import load_mapping, suggest
from flows.mapping.model import Mapping
from flows.mapping.write import write_mapping
from flows.models import Field, PartitionSpec, Report, SourceTable
from flows.prepare import make_items
from flows.settings import Settings, load_settings
from flows.stores.dynamodb.wire import to_wire
from flows.stores.postgres.catalogue import read_catalogue
from flows.stores.postgres.column_roles import find_roles
from flows.stores.postgres.schema import find_columns
from flows.stores.postgres.session import open_source, split_table_name
from flows.stores.postgres.snapshots import describe_held
from flows.stores.postgres.watch import open_watched

# Rows among which the example is looked for.
EXAMPLES = 20
LEFT = "left behind"
HEADER = """\
# Which columns become which attributes of the items, made from PostgreSQL's catalogue.
# A comment marks a line that needs a decision."""


@dataclass(frozen=True)
class CheckedEntity:
    """An entity: what becomes of each column, and the item of one of its rows."""

    source: SourceTable
    # None if none of some rows can be an item.
    example: Plain[str, Any] | None

    @property
    def columns(self) -> dict[str, str]:
        """Return what becomes of each column of the table."""
        becomes = {
            column: ", ".join(self._described(column, names))
            for column, names in self.source.attributes.items()
        }
        return becomes | dict.fromkeys(self.source.columns_not_migrated, LEFT)

    def _described(self, column: str, names: Sequence[str]) -> list[str]:
        found = {n: one for one in self.source.fields for n in one.attributes}
        parts = [
            f"{name} ({_kind_of(found[name])})" if name in found else name
            for name in names
        ]
        return parts or [f"a part of keys ({column})"]

    def asdict(self) -> dict[str, Any]:
        """Return the entity as plain values; the item in DynamoDB's typed form."""
        source = self.source
        return {
            "table": source.name,
            "partition_key": source.partition_key.text,
            "sort_key": source.sort_key.text,
            "where": source.where,
            "columns": self.columns,
            "referring_tables": list(source.tables_left_behind),
            "example": self.example,
        }


@dataclass(frozen=True, repr=False)
class CheckedMapping(Report):
    """All entities of a mapping, as the database has them."""

    entities: tuple[CheckedEntity, ...]
    status: str = "checked"

    @property
    def verdict(self) -> str:
        """Return the number of columns that are moved, as one sentence."""
        moved = sum(len(one.source.attributes) for one in self.entities)
        left = sum(len(one.source.columns_not_migrated) for one in self.entities)
        names = ", ".join(one.source.entity for one in self.entities)
        return f"The mapping of {names} moves {moved} columns and leaves {left} behind."

    def asdict(self) -> dict[str, Any]:
        """Return the mapping as plain values."""
        entities = {one.source.entity: one.asdict() for one in self.entities}
        return {"status": self.status, "statement": self.verdict, "entities": entities}

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the columns of each entity, and an item."""
        tables: list[tuple[str, dict[str, Any]]] = []
        for one in self.entities:
            named = one.source.entity
            tables.append((f"{named}: {one.source.name}", dict(one.columns)))
            tables.append((f"{named}: an item", dict(one.example or {})))
        return [(title, row) for title, row in tables if row]


@dataclass(frozen=True)
class SuggestedMapping:
    """A mapping from the database's catalogue, with comments by key; it prints as TOML.

    A comment marks a line that needs a decision.
    """

    mapping: Mapping
    comments: Plain[str, str]

    def __str__(self) -> str:
        """Return the text of the mapping file."""
        others = {key: text for key, text in self.comments.items() if key}
        top = [f"# {line}" for line in self.comments.get("", "").splitlines()]
        return "\n".join([HEADER, *top, "", write_mapping(self.mapping, others)])


def suggest_mapping(settings: Settings | None = None) -> SuggestedMapping:
    """Suggest a mapping of the source table and the tables that refer to it.

    Raises:
        SettingsError: a setting names a column for two roles, or no table.
        SourceError: the table is missing or cannot be read, or has no usable id.
    """
    settings = settings or load_settings()
    with open_source(settings) as connection:
        # It refuses what is not a table, with the remedy.
        find_columns(connection, settings)
        root = split_table_name(settings.source_table)
        tables = read_catalogue(connection, root)
    roles = find_roles(tables, settings)
    return SuggestedMapping(*suggest.suggest_mapping(tables, roles))


def check_mapping(settings: Settings | None = None) -> CheckedMapping:
    """Resolve the mapping against the database, and make an item of each entity.

    Raises:
        Refused: the mapping does not fit the database, which cannot be read.
    """
    settings = settings or load_settings()
    mapping = load_mapping(settings)
    with open_watched(settings) as (connection, _):
        sources = describe_held(connection, settings, mapping)
        return CheckedMapping(
            tuple(
                CheckedEntity(source, _make_example(connection, source, settings))
                for source in sources
            )
        )


def _make_example(
    connection: Connection, source: SourceTable, settings: Settings
) -> dict[str, Any] | None:
    ids = sample_ids(connection, source, EXAMPLES)
    rows = extract_enterprises(connection, PartitionSpec("check", 1, source, ids=ids))
    items: list[Any] = make_items(rows, source, settings).items.to_dict("records")
    own = source.attributes_with(provenance=settings.item_provenance)
    for item in items[:1]:
        return to_wire({name: item[name] for name in own if item[name] is not None})
    return None


def _kind_of(one: Field) -> str:
    """Return type and rules of an attribute, for people."""
    if one.reference:
        return f"id of {one.reference.entity}"
    rules = one.rules
    named = {
        "required": rules.required,
        "unique": rules.unique,
        "NULL kept": one.keep_null,
        f"one of {len(rules.one_of)}": rules.one_of,
        f"at least {rules.minimum}": rules.minimum is not None,
        f"at most {rules.maximum}": rules.maximum is not None,
        "by a pattern": rules.matches is not None,
    }
    return "; ".join([one.type, *(name for name, there in named.items() if there)])
