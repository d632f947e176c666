"""Judge a frame by its suite.

Great Expectations is imported when the first frame is judged, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from validation import facts
from validation.contract import Reason
from validation.report import InputError, ValidationReport, frame_failures
from validation.rules import SuiteOf, item_suite_of, source_suite_of
from validation.subject import ENTERPRISES, Subject
from validation.subject_reasons import descriptions_of
from validation.suite_runner import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    import numpy.typing as npt

_NOWHERE: Final = np.empty(0, dtype=np.intp)
# The reasons of a mapping's rules come after those of the contract.
_ORDER: Final = {reason.value: order for order, reason in enumerate(Reason)}


def validate_enterprises(
    rows: pd.DataFrame,
    *,
    now: datetime | None = None,
    subject: Subject = ENTERPRISES,
) -> ValidationReport:
    """Judge rows of the source, which hold PostgreSQL's own text or None.

    Args:
        rows: `source_id`, the columns of the subject, and its times; by default
            those of `contract.SOURCE_COLUMNS`. Optionally columns of booleans:
            `id_duplicate` and `key_duplicate`, true if another row of the table
            yields the same id or key, and `reference_missing:` with a column's name,
            true if the row to which it refers is not there.
        now: The moment after which the future begins; by default that of the call.
        subject: The entity of the rows, and the rules of its columns.

    Raises:
        InputError: A column is absent or holds no text, a label is duplicated, or a
            bound of a rule cannot be read.
        ExpectationError: An expectation could not be evaluated.
    """

    def find(frame: pd.DataFrame) -> pd.DataFrame:
        return facts.source_facts(frame, now=now, subject=subject)

    return _validate(source_suite_of(subject), rows, find)


def validate_items(
    items: pd.DataFrame,
    *,
    namespace: UUID | None = None,
    key_limits: Sequence[tuple[str, int]] = (),
    subject: Subject = ENTERPRISES,
) -> ValidationReport:
    """Judge items, whose attributes may be absent or hold anything.

    Args:
        items: A column for each attribute, by default `contract.ITEM_ATTRIBUTES`, and
            optionally `source_id`. Values are in their one form: a string, an integer
            and a boolean are plain, others typed as ``{"N": "1.5"}``; None is no
            attribute.
        namespace: The namespace of the entity's ids, if they are derived from the
            source ids.
        key_limits: Attributes that are keys of indexes, and their maximum bytes.
        subject: The entity of the items, and the rules of its attributes.

    Raises:
        InputError: A label of the index or of the columns is duplicated.
        ExpectationError: An expectation could not be evaluated.
    """

    def find(frame: pd.DataFrame) -> pd.DataFrame:
        return facts.item_facts(
            frame, namespace=namespace, key_limits=key_limits, subject=subject
        )

    return _validate(item_suite_of(subject), items, find)


def _validate(
    suite: SuiteOf, frame: pd.DataFrame, find: Callable[[pd.DataFrame], pd.DataFrame]
) -> ValidationReport:
    if not (frame.index.is_unique and frame.columns.is_unique):
        message = (
            "the frame has a duplicate label in its index or columns, and failures "
            "name rows by label: call reset_index(drop=True) or rename"
        )
        raise InputError(message)
    verdicts = judge(suite, find(frame)) if len(frame) else []
    failures = _failures(frame, verdicts)
    return ValidationReport(suite.name, len(frame), failures, descriptions_of(suite))


def _failures(frame: pd.DataFrame, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return a line for each row and reason, in the frame's order."""
    if not verdicts:
        return frame_failures([])
    last = len(_ORDER)
    ordered = sorted(verdicts, key=lambda v: _ORDER.get(v.rule.reason.value, last))
    rules = [verdict.rule for verdict in ordered]
    sizes = [len(verdict.positions) for verdict in ordered]
    lines = pd.DataFrame(
        {
            "position": np.concatenate([_NOWHERE, *(v.positions for v in ordered)]),
            "column": np.repeat([rule.column for rule in rules], sizes),
            "reason": np.repeat([rule.reason.value for rule in rules], sizes),
            "severity": np.repeat([rule.severity.value for rule in rules], sizes),
        }
    )
    # Two expectations may share a reason, which a row has only once.
    lines = lines.drop_duplicates(["position", "reason", "severity"])
    lines = lines.astype({"column": "str", "reason": "str", "severity": "str"})
    lines = lines.sort_values("position", kind="stable", ignore_index=True)
    positions = lines["position"].to_numpy()
    named = lines.assign(
        row=frame.index.take(positions).to_flat_index(),
        source_id=_source_ids(frame, positions),
    )
    return frame_failures(named)


def _source_ids(frame: pd.DataFrame, positions: npt.NDArray[np.intp]) -> pd.Series[Any]:
    ids = np.full(len(positions), None, dtype=object)
    if "source_id" in frame.columns:
        found = frame["source_id"].iloc[positions].to_numpy(dtype=object)
        known = pd.notna(found)
        ids[known] = found[known]
    return pd.Series(ids, dtype=object)
