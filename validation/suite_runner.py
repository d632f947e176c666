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
from uuid import uuid4

import numpy as np
import pandas as pd

from validation.contract import Reason, Severity
from validation.report import ExpectationError
from validation.rules import AnyReason, RuleReason, SuiteOf

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
_REASONS: Final = frozenset(reason.value for reason in Reason)
# The bytes of a combination of facts that NumPy sorts as a number.
_NUMBER_BYTES: Final = 8
# By suite and facts, since the meaning of a combination depends on them.
_judged: Final[dict[tuple[SuiteOf, str], dict[bytes, tuple[Broken, ...]]]] = {}


class Broken(NamedTuple):
    """A rule that a row breaks, with its fact, column, reason and severity."""

    fact: str
    column: str
    reason: AnyReason
    severity: Severity


class Verdict(NamedTuple):
    """A rule, and the positions of the rows that broke it."""

    rule: Broken
    positions: npt.NDArray[np.intp]


def judge(suite: SuiteOf, known: pd.DataFrame) -> list[Verdict]:
    """Find the rows that break a rule of the suite, rule by rule.

    Raises:
        ExpectationError: an expectation could not be evaluated, or the suite and the
            facts disagree.
    """
    facts = known.to_numpy(dtype=np.bool_)
    codes, firsts, of_row = _combinations(facts)
    verdicts = _verdicts(suite, known.iloc[firsts], codes)
    rules = dict.fromkeys(rule for code in codes for rule in verdicts[code])
    order = {str(name): place for place, name in enumerate(known.columns)}
    return [
        Verdict(rule, np.flatnonzero(_breaks(rule, verdicts, codes)[of_row]))
        for rule in sorted(rules, key=lambda rule: order[rule.fact])
    ]


def _breaks(
    rule: Broken, verdicts: dict[bytes, tuple[Broken, ...]], codes: list[bytes]
) -> npt.NDArray[np.bool_]:
    """Return which combinations break a rule."""
    return np.array([rule in verdicts[code] for code in codes], dtype=np.bool_)


def _combinations(
    facts: npt.NDArray[np.bool_],
) -> tuple[list[bytes], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the combinations of facts, their first rows, and that of each row."""
    if facts.all():
        nothing_broken = np.zeros(1, dtype=np.intp)
        code = np.packbits(facts[:1], axis=1).tobytes()
        return [code], nothing_broken, np.zeros(len(facts), dtype=np.intp)
    packed = np.packbits(facts, axis=1)
    width = packed.shape[1]
    if width <= _NUMBER_BYTES:
        padded = np.zeros((len(packed), _NUMBER_BYTES), dtype=np.uint8)
        padded[:, :width] = packed
        numbers: npt.NDArray[Any] = padded.view(np.uint64).ravel()
    else:
        whole = np.dtype((np.void, width))
        numbers = np.ascontiguousarray(packed).view(whole).ravel()
    _, firsts, of_row = np.unique(numbers, return_index=True, return_inverse=True)
    return [row.tobytes() for row in packed[firsts]], firsts, of_row


def _verdicts(
    suite: SuiteOf, patterns: pd.DataFrame, codes: list[bytes]
) -> dict[bytes, tuple[Broken, ...]]:
    """Return the suite's verdict on each combination; run the suite on new ones."""
    key = (suite, " ".join(patterns.columns))
    with _CONTEXT:
        verdicts = _judged.setdefault(key, {})
        new = [number for number, code in enumerate(codes) if code not in verdicts]
        if new:
            frame = patterns.iloc[new].reset_index(drop=True)
            broken = ask_suite(suite, frame)
            _require_agreement(suite.name, frame, broken)
            verdicts |= {
                codes[number]: rules for number, rules in zip(new, broken, strict=True)
            }
    return verdicts


def ask_suite(suite: SuiteOf | str, known: pd.DataFrame) -> list[tuple[Broken, ...]]:
    """Run the suite once over facts; return which rules each row breaks.

    A name alone is that of a suite of the built-in subject.
    """
    suite = SuiteOf(suite) if isinstance(suite, str) else suite
    with current_context():
        expectations, definition = _prepared(suite)
        batch: Batch = definition.get_batch(batch_parameters={"dataframe": known})
        results = batch.validate(expectations, result_format=_RESULT_FORMAT).results
    if len(results) != len(expectations.expectations):
        raise ExpectationError(suite.name, "an expectation", "no result was returned")
    broken: list[list[Broken]] = [[] for _ in range(len(known))]
    for result in results:
        positions, rule = _read(suite.name, len(known), result)
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
    names = list(map(str, known.columns))
    facts = known.to_numpy(dtype=np.bool_)
    for row, rules in zip(facts, broken, strict=True):
        false = {names[place] for place in np.flatnonzero(~row)}
        if false != {rule.fact for rule in rules}:
            wrong = ", ".join(sorted(false ^ {rule.fact for rule in rules}))
            cause = "the suite and the facts disagree"
            raise ExpectationError(suite, f"the rule on {wrong}", cause)


@cache
def _prepared(suite: SuiteOf) -> tuple[ExpectationSuite, BatchDefinition[Any]]:
    """Build the suite and the source of its frames, once per process."""
    from validation.suites import build_suite

    # Two subjects may have suites of one name.
    name = f"{suite.name}-{uuid4().hex}"
    asset = _context().data_sources.add_pandas(name).add_dataframe_asset("rows")
    return build_suite(suite), asset.add_batch_definition_whole_dataframe("all")


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
    code, column = meta["reason"], meta["column"]
    reason: AnyReason = RuleReason(code, column, expectation.description, severity)
    if code in _REASONS:
        reason = Reason(code)
    return positions, Broken(expectation.column, column, reason, severity)


def _cause(result: ExpectationValidationResult) -> str:
    """Return the message of an expectation that raised, wherever it is stored."""
    information = result.exception_info or {}
    for details in (information, *information.values()):
        if isinstance(details, dict) and details.get("exception_message"):
            return str(details["exception_message"])
    return "its counts do not add up"
