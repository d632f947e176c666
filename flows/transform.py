"""DataFrames to items: pure, without I/O, clock or randomness."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flows.mapping.model import CREATED, UPDATED
from flows.mapping.template import Template
from flows.models import (
    Field,
    IdKind,
    SourceTable,
    derive_ids,
    enterprise_table,
    format_timestamps,
)
from flows.models.conversions import convert, key_texts
from flows.models.sources import derives_ids, entity_namespace
from flows.settings import ID_NAMESPACE


def transform_enterprises(
    rows: pd.DataFrame,
    source: SourceTable | None = None,
    *,
    id_kind: IdKind = "integer",
    namespace: UUID = ID_NAMESPACE,
    provenance: bool = False,
) -> pd.DataFrame:
    """Transform valid rows into items, one to one and in order.

    *source* has the columns of *rows* and what becomes of them; without it they are
    those of the built-in mapping, with ids of *id_kind*. The result has the attributes
    of an item, ``source_id``, the index of *rows*, and with *provenance* the two
    attributes that record the origin of an item. Names are not changed. A missing time
    takes the other one. An attribute that an item lacks is None.

    Raises:
        ValueError: *rows* has a row that validation quarantines.
    """
    source = source or enterprise_table(id_kind=id_kind)
    source_ids = rows["source_id"].tolist()
    ids = derive_ids(
        source_ids,
        source.id_kind,
        source.namespace(namespace),
        derived=source.derives_ids,
    )
    values: dict[str, Any] = {"id": ids, "entity_type": source.entity}
    values |= _times(rows, source)
    for one in source.fields:
        if one not in source.moments:
            column = _attribute(rows[one.name].tolist(), one, namespace)
            values |= dict.fromkeys(one.attributes, column)
    parts = _KeyParts(rows, source, ids, namespace)
    values |= {name: parts.fill(template) for name, template in source.templates}
    values["PK"] = _required(parts.fill(source.partition_key))
    values["SK"] = _required(parts.fill(source.sort_key))
    values["source_id"] = source_ids
    if provenance:
        values["migrated_from_pg"] = True
        values["original_pg_id"] = [int(text) for text in source_ids]
    columns = [*source.attributes_with(provenance=provenance), "source_id"]
    return pd.DataFrame(values, index=rows.index, columns=columns, dtype=object)


def _times(rows: pd.DataFrame, source: SourceTable) -> dict[str, list[str]]:
    """Return the times of creation and last change; a missing one takes the other."""
    moments = {
        one.name: format_timestamps(pa.array(rows[one.name], pa.string()))
        for one in source.moments
    }
    values: dict[str, list[str]] = {}
    for one in source.moments:
        other = UPDATED if one.name == CREATED else CREATED
        moment, beside = moments[one.name], moments.get(other)
        whole = moment if beside is None else pc.coalesce(moment, beside)
        values |= dict.fromkeys(one.attributes, _to_objects(whole))
    return values


def _attribute(texts: list[str | None], one: Field, namespace: UUID) -> Sequence[Any]:
    if one.reference:
        return _refer(texts, one, namespace)
    return texts if one.type == "text" and not one.keep_null else convert(texts, one)


def _refer(
    texts: Sequence[str | None], one: Field, namespace: UUID
) -> list[str | None]:
    """Return the ids of what a column refers to; None where it refers to nothing."""
    reference = one.reference
    if reference is None:
        return [None] * len(texts)
    kind = reference.id_kind
    ids = iter(
        derive_ids(
            [text for text in texts if text is not None],
            kind,
            entity_namespace(reference.entity, namespace),
            derived=derives_ids(reference.entity, kind),
        )
    )
    return [None if text is None else next(ids) for text in texts]


class _KeyParts:
    """The texts of which the keys of rows are made, by name and computed once."""

    def __init__(
        self,
        rows: pd.DataFrame,
        source: SourceTable,
        ids: list[str],
        namespace: UUID,
    ) -> None:
        self._rows, self._source, self._namespace = rows, source, namespace
        self._columns: dict[str, Sequence[str | None]] = {"id": ids}

    def fill(self, template: Template) -> str | list[str | None]:
        """Return the texts of a template for all rows, or its only text."""
        if template.is_constant:
            return template.prefix
        if template.names == ("id",) and template.text.endswith("{id}"):
            prefix = template.prefix
            return [prefix + str(one) for one in self._columns["id"]]
        names = template.names
        columns = [self._column(name) for name in names]
        return [
            template.fill(dict(zip(names, parts, strict=True)))
            for parts in zip(*columns, strict=True)
        ]

    def _column(self, name: str) -> Sequence[str | None]:
        if name not in self._columns:
            one = self._source.named(name)
            texts = self._rows[one.name].tolist()
            self._columns[name] = (
                _refer(texts, one, self._namespace)
                if one.reference
                else key_texts(texts, one)
            )
        return self._columns[name]


def _required(key: str | list[str | None]) -> str | list[str | None]:
    if key is None or (isinstance(key, list) and None in key):
        message = "a row without all parts of its key cannot be an item"
        raise ValueError(message)
    return key


def _to_objects(texts: pa.Array) -> list[str]:
    if texts.null_count:
        message = "a row without created_date and updated_date cannot be an item"
        raise ValueError(message)
    return list(texts.to_pylist())
