"""An entity with a column of each type and rule, and frames of its rows and items."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import pandas as pd

from validation.subject import ColumnRules, Subject

NAMESPACE = UUID("7d3c1a52-13c6-5f0e-8f4e-2b6a3c0d9e11")


def column(name: str, kind: str = "text", **rules: Any) -> ColumnRules:
    """Return a column that becomes one attribute, of its name unless given."""
    return ColumnRules(name, kind, **{"attributes": (name,)} | rules)


PRODUCTS = Subject(
    entity="product",
    columns=(
        column("title", attributes=("title", "label"), is_name=True, required=True),
        column("enterprise_id", is_reference=True, in_key=True, required=True),
        column("owner_id", is_reference=True, severity="critical"),
        column("keeper_id", is_reference=True, is_uuid=True),
        column("code", in_key=True, max_length=2_000),
        column("plan", one_of=("free", "pro's"), severity="warning", keep_null=True),
        column("sku", matches="[A-Z]{2}-[0-9]+|x:y%", min_length=3, unique=True),
        column("price", "number", minimum="0", maximum="1000.5", pg_type="numeric"),
        column("seats", "number", required=True, unique=True),
        column("active", "boolean"),
        column("rate", "number", one_of=("1", "2.5"), severity="warning"),
        column(
            "sold", "timestamp", minimum="2020-01-01", attributes=("sold", "soldAt")
        ),
        column("day", "date", maximum="2024-12-31"),
        column("settings", "json", pg_type="jsonb"),
        column("weights", "list", element="number", pg_type="numeric"),
        column("parts", "list", element="json", pg_type="jsonb"),
        column("words", "list"),
        column("tags", "string_set"),
        column("sizes", "number_set", pg_type="numeric", attributes=("sizes", "more")),
        column("photo", "binary", pg_type="bytea"),
    ),
    created=False,
    partition_key=(("ENT#", "enterprise_id"),),
    sort_key=(("PROD#", "code"), ("#", "id")),
    templates=("GSI1PK",),
)
ROW: Mapping[str, str | None] = {
    "source_id": "1",
    "title": "Ångström",
    "enterprise_id": "7",
    "owner_id": "8",
    "keeper_id": "3500a20a-fa32-5543-842f-da54bef06c63",
    "code": "c",
    "plan": "free",
    "sku": "AB-1",
    "price": "9.99",
    "seats": "1",
    "active": "true",
    "rate": "1",
    "sold": "2024-01-05 12:34:56.789+00",
    "day": "2024-02-29",
    "settings": '{"a": [1, "b"]}',
    "weights": "{1,2.5,NULL}",
    "parts": '{"{\\"a\\": 1}"}',
    "words": "{a}",
    "tags": "{a,b}",
    "sizes": "{1,2}",
    "photo": "\\x00",
    "updated_date": "2024-02-29 00:00:00+00",
}


def mapped_rows(**columns: Sequence[Any]) -> pd.DataFrame:
    """Return rows that are valid, except for the given columns."""
    size = len(next(iter(columns.values()))) if columns else 1
    values: dict[str, Sequence[Any]] = {name: [one] * size for name, one in ROW.items()}
    values["source_id"] = [str(number) for number in range(1, size + 1)]
    # These must be unique.
    values["title"] = [f"Ångström {number}" for number in range(size)]
    values["sku"] = [f"AB-{number}" for number in range(size)]
    values["seats"] = [str(number) for number in range(1, size + 1)]
    return pd.DataFrame({**values, **columns}, dtype=object)


def mapped_items(**columns: Sequence[Any]) -> pd.DataFrame:
    """Return items that are valid, except for the given attributes."""
    size = len(next(iter(columns.values()))) if columns else 1
    sources = [str(number) for number in range(1, size + 1)]
    ids = [str(uuid5(NAMESPACE, source)) for source in sources]
    owner = str(UUID(int=8))
    valid: dict[str, Any] = {
        "PK": f"ENT#{owner}",
        "title": "Ångström",
        "label": "Ångström",
        "enterprise_id": owner,
        "owner_id": None,
        "code": "c",
        "plan": {"NULL": True},
        "sku": "AB-1",
        "price": {"N": "9.99"},
        "seats": 1,
        "active": True,
        "rate": 1,
        "sold": "2024-01-05T12:34:56.789Z",
        "soldAt": "2024-01-05T12:34:56.789Z",
        "day": "2024-02-29",
        "settings": {"M": {"a": {"L": [{"N": "1"}, {"S": "b"}]}}},
        "weights": {"L": [{"N": "1"}, {"NULL": True}]},
        "parts": {"L": [{"M": {}}]},
        "words": {"L": []},
        "tags": {"SS": ["a", "b"]},
        "sizes": {"NS": ["1", "2"]},
        "more": {"NS": ["1", "2"]},
        "photo": {"B": b""},
        "GSI1PK": "OWNER#8",
        "updated_date": "2024-02-29T00:00:00.000Z",
        "updatedAt": "2024-02-29T00:00:00.000Z",
        "entity_type": "product",
    }
    values: dict[str, Sequence[Any]] = {
        name: [one] * size for name, one in valid.items()
    }
    values |= {"source_id": sources, "id": ids}
    values["SK"] = [f"PROD#c#{one}" for one in ids]
    frame = {
        name: pd.Series(list(one), dtype=object)
        for name, one in {**values, **columns}.items()
    }
    return pd.DataFrame(frame)


def nested(levels: int, inside: str = "1") -> str:
    """Return a document of that many lists and maps in turn."""
    for level in range(levels):
        inside = f"[{inside}]" if level % 2 else f'{{"a": {inside}}}'
    return inside
