"""The suite's verdict on facts about rows; the only module that opens a context.

Rows with the same facts get the same verdict. So the suite judges each combination of
facts once per process, and the vectorised facts find its rows. If the two disagree,
nothing is validated. Great Expectations takes seconds to import and a fifth of a
second for a frame of any size; this cost occurs once and not for each partition.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd

from validation.contract import Reason, Severity
from validation.report import ExpectationError

if TYPE_CHECKING:
    import numpy.typing as npt
    from great_expectations.core import ExpectationSuite, ExpectationValidationResult
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.datasource.fluent.interfaces import Batch

# Great Expectations has one current context per process.
_CONTEXT: Final = RLock()

# All failing rows, without a query for them, which would cost more than the rules.
_RESULT_FORMAT: Final = {
    "result_format": "COMPLETE",
    "return_unexpected_index_query": False,
}
_judged: Final[dict[str, dict[bytes, tuple[Broken, ...]]]] = {}


class Broken(NamedTuple):
    """A rule that a row breaks, with its fact, column, reason and severity."""

    fact: str
    column: str
    reason: Reason
    severity: Severity


class Verdict(NamedTuple):
    """A rule, and the positions of the rows that broke it."""

    rule: Broken
    positions: npt.NDArray[np.intp]


def judge(suite: str, known: pd.DataFrame) -> list[Verdict]:
    """Find the rows that break a rule of the suite, rule by rule.

    Raises:
        ExpectationError: an expectation could not be evaluated, or the suite and the
            facts disagree.
    """
    facts = known.to_numpy(dtype=np.bool_)
    codes, firsts, of_row = _combinations(facts)
    verdicts = _verdicts(suite, known.iloc[firsts], codes)
    positions: dict[Broken, list[npt.NDArray[np.intp]]] = {}
    for number, code in enumerate(codes):
        if broken := verdicts[code]:
            rows = np.flatnonzero(of_row == number)
            for rule in broken:
                positions.setdefault(rule, []).append(rows)
    order = list(known.columns)
    return [
        Verdict(rule, np.sort(np.concatenate(positions[rule])))
        for rule in sorted(positions, key=lambda rule: order.index(rule.fact))
    ]


def _combinations(
    facts: npt.NDArray[np.bool_],
) -> tuple[list[bytes], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the combinations of facts, their first rows, and that of each row."""
    if facts.all():
        nothing_broken = np.zeros(1, dtype=np.intp)
        code = np.packbits(facts[:1], axis=1).tobytes()
        return [code], nothing_broken, np.zeros(len(facts), dtype=np.intp)
    packed = np.packbits(facts, axis=1)
    padded = np.zeros((len(packed), 8), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    numbers = padded.view(np.uint64).ravel()
    _, firsts, of_row = np.unique(numbers, return_index=True, return_inverse=True)
    return [row.tobytes() for row in packed[firsts]], firsts, of_row


def _verdicts(
    suite: str, patterns: pd.DataFrame, codes: list[bytes]
) -> dict[bytes, tuple[Broken, ...]]:
    """Return the suite's verdict on each combination; run the suite on new ones."""
    # The meaning of a combination depends on its facts.
    key = f"{suite} {' '.join(patterns.columns)}"
    with _CONTEXT:
        verdicts = _judged.setdefault(key, {})
        new = [number for number, code in enumerate(codes) if code not in verdicts]
        if new:
            frame = patterns.iloc[new].reset_index(drop=True)
            broken = ask_suite(suite, frame)
            _require_agreement(suite, frame, broken)
            verdicts |= {
                codes[number]: rules for number, rules in zip(new, broken, strict=True)
            }
    return verdicts


def ask_suite(suite: str, known: pd.DataFrame) -> list[tuple[Broken, ...]]:
    """Run the suite once over facts; return which rules each row breaks."""
    with current_context():
        expectations, definition = _prepared(suite)
        batch: Batch = definition.get_batch(batch_parameters={"dataframe": known})
        results = batch.validate(expectations, result_format=_RESULT_FORMAT).results
    if len(results) != len(expectations.expectations):
        raise ExpectationError(suite, "an expectation", "no result was returned")
    broken: list[list[Broken]] = [[] for _ in range(len(known))]
    for result in results:
        positions, rule = _read(suite, len(known), result)
        for position in positions:
            broken[position].append(rule)
    return [tuple(rules) for rules in broken]


def _require_agreement(
    suite: str, known: pd.DataFrame, broken: list[tuple[Broken, ...]]
) -> None:
    """Raise unless the verdict of the suite agrees with the facts.

    Raises:
        ExpectationError: the suite and the facts disagree.
    """
    for (_, row), rules in zip(known.iterrows(), broken, strict=True):
        false = {str(name) for name, fact in row.items() if not fact}
        if false != {rule.fact for rule in rules}:
            wrong = ", ".join(sorted(false ^ {rule.fact for rule in rules}))
            cause = "the suite and the facts disagree"
            raise ExpectationError(suite, f"the rule on {wrong}", cause)


@cache
def _prepared(suite: str) -> tuple[ExpectationSuite, BatchDefinition[Any]]:
    """Build the suite and the source of its frames, once per process."""
    from validation.suites import SUITES

    asset = _context().data_sources.add_pandas(suite).add_dataframe_asset("rows")
    return SUITES[suite](), asset.add_batch_definition_whole_dataframe("all")


@cache
def _context() -> Any:
    from great_expectations.data_context.data_context import context_factory
    from great_expectations.data_context.types import base

    # Its logger sets itself to INFO at import, and logs each folder that it creates.
    logging.getLogger(base.__name__).setLevel(logging.WARNING)
    context = context_factory.get_context(mode="ephemeral")
    context.variables.progress_bars = base.ProgressBarsConfig(globally=False)
    return context


@contextmanager
def current_context() -> Iterator[Any]:
    """Make our context the current one, and restore the previous one afterwards."""
    from great_expectations.data_context.data_context import context_factory
    from great_expectations.exceptions.exceptions import DataContextRequiredError

    with _CONTEXT:
        try:
            former = context_factory.project_manager.get_current_project()
        except DataContextRequiredError:
            former = None
        try:
            context = _context()
            context_factory.set_context(context)
            yield context
        finally:
            context_factory.set_context(former)


def _read(
    suite: str, rows: int, result: ExpectationValidationResult
) -> tuple[list[int], Broken]:
    """Read one result, and refuse it unless it covers every row."""
    expectation: Any = result.expectation
    found = result.result
    positions = [int(row) for row in found.get("unexpected_index_list") or []]
    if (
        found.get("element_count") != rows
        or found.get("unexpected_count") != len(positions)
        or bool(result.success) != (not positions)
    ):
        raise ExpectationError(suite, type(expectation).__name__, _cause(result))
    meta = expectation.meta or {}
    severity = Severity(expectation.severity.value)
    rule = Broken(expectation.column, meta["column"], Reason(meta["reason"]), severity)
    return positions, rule


def _cause(result: ExpectationValidationResult) -> str:
    """Return the message of an expectation that raised, wherever it is stored."""
    information = result.exception_info or {}
    for details in (information, *information.values()):
        if isinstance(details, dict) and details.get("exception_message"):
            return str(details["exception_message"])
    return "its counts do not add up"
