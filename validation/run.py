"""Judge a frame by its suite: the only module that opens a Great Expectations context.

Great Expectations is imported when the first frame is judged, not before.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from validation import contract, facts
from validation.contract import Reason, Severity
from validation.report import (
    FAILURE_COLUMNS,
    ExpectationError,
    InputError,
    ValidationReport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.datasource.fluent.interfaces import Batch

# Great Expectations has one current context in a process.
_CONTEXT: Final = Lock()

# Every failing row, and no query for them, which would cost more than the rules.
_RESULT_FORMAT: Final = {
    "result_format": "COMPLETE",
    "return_unexpected_index_query": False,
}
_NOWHERE: Final = np.empty(0, dtype=np.intp)
_ORDER: Final = {reason: order for order, reason in enumerate(Reason)}


class _Broken(NamedTuple):
    """A rule, and the positions of the rows that broke it."""

    positions: npt.NDArray[np.intp]
    column: str
    reason: Reason
    severity: Severity


def validate_enterprises(rows: pd.DataFrame) -> ValidationReport:
    """Judge rows of the source, which hold PostgreSQL's own text or None.

    Args:
        rows: The columns of `contract.SOURCE_COLUMNS`, and optionally the booleans
            of `id_duplicate`, true where another row of the table yields the same id.

    Raises:
        InputError: A column is absent or holds no text, or a label is there twice.
        ExpectationError: An expectation could not be evaluated.
    """
    return _validate(contract.SOURCE_SUITE, rows, facts.source_facts)


def validate_items(items: pd.DataFrame) -> ValidationReport:
    """Judge items, whose attributes may be absent or hold anything.

    Args:
        items: The columns of `contract.ITEM_ATTRIBUTES`, and optionally `source_id`.

    Raises:
        InputError: A label of the index or of the columns is there twice.
        ExpectationError: An expectation could not be evaluated.
    """
    return _validate(contract.ITEM_SUITE, items, facts.item_facts)


def _validate(
    suite: str, frame: pd.DataFrame, find: Callable[[pd.DataFrame], pd.DataFrame]
) -> ValidationReport:
    if not (frame.index.is_unique and frame.columns.is_unique):
        message = (
            "the frame repeats a label of its index or columns, and failures name rows "
            "by label: reset_index(drop=True) or rename"
        )
        raise InputError(message)
    broken = _judge(suite, find(frame)) if len(frame) else []
    return ValidationReport(suite, len(frame), _failures(frame, broken))


def _judge(suite: str, known: pd.DataFrame) -> list[_Broken]:
    """Run the suite once over the facts, and find the rows that broke each rule."""
    with _CONTEXT, _batch(known) as batch:
        from validation.suites import SUITES

        expectations = SUITES[suite]()
        results = batch.validate(expectations, result_format=_RESULT_FORMAT).results
    if len(results) != len(expectations.expectations):
        raise ExpectationError(suite, "an expectation", "no result came back")
    return [_broken(suite, len(known), result) for result in results]


@contextmanager
def _batch(known: pd.DataFrame) -> Iterator[Batch]:
    """Open a context of our own, and give the process its former one back."""
    from great_expectations.data_context.data_context import (
        context_factory,
    )
    from great_expectations.data_context.types import base
    from great_expectations.exceptions.exceptions import (
        DataContextRequiredError,
    )

    # It sets itself to INFO when it is imported, and tells of each folder it makes.
    logging.getLogger(base.__name__).setLevel(logging.WARNING)
    try:
        former = context_factory.project_manager.get_current_project()
    except DataContextRequiredError:
        former = None
    try:
        context = context_factory.get_context(mode="ephemeral")
        context.variables.progress_bars = base.ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("facts").add_dataframe_asset("rows")
        definition = asset.add_batch_definition_whole_dataframe("all")
        yield definition.get_batch(batch_parameters={"dataframe": known})
    finally:
        context_factory.set_context(former)


def _broken(suite: str, rows: int, result: ExpectationValidationResult) -> _Broken:
    """Read one result, and refuse it unless it speaks of every row."""
    expectation = result.expectation
    found = result.result
    positions = np.asarray(found.get("unexpected_index_list") or [], dtype=np.intp)
    if (
        found.get("element_count") != rows
        or found.get("unexpected_count") != len(positions)
        or bool(result.success) != (len(positions) == 0)
    ):
        raise ExpectationError(suite, type(expectation).__name__, _cause(result))
    meta = expectation.meta or {}
    severity = Severity(expectation.severity.value)
    return _Broken(positions, meta["column"], Reason(meta["reason"]), severity)


def _cause(result: ExpectationValidationResult) -> str:
    """Find the message of an expectation that raised, wherever it was put."""
    information = result.exception_info or {}
    for details in (information, *information.values()):
        if isinstance(details, dict) and details.get("exception_message"):
            return str(details["exception_message"])
    return "its counts do not add up"


def _failures(frame: pd.DataFrame, broken: Sequence[_Broken]) -> pd.DataFrame:
    """Write a line for each row and reason, in the frame's order."""
    rules = sorted(broken, key=lambda rule: _ORDER[rule.reason])
    sizes = [len(rule.positions) for rule in rules]
    lines = pd.DataFrame(
        {
            "position": np.concatenate([_NOWHERE, *(rule.positions for rule in rules)]),
            "column": np.repeat([rule.column for rule in rules], sizes),
            "reason": np.repeat([rule.reason.value for rule in rules], sizes),
            "severity": np.repeat([rule.severity.value for rule in rules], sizes),
        }
    )
    # Two expectations may share a reason: the row has it once.
    lines = lines.drop_duplicates(["position", "reason"])
    lines = lines.astype({"column": "str", "reason": "str", "severity": "str"})
    lines = lines.sort_values("position", kind="stable", ignore_index=True)
    positions = lines["position"].to_numpy()
    named = lines.assign(
        row=frame.index.take(positions).to_flat_index(),
        source_id=_source_ids(frame, positions),
    )
    return named.loc[:, list(FAILURE_COLUMNS)]


def _source_ids(frame: pd.DataFrame, positions: npt.NDArray[np.intp]) -> pd.Series[Any]:
    ids = np.full(len(positions), None, dtype=object)
    if "source_id" in frame.columns:
        found = frame["source_id"].to_numpy(dtype=object)[positions]
        known = pd.notna(found)
        ids[known] = found[known]
    return pd.Series(ids, dtype=object)
