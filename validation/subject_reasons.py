"""The reasons of the contract as they apply to a subject; all reasons of a suite."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from validation import contract
from validation.contract import SUITE_REASONS, Reason, Severity
from validation.rules import (
    AnyReason,
    RuleReason,
    SuiteOf,
    item_rules,
    must_be_there,
    name_column,
    row_rules,
    spell_key,
)
from validation.subject import ENTERPRISES, Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

_TWINS: Final = 2


@cache
def contract_reasons(suite: SuiteOf) -> Mapping[Reason, AnyReason]:
    """Return the reasons of the contract that a suite has, in their order.

    Each has the subject's own columns and sentences; for the built-in subject they are
    the reasons themselves.
    """
    kind = contract.ITEM_SUITE if suite.is_of_items else contract.SOURCE_SUITE
    wording = _wording(suite)
    return {
        reason: _worded(reason, wording, suite.subject)
        for reason in SUITE_REASONS[kind]
        if _applies(reason, suite.subject)
    }


@cache
def reasons_of(suite: SuiteOf) -> tuple[AnyReason, ...]:
    """Return all reasons of a suite, each once, in the order of its rules."""
    of = item_rules if suite.is_of_items else row_rules
    found: list[AnyReason] = [*contract_reasons(suite).values()]
    found += [rule.reason for rule in of(suite.subject)]
    return tuple({reason.value: reason for reason in reversed(found)}.values())[::-1]


@cache
def descriptions_of(suite: SuiteOf) -> Mapping[str, str]:
    """Return the sentences of a suite's reasons that the contract does not have."""
    return {
        reason.value: reason.description
        for reason in reasons_of(suite)
        if isinstance(reason, RuleReason)
    }


def _applies(reason: Reason, subject: Subject) -> bool:
    """Return whether a subject has the columns that a reason of the contract needs."""
    name = name_column(subject)
    if reason is Reason.NAME_MISSING:
        return name is not None and name.required
    if reason is Reason.NAME_TWINS_DIFFER:
        return name is not None and len(name.attributes) >= _TWINS
    if reason is Reason.TIMESTAMPS_MISSING:
        return subject.created or subject.updated
    if reason is Reason.UPDATED_BEFORE_CREATED:
        return subject.created and subject.updated
    family, _, _ = reason.value.partition("_")
    needs = {
        "name": name is not None,
        "created": subject.created,
        "updated": subject.updated,
    }
    return needs.get(family, True)


def _worded(
    reason: Reason, wording: Mapping[Reason, tuple[str, str]], subject: Subject
) -> AnyReason:
    severity = reason.severity
    if reason is Reason.NAME_MISSING and (name := name_column(subject)):
        severity = Severity.CRITICAL if must_be_there(name) else Severity.WARNING
    column, description = wording.get(reason, (reason.column, reason.description))
    if (column, description, severity) == (
        reason.column,
        reason.description,
        reason.severity,
    ):
        return reason
    return RuleReason(reason.value, column, description, severity)


def _wording(suite: SuiteOf) -> dict[Reason, tuple[str, str]]:
    """Return column and sentence of the reasons that a subject words differently."""
    subject = suite.subject
    found: dict[Reason, tuple[str, str]] = {}
    if name := name_column(subject):
        column = name.attributes[0] if suite.is_of_items else name.name
        for reason in Reason:
            if reason.column == "enterprise_name":
                found[reason] = (column, reason.description)
        twins = f"{' and '.join(reversed(name.attributes))} are the same text."
        found[Reason.NAME_TWINS_DIFFER] = (name.attributes[-1], twins)
    if not (subject.created and subject.updated):
        column = "created_date" if subject.created else "updated_date"
        found[Reason.TIMESTAMPS_MISSING] = (column, f"The row has {column}.")
    if subject.columns != ENTERPRISES.columns:
        there = "Each attribute that the mapping requires is there, with its type."
        key = "A value that is the key of an index is no longer than such a key may be."
        found[Reason.ATTRIBUTE_MISSING] = ("PK", there)
        found[Reason.ITEM_TOO_LARGE] = ("id", Reason.ITEM_TOO_LARGE.description)
        found[Reason.INDEX_KEY_TOO_LONG] = ("id", key)
    if subject.entity != contract.ENTITY_TYPE:
        entity = f"The item says that it is of the entity {subject.entity}."
        derived = "The id is the version 5 UUID of the source id under the namespace."
        found[Reason.ENTITY_TYPE_WRONG] = ("entity_type", entity)
        found[Reason.ID_NOT_DERIVED] = ("id", derived)
    if subject.partition_key != ENTERPRISES.partition_key:
        made = f"The partition key is made as {spell_key(subject.partition_key)}."
        found[Reason.KEY_MISMATCH] = ("PK", made)
    if subject.sort_key != ENTERPRISES.sort_key:
        made = f"The sort key is made as {spell_key(subject.sort_key)}."
        found[Reason.SORT_KEY_WRONG] = ("SK", made)
    return found
