"""DataFrames to items: pure, without I/O, clock or randomness."""

from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flows.models import (
    ENTITY_TYPE,
    ITEM_ATTRIBUTES,
    KEY_PREFIX,
    PROVENANCE_ATTRIBUTES,
    SORT_KEY,
    IdKind,
    derive_ids,
    format_timestamps,
)
from flows.settings import ID_NAMESPACE


def transform_enterprises(
    rows: pd.DataFrame,
    *,
    id_kind: IdKind = "integer",
    namespace: UUID = ID_NAMESPACE,
    provenance: bool = False,
) -> pd.DataFrame:
    """Transform valid rows into items, one to one and in order.

    The result has the ten item attributes, ``source_id``, the index of *rows*, and
    with *provenance* the two attributes that record the origin of an item. Names are
    not changed. A missing time takes the other one.

    Raises:
        ValueError: *rows* has a row that validation quarantines.
    """
    source_ids = rows["source_id"].tolist()
    ids = derive_ids(source_ids, id_kind, namespace)
    created, updated = (
        format_timestamps(pa.array(rows[column], pa.string()))
        for column in ("created_date", "updated_date")
    )
    created_date = _to_objects(pc.coalesce(created, updated))
    updated_date = _to_objects(pc.coalesce(updated, created))
    values: dict[str, object] = {
        "PK": [KEY_PREFIX + enterprise_id for enterprise_id in ids],
        "SK": SORT_KEY,
        "id": ids,
        "enterprise_name": rows["enterprise_name"].tolist(),
        "name": rows["enterprise_name"].tolist(),
        "created_date": created_date,
        "createdAt": created_date,
        "updated_date": updated_date,
        "updatedAt": updated_date,
        "entity_type": ENTITY_TYPE,
        "source_id": source_ids,
    }
    columns = [*ITEM_ATTRIBUTES, "source_id"]
    if provenance:
        values["migrated_from_pg"] = True
        values["original_pg_id"] = [int(text) for text in source_ids]
        columns[-1:-1] = PROVENANCE_ATTRIBUTES
    return pd.DataFrame(values, index=rows.index, columns=columns, dtype=object)


def _to_objects(texts: pa.Array) -> list[str]:
    if texts.null_count:
        message = "a row without created_date and updated_date cannot be an item"
        raise ValueError(message)
    return list(texts.to_pylist())
