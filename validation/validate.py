"""Judge a frame by its suite.

Great Expectations is imported when the first frame is judged, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from validation import contract, facts
from validation.contract import Reason
from validation.report import InputError, ValidationReport, frame_failures
from validation.subject import ENTERPRISES, Subject
from validation.suite_runner import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    import numpy.typing as npt

_NOWHERE: Final = np.empty(0, dtype=np.intp)
_ORDER: Final = {reason: order for order, reason in enumerate(Reason)}


def validate_enterprises(
    rows: pd.DataFrame, *, now: datetime | None = None, subject: Subject = ENTERPRISES
) -> ValidationReport:
    """Judge rows of the source, which hold PostgreSQL's own text or None.

    Args:
        rows: The columns of `contract.SOURCE_COLUMNS`, and optionally the booleans
            of `id_duplicate`, true if another row of the table yields the same id.
        now: The moment after which the future begins; by default that of the call.

    Raises:
        InputError: A column is absent or holds no text, or a label is duplicated.
        ExpectationError: An expectation could not be evaluated.
    """

    def find(frame: pd.DataFrame) -> pd.DataFrame:
        return facts.source_facts(frame, now=now)

    return _validate(contract.SOURCE_SUITE, rows, find)


def validate_items(
    items: pd.DataFrame,
    *,
    namespace: UUID | None = None,
    key_limits: Sequence[tuple[str, int]] = (),
    subject: Subject = ENTERPRISES,
) -> ValidationReport:
    """Judge items, whose attributes may be absent or hold anything.

    Args:
        items: The columns of `contract.ITEM_ATTRIBUTES`, and optionally `source_id`.
        namespace: The namespace of the ids, if the source ids are integers.
        key_limits: Attributes that are keys of indexes, and their maximum bytes.

    Raises:
        InputError: A label of the index or of the columns is duplicated.
        ExpectationError: An expectation could not be evaluated.
    """

    def find(frame: pd.DataFrame) -> pd.DataFrame:
        return facts.item_facts(frame, namespace=namespace, key_limits=key_limits)

    return _validate(contract.ITEM_SUITE, items, find)


def _validate(
    suite: str, frame: pd.DataFrame, find: Callable[[pd.DataFrame], pd.DataFrame]
) -> ValidationReport:
    if not (frame.index.is_unique and frame.columns.is_unique):
        message = (
            "the frame has a duplicate label in its index or columns, and failures "
            "name rows by label: call reset_index(drop=True) or rename"
        )
        raise InputError(message)
    verdicts = judge(suite, find(frame)) if len(frame) else []
    return ValidationReport(suite, len(frame), _failures(frame, verdicts))


def _failures(frame: pd.DataFrame, verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Return a line for each row and reason, in the frame's order."""
    if not verdicts:
        return frame_failures([])
    ordered = sorted(verdicts, key=lambda verdict: _ORDER[verdict.rule.reason])
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
    lines = lines.drop_duplicates(["position", "reason"])
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
