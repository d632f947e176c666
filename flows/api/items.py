"""Conversion between items of the table and enterprises of the service."""

from flows.api.store import Enterprise, next_stamp
from flows.models import ENTITY_TYPE, KEY_PREFIX, SORT_KEY, Item


def new_item(new_id: str, name: str) -> Item:
    """Return the item of an enterprise that is created now."""
    now = next_stamp(None)
    return {
        "PK": KEY_PREFIX + new_id,
        "SK": SORT_KEY,
        "id": new_id,
        "enterprise_name": name,
        "name": name,
        "created_date": now,
        "createdAt": now,
        "updated_date": now,
        "updatedAt": now,
        "entity_type": ENTITY_TYPE,
    }


def renamed(seen: Item, name: str, stamp: str) -> Item:
    """Return the attributes that a rename sets in an item."""
    return {
        "PK": seen["PK"],
        "SK": seen["SK"],
        "enterprise_name": name,
        "name": name,
        "updated_date": stamp,
        "updatedAt": stamp,
        "entity_type": ENTITY_TYPE,
    }


def as_enterprise(item: Item) -> Enterprise:
    """Convert an item, also of older tools: a missing time is set to the other one."""
    created = _text(item, "createdAt", "created_date")
    updated = _text(item, "updatedAt", "updated_date")
    return Enterprise(
        str(item["PK"]).removeprefix(KEY_PREFIX),
        _text(item, "name", "enterprise_name"),
        created or updated,
        updated or created,
    )


def _text(item: Item, *names: str) -> str | None:
    for name in names:
        value = item.get(name)
        if isinstance(value, str):
            # Some stores keep lone surrogates, which JSON in UTF-8 cannot.
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return None
