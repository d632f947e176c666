"""The subject of a validation: the columns of an entity's rows, and their rules."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Severity: TypeAlias = Literal["critical", "warning"]


@dataclass(frozen=True)
class ColumnRules:
    """A column of rows, what it becomes, and the rules that its values must follow.

    *type* is what its values become in an item: text, number, boolean, timestamp, date,
    json, list, string_set, number_set or binary. The rows hold PostgreSQL's text.
    """

    name: str
    type: str = "text"
    # The attributes of an item that have the value; several have the same one.
    attributes: tuple[str, ...] = ()
    # What the elements of a list become.
    element: str = "text"
    # PostgreSQL's type, which decides how a text is read.
    pg_type: str = "text"
    keep_null: bool = False
    # Whether the value becomes the id of what it refers to.
    is_reference: bool = False
    # Whether what it refers to has UUIDs, and its own text may be none.
    is_uuid: bool = False
    # Whether the partition key or the sort key is made of it.
    in_key: bool = False
    is_name: bool = False
    required: bool = False
    one_of: tuple[str, ...] = ()
    matches: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    minimum: str | None = None
    maximum: str | None = None
    unique: bool = False
    severity: Severity | None = None


@dataclass(frozen=True)
class Subject:
    """An entity: the columns of its rows, its times, and the form of its keys.

    A key is a sequence of constant texts, each with the name that follows it: ``id``,
    or the name of a column; None after the last one.
    """

    entity: str = "enterprise"
    columns: tuple[ColumnRules, ...] = ()
    created: bool = True
    updated: bool = True
    partition_key: tuple[tuple[str, str | None], ...] = (("ENT#", "id"),)
    sort_key: tuple[tuple[str, str | None], ...] = (("METADATA", None),)
    # Attributes that are made by a template.
    templates: tuple[str, ...] = ()


ENTERPRISES: Final = Subject(
    columns=(
        ColumnRules(
            "enterprise_name",
            attributes=("enterprise_name", "name"),
            is_name=True,
            required=True,
        ),
    )
)
