"""A mapping that is suggested by a database's catalogue, with what must be decided.

The first table is that of the enterprises: its entity has the keys and attributes of
the built-in mapping, and its other columns under their names. A table that refers to it
shares the partition of its enterprise; each other one has partitions of the row that it
refers to.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flows.mapping.catalogue import (
    CatalogueColumn,
    CatalogueTable,
    ForeignKey,
    Roles,
    TableName,
)
from flows.mapping.model import (
    ENTERPRISE,
    RESERVED,
    Attribute,
    Entity,
    Mapping as EntityMapping,
    enterprise_entity,
)
