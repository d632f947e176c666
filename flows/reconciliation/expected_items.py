"""The items that rows must have, independent of ``transform``.

The standard library derives the ids, and SQL formats the times and nested values, so
that one bug cannot affect both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from flows.mapping.template import Template
from flows.models import Attribute, Field, Item, Key, Letter, SourceTable
from flows.models.digests import DIGEST, Texts, digest_texts
from flows.reconciliation.expected_columns import (
    DeriveIds,
    all_of,
    expect_column,
    fill_column,
)
from flows.reconciliation.expected_ids import ExpectedIds
from flows.reconciliation.expected_values import (
    ImpossibleValueError,
    expect_value,
    is_needed,
)
from flows.reconciliation.joined_keys import KEY, NO_KEY, JoinedKeys
from flows.reconciliation.source_rows import TEXT

# DynamoDB's limits of a partition key and a sort key, in bytes.
LONGEST_KEYS = (2_048, 1_024)


@dataclass(frozen=True)
class ExpectedItems:
    """The derivation of items from rows, independent of ``transform``."""

    source: SourceTable
    # The namespace of enterprises' ids, from which those of other entities follow.
    namespace: UUID
    provenance: bool = False
    # Ids that several rows share; none of these rows can be proven.
    shared: frozenset[str] = frozenset()

    @cached_property
    def attributes(self) -> tuple[str, ...]:
        """Return the attributes that are compared."""
        return self.source.attributes_with(provenance=self.provenance)

    @cached_property
    def letters(self) -> dict[str, Letter]:
        """Return DynamoDB's letter of each attribute that is compared."""
        return {name: self.source.letters[name] for name in self.attributes}

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """Return the attributes without which a row cannot be an item."""
        fields = (one for one in self.source.fields if is_needed(one))
        named = {name for one in fields for name in one.attributes}
        return tuple(name for name in self.attributes if name in named | {"PK", "SK"})

    @cached_property
    def joined_keys(self) -> JoinedKeys:
        """Return how keys are joined in derived rows."""
        return JoinedKeys.of(self.source)

    @cached_property
    def schema(self) -> pa.Schema:
        """Return the columns of derived rows: key, digest, and the row's texts."""
        texts = [(f"row:{name}", TEXT) for name in self.source.columns]
        return pa.schema([("key", KEY), ("digest", DIGEST), *texts])

    def item(self, row: Sequence[str | None]) -> tuple[Item, bool]:
        """Derive the item of a row, given as texts; return whether it is impossible.

        An attribute without a value is None. A value that no item can have stays
        PostgreSQL's text.
        """
        source, source_id = self.source, str(row[0])
        identity = self._ids.derive_one(source_id)
        own: dict[str, Attribute] = {"id": identity, "entity_type": source.entity}
        keys: dict[str, str | None] = {"id": identity}
        impossible = False
        for field, text in zip(source.fields, row[1:], strict=True):
            try:
                value = self._expect(field, text)
            except ImpossibleValueError:
                value, keys[field.name], impossible = text, None, True
            else:
                keys[field.name] = _key_text(value)
            own |= dict.fromkeys(field.attributes, value)
        for attribute, template in self._templates:
            own[attribute] = template.fill(
                {name: keys[self._place_of(name)] for name in template.names}
            )
        if self.provenance:
            own |= {"migrated_from_pg": True, "original_pg_id": int(source_id)}
        impossible |= own["PK"] is None or own["SK"] is None
        return {name: own[name] for name in self.attributes}, impossible

    def derive(self, rows: pa.Table) -> pa.Table:
        """Derive keys and digests of rows; a row that cannot be an item has no digest.

        A row that shares its id with another row has no digest either.
        """
        rows = rows.combine_chunks()
        texts: list[pa.Array] = [column.combine_chunks() for column in rows.columns]
        ids = pa.array(self._ids.derive(texts[0].to_pylist()), TEXT)
        own: dict[str, Texts] = {
            "id": ("s", ids),
            "entity_type": ("s", self.source.entity),
            "migrated_from_pg": ("b", "True"),
            "original_pg_id": ("i", texts[0]),
        }
        keys, possible = {"id": ids}, list[pa.Array | None]()
        for field, column in zip(self.source.fields, texts[1:], strict=True):
            values = expect_column(field, column, self._referred(field))
            own |= dict.fromkeys(field.attributes, values.texts)
            keys[field.name] = values.keys
            possible.append(values.possible)
        for attribute, template in self._templates:
            places = {name: keys[self._place_of(name)] for name in template.names}
            own[attribute] = ("s", fill_column(template, places))
        made = self.joined_keys.join_columns(own["PK"][1], own["SK"][1])
        possible += [pc.is_valid(made) if made.null_count else None]
        possible.append(self._unshared(ids))
        digests = digest_texts([own[name] for name in self.attributes], len(rows))
        if (whole := all_of(possible)) is not None:
            digests = pc.if_else(whole, digests, pa.scalar(None, DIGEST))
        made = pc.fill_null(made, NO_KEY)
        return pa.table([made, digests, *texts], schema=self.schema)

    @cached_property
    def _ids(self) -> ExpectedIds:
        return ExpectedIds.of(self.source, self.namespace)

    @cached_property
    def _referred_ids(self) -> dict[str, ExpectedIds]:
        return {
            one.name: ExpectedIds.of(one.reference, self.namespace)
            for one in self.source.fields
            if one.reference
        }

    def _referred(self, field: Field) -> DeriveIds:
        return self._referred_ids.get(field.name, self._ids).derive_referred

    def _expect(self, field: Field, text: str | None) -> Attribute | None:
        if text is None or not field.reference:
            return expect_value(field, text)
        try:
            return self._referred_ids[field.name].derive_one(text)
        except ValueError:
            raise ImpossibleValueError from None

    @cached_property
    def _templates(self) -> tuple[tuple[str, Template], ...]:
        source = self.source
        keys = (("PK", source.partition_key), ("SK", source.sort_key))
        return (*keys, *source.templates)

    def _place_of(self, name: str) -> str:
        """Return the field's name that a template means by a name."""
        return name if name == "id" else self.source.named(name).name

    def _unshared(self, ids: pa.Array) -> pa.Array | None:
        """Return which rows share no id; None if none is known to."""
        if not self.shared:
            return None
        return pc.invert(pc.is_in(ids, value_set=pa.array(sorted(self.shared), TEXT)))


def key_to_read(item: Item) -> Key | None:
    """Return an item's key; None if no item can have it, so that it cannot be read."""
    key = item["PK"], item["SK"]
    fits = (
        isinstance(part, str) and 0 < len(part.encode("utf-8", "surrogatepass")) <= most
        for part, most in zip(key, LONGEST_KEYS, strict=True)
    )
    return key if all(fits) else None


def _key_text(value: Attribute | None) -> str | None:
    """Return a value as a part of a key; None if it cannot be one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    text: str | None = value.get("N") if isinstance(value, dict) else None
    return text
