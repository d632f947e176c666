"""Preparation of a partition's items from its rows: validate, transform, validate.

The rows that may not be sent keep their reasons.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

import pandas as pd

from flows.mapping.template import Template
from flows.models import REFERENCE_MISSING, Field, SourceTable
from flows.settings import Settings
from flows.timing import Stopwatch
from flows.transform import transform_enterprises
from validation.report import ValidationReport
from validation.subject import ENTERPRISES, ColumnRules, Subject
from validation.validate import validate_enterprises, validate_items

REFUSED_BY_STORE = "refused_by_store"


@dataclass(frozen=True)
class MadeItems:
    """The items of a partition that may be sent, and why the other rows may not."""

    rows: pd.DataFrame
    items: pd.DataFrame
    # The columns of the rows that a quarantine shows.
    columns: Sequence[str]
    row_report: ValidationReport
    item_report: ValidationReport
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def validation(self) -> dict[str, Any]:
        """Return both validations' counts, and the first rows of each."""
        return {
            "source": self.row_report.result(),
            "items": self.item_report.result(),
        }

    def quarantine(self, refused: Mapping[str, str | None]) -> pd.DataFrame:
        """Return the rows that must not be in the table, with their reasons.

        *refused* has the source ids that the store refused, with the store's reasons.
        """
        by_store = self.items.index[self.items["source_id"].isin(refused)]
        reasons = pd.concat(
            [
                self.row_report.reasons,
                self.item_report.reasons,
                pd.Series(REFUSED_BY_STORE, index=by_store, dtype=object),
            ]
        )
        rows: pd.DataFrame = self.rows.loc[reasons.index].astype(object)
        # Arrow columns have another null value, which cannot be encoded as JSON.
        rows = rows.where(rows.notna(), None)
        said = rows["source_id"].map(refused).astype(object)
        said = said.where(said.notna(), None)
        rows = rows.assign(reasons=reasons, store_reason=said)
        source_id, *others = self.columns
        return rows[[source_id, "reasons", *others, "store_reason"]]


def make_items(
    rows: pd.DataFrame,
    source: SourceTable,
    settings: Settings,
    key_limits: Sequence[tuple[str, int]] = (),
) -> MadeItems:
    """Validate rows, transform the good ones, and validate their items.

    *key_limits* are the sizes, in bytes, that attributes may have as keys of indexes.
    """
    watch, subject = Stopwatch(), subject_of(source)
    with watch.timing("validate"):
        row_report = validate_enterprises(rows, subject=subject)
    with watch.timing("transform"):
        items = transform_enterprises(
            rows.drop(row_report.critical),
            source,
            namespace=settings.id_namespace,
            provenance=settings.item_provenance,
        )
    with watch.timing("validate"):
        item_report = validate_items(
            items,
            namespace=namespace_of(source, settings),
            key_limits=key_limits,
            subject=subject,
        )
    good = items.drop(item_report.critical)
    return MadeItems(rows, good, source.columns, row_report, item_report, watch.seconds)


def namespace_of(source: SourceTable, settings: Settings) -> UUID | None:
    """Return the namespace of ids that are derived; None if the ids are kept."""
    return source.namespace(settings.id_namespace) if source.derives_ids else None


def flag_quarantined(
    rows: pd.DataFrame, source: SourceTable, quarantined: Mapping[str, Collection[str]]
) -> None:
    """Flag the rows that refer to rows in quarantine, as if these were not there.

    *quarantined* has source ids by entity.
    """
    for one in source.references:
        reference = one.reference
        ids = quarantined.get(reference.entity, ()) if reference else ()
        if not reference or not ids:
            continue
        texts = rows[one.name]
        if reference.id_kind != "integer":
            texts = texts.map(_uuid_digits, na_action="ignore")
            ids = {_uuid_digits(text) for text in ids}
        rows[REFERENCE_MISSING + one.name] |= texts.isin(ids)


def _uuid_digits(text: str) -> str:
    return re.sub("[{}-]", "", text.lower())


@lru_cache(maxsize=64)
def subject_of(source: SourceTable) -> Subject:
    """Return the columns, rules and keys by which rows and items are validated."""
    keys = source.key_fields
    subject = Subject(
        entity=source.entity,
        columns=tuple(
            _rules_of(one, in_key=one in keys)
            for one in source.fields
            if one not in source.moments
        ),
        created=source.created is not None,
        updated=source.updated is not None,
        partition_key=_pieces(source.partition_key, source),
        sort_key=_pieces(source.sort_key, source),
        templates=tuple(name for name, _ in source.templates),
    )
    # One object, by which its suites are found.
    return ENTERPRISES if subject == ENTERPRISES else subject


def _rules_of(one: Field, *, in_key: bool) -> ColumnRules:
    return ColumnRules(
        name=one.name,
        type=one.type,
        attributes=one.attributes,
        element=one.element,
        pg_type=one.pg_type,
        keep_null=one.keep_null,
        is_reference=one.reference is not None,
        is_uuid=one.is_uuid_text,
        in_key=in_key,
        **asdict(one.rules),
    )


def _pieces(
    template: Template, source: SourceTable
) -> tuple[tuple[str, str | None], ...]:
    return tuple(
        (constant, name if name in {None, "id"} else source.named(str(name)).name)
        for constant, name in template.pieces
    )
