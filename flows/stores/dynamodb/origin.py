"""The origin of the table's items: the source, the rule of their ids, the mapping."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flows.errors import ConditionFailed, OriginError
from flows.mapping.compare import changes_between
from flows.models import ENTITY_TYPE, Attribute, Item, SourceTable
from flows.models.values import dump
from flows.settings import Settings
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable

ORIGIN = "ORIGIN"
MAPPING = "mapping"
# A message names that many changes of a mapping.
SHOWN_CHANGES = 10


def origin_item(
    settings: Settings,
    sources: Sequence[SourceTable],
    mapping: Mapping[str, Any] | None,
) -> Item:
    """Return the item that records how the table's items are made.

    *sources* are the tables of all entities of the mapping, of which the one of
    enterprises, or else the first, is recorded. *mapping* is the plain mapping of the
    mapping file; None stands for the built-in one.
    """
    ours = (source for source in sources if source.entity == ENTITY_TYPE)
    source = next(ours, sources[0])
    item: Item = {
        "PK": OWN_PARTITION,
        "SK": ORIGIN,
        "namespace": str(settings.id_namespace),
        "source_table": source.name,
        "id_column": source.id_column,
    }
    return item if mapping is None else item | {MAPPING: dump(mapping)}


def require_origin(
    table: EnterpriseTable, origin: Item, *, accept_mapping: bool = False
) -> None:
    """Refuse a table that was filled by another rule, source or mapping.

    With *accept_mapping* another mapping is accepted.

    Raises:
        OriginError: the recorded origin differs; a run would duplicate the items, or
            make them in another way.
    """
    recorded = table.get_own(ORIGIN)
    if recorded is None:
        return
    _require_rule(table, recorded, origin)
    if not accept_mapping:
        _require_mapping(table, recorded, origin)


def record_origin(
    table: EnterpriseTable, origin: Item, *, accept_mapping: bool = False
) -> None:
    """Write the origin, once; with *accept_mapping*, replace another mapping.

    Raises:
        OriginError: the recorded origin differs, or another run recorded a different
            one meanwhile.
        TargetError: the table refuses the origin.
    """
    for attempt in table.attempts(ConditionFailed):
        with attempt:
            recorded = table.get_own(ORIGIN)
            if recorded is None:
                with table.writing_own():
                    table.create(origin)
            elif accept_mapping and _compare_mappings(recorded, origin):
                _require_rule(table, recorded, origin)
                change = {name: origin.get(name) for name in ("PK", "SK", MAPPING)}
                with table.writing_own():
                    table.update(change, recorded)
    require_origin(table, origin)


def _require_rule(
    table: EnterpriseTable, recorded: Mapping[str, Attribute], origin: Item
) -> None:
    """Raise unless the ids of both origins are derived by one rule from one source."""
    for name, value in origin.items():
        if name != MAPPING and recorded.get(name) != value:
            message = (
                f"The table's items come from {name} {recorded.get(name)}, this run's"
                f" would come from {value}: {table.where}."
            )
            names = (
                "ID_NAMESPACE, and table and id in the mapping file,"
                if MAPPING in origin
                else "ID_NAMESPACE, SOURCE_TABLE and SOURCE_ID_COLUMN"
            )
            raise OriginError(message, f"Set {names} as before, or name another table.")


def _require_mapping(
    table: EnterpriseTable, recorded: Mapping[str, Attribute], origin: Item
) -> None:
    """Raise unless both origins have the same mapping."""
    changes = _compare_mappings(recorded, origin)
    if not changes:
        return
    more = len(changes) - SHOWN_CHANGES
    shown = "; ".join(changes[:SHOWN_CHANGES])
    what = f"{shown}; and {more} more changes" if more > 0 else shown
    message = f"The table's items are made by another mapping: {what}: {table.where}."
    remedy = "Set MAPPING_FILE as before, or accept the other mapping: --accept-mapping"
    raise OriginError(message, remedy)


def _compare_mappings(
    recorded: Mapping[str, Attribute], origin: Mapping[str, Attribute]
) -> list[str]:
    """Return what differs between the mappings of two origins."""
    old, new = recorded.get(MAPPING), origin.get(MAPPING)
    if old == new:
        return []
    if old is None:
        return ["the built-in mapping before, a mapping file now"]
    if new is None:
        return ["a mapping file before, the built-in mapping now"]
    try:
        return changes_between(json.loads(old), json.loads(new))
    except (AttributeError, TypeError, ValueError):
        return ["the recorded mapping is unreadable"]
