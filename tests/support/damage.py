"""Nine manual differences between source and target that no count shows."""

from typing import Any

from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from tests.support.target_table import LATER, put

GHOST = "00000000-0000-4000-8000-000000000001"


def change(table: EnterpriseTable, item: dict[str, Any], **attributes: Any) -> None:
    """Change attributes of an item behind the program's back; None removes one."""
    changed = {k: v for k, v in (item | attributes).items() if v is not None}
    put(table, changed)


def drop(table: EnterpriseTable, item: dict[str, Any]) -> None:
    """Delete an item behind the program's back."""
    key: Any = to_wire({"PK": item["PK"], "SK": item["SK"]})
    table.client.delete_item(TableName=table.name, Key=key)


def damage(table: EnterpriseTable, loaded: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Apply differences that no count shows; return a ghost that was added."""
    one, two, three, four, five, six, seven, eight = (
        loaded[f"Enterprise {n}"] for n in range(101, 109)
    )
    drop(table, one)
    ghost = eight | {"PK": f"ENT#{GHOST}", "id": GHOST}
    put(table, ghost)
    for item, other in ((two, three), (three, two)):
        change(table, item, name=other["name"], enterprise_name=other["name"])
    change(table, four, createdAt="2024-02-29T00:00:00.001Z")
    change(table, five, entity_type="product")
    change(table, six, name="", enterprise_name="")
    change(table, seven, updated_date=None, updateddate=seven["updated_date"])
    put(table, {"PK": one["PK"], "SK": "PROD#1", "name": "another kind"})
    times = {"updated_date": LATER, "updatedAt": LATER}
    change(table, eight, name="New", enterprise_name="New", **times)
    return ghost


DAMAGED = {
    ("missing", "101"),
    ("mismatched", "102"),
    ("mismatched", "103"),
    ("mismatched", "104"),
    ("mismatched", "105"),
    ("mismatched", "106"),
    ("mismatched", "107"),
    ("newer_in_target", "108"),
    ("extra", None),
}
