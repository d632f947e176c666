"""The form of a mapping: entities, their tables and keys, and their attributes.

The form is frozen: keys may be added, and are never renamed.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)

from flows.mapping.template import Template

FieldType: TypeAlias = Literal[
    "text",
    "number",
    "boolean",
    "timestamp",
    "date",
    "json",
    "list",
    "string_set",
    "number_set",
    "binary",
]
Severity: TypeAlias = Literal["critical", "warning"]

# The types whose values can be a part of a key.
KEY_TYPES: tuple[FieldType, ...] = ("text", "number", "boolean", "timestamp", "date")
ENTERPRISE = "enterprise"
CREATED, UPDATED = "created_date", "updated_date"
TIMES = {CREATED: (CREATED, "createdAt"), UPDATED: (UPDATED, "updatedAt")}
# Attributes that the program makes, and columns that it adds to frames and files.
RESERVED = frozenset(
    {
        "PK",
        "SK",
        "id",
        "entity_type",
        *TIMES[CREATED],
        *TIMES[UPDATED],
        "migrated_from_pg",
        "original_pg_id",
        "source_id",
        "reasons",
        "partition",
        "store_reason",
        "entity",
        "id_duplicate",
        "key_duplicate",
    }
)


def _as_text(value: object) -> object:
    """Return a bound or a value of a list as text; TOML has numbers and times too."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, (str, list, dict)):
        return value
    return str(value)


Text: TypeAlias = Annotated[str, BeforeValidator(_as_text)]


class Form(BaseModel):
    """Base of the parts of a mapping: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Attribute(Form):
    """An attribute: the column or the template that it is made of, and its rules."""

    column: str | None = None
    template: str | None = None
    type: FieldType | None = None
    null: Literal["omit", "keep"] = "omit"
    refers_to: str | None = None
    # The rules of an enterprise's name.
    is_name: StrictBool = False
    required: StrictBool = False
    one_of: tuple[Text, ...] = ()
    matches: str | None = None
    min_length: StrictInt | None = Field(default=None, ge=0)
    max_length: StrictInt | None = Field(default=None, ge=0)
    minimum: Text | None = None
    maximum: Text | None = None
    unique: StrictBool = False
    severity: Severity | None = None

    @model_validator(mode="before")
    @classmethod
    def _column_alone(cls, value: object) -> object:
        return {"column": value} if isinstance(value, str) else value


class Entity(Form):
    """An entity: its table, its keys, its times, and its attributes."""

    table: str
    id: str
    partition_key: str
    sort_key: str
    created: str | None = None
    updated: str | None = None
    where: str | None = None
    other_columns: Literal["leave", "carry"] = "leave"
    attributes: dict[str, Attribute] = Field(default_factory=dict)

    @property
    def keys(self) -> tuple[Template, Template]:
        """Return the templates of both keys."""
        return Template.parse(self.partition_key), Template.parse(self.sort_key)


class Mapping(Form):
    """The entities by name, in the order in which they are moved.

    *path* is the file that it was read from; None for the built-in mapping.
    """

    entities: dict[str, Entity]
    path: str | None = None

    @property
    def partition_keys(self) -> tuple[Template, ...]:
        """Return the templates of the partition keys, each once."""
        keys = (entity.keys[0] for entity in self.entities.values())
        return tuple(dict.fromkeys(keys))


def enterprise_entity(
    *,
    table: str,
    id_column: str,
    name: str,
    created: str,
    updated: str,
) -> Entity:
    """Return the built-in mapping of enterprises, for these columns."""
    return Entity(
        table=table,
        id=id_column,
        partition_key="ENT#{id}",
        sort_key="METADATA",
        created=created,
        updated=updated,
        attributes={
            "enterprise_name": Attribute(column=name, required=True, is_name=True),
            "name": Attribute(column=name),
        },
    )
