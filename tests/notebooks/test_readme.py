"""The page of what notebooks can call, executed and compared with the code."""

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pandas as pd
import pytest

from flows import explore, pipeline
from flows.demo.cutover import catch_up, rehearse_cutover
from flows.demo.stores import NotebookStores
from flows.doctor.mapping import check_mapping, suggest_mapping
from flows.models import MigrateOptions
from flows.planning.report import MigrationPlan
from flows.reconciliation.report import ReconciliationReport
from flows.reports.charts import Drawing
from flows.run.repair import RepairOptions
from flows.run.report import MigrationReport
from flows.transform import transform_enterprises
from validation.report import ValidationReport
from validation.subject import ENTERPRISES
from validation.validate import validate_enterprises, validate_items

TEXT = (Path(__file__).parents[2] / "notebooks" / "README.md").read_text("utf-8")
STEPS = (
    suggest_mapping,
    check_mapping,
    transform_enterprises,
    validate_enterprises,
    validate_items,
    rehearse_cutover,
    catch_up,
)
RESULTS = (
    MigrationReport,
    ReconciliationReport,
    MigrationPlan,
    ValidationReport,
    NotebookStores,
    Drawing,
)
# These are said in words.
WRAPPERS = {"Iterator", "Callable", "None"}


class Part(NamedTuple):
    """A heading's text, table rows or Python block, with the names of its columns."""

    heading: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    code: str = ""


def parts_of_page() -> Iterator[Part]:
    """Yield the tables and the Python blocks of the page, in order."""
    heading = ""
    found = re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```python\n(?P<code>.*?)^```$"
        r"|(?P<table>(?:^\|[^\n]*\n)+)",
        TEXT,
        re.MULTILINE | re.DOTALL,
    )
    for match in found:
        if match["heading"]:
            heading = match["heading"]
        elif match["code"]:
            yield Part(heading, (), [], match["code"])
        else:
            lines = [
                tuple(cell.strip() for cell in line.strip("|").split("|"))
                for line in match["table"].splitlines()
            ]
            yield Part(heading, lines[0], lines[2:])


def table_of(heading: str) -> list[tuple[str, ...]]:
    """Return the rows of the only table below a heading."""
    (rows,) = [p.rows for p in parts_of_page() if p.heading == heading and p.columns]
    return rows


def functions() -> list[Callable[..., Any]]:
    """Return every function that a notebook can call."""
    found = [getattr(pipeline, name) for name in pipeline.__all__]
    found += [
        value
        for name, value in vars(explore).items()
        if not name.startswith("_")
        and getattr(value, "__module__", "") == explore.__name__
    ]
    return [each for each in found if inspect.isfunction(each)] + list(STEPS)


def shown_call(function: Callable[..., Any]) -> str:
    """Return a function with its arguments, as the page shows it."""
    names: list[str] = []
    for argument in inspect.signature(function).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY and "*" not in names:
            names.append("*")
        names.append(argument.name)
    return f"`{function.__name__}({', '.join(names)})`"


def returned_types(function: Callable[..., Any]) -> set[str]:
    """Return the names of the types that a function returns."""
    annotation = str(inspect.signature(function).return_annotation)
    return set(re.findall(r"\b[A-Z]\w+", annotation)) - WRAPPERS


def shown_default(default: object) -> str:
    """Return a default as the page shows it; empty if there is nothing to show."""
    if default is inspect.Parameter.empty or callable(default):
        return ""
    if default == ENTERPRISES:
        return "`ENTERPRISES`"
    return "`ID_NAMESPACE`" if isinstance(default, UUID) else f"`{default!r}`"


def code_names(text: str) -> set[str]:
    """Return the names that a cell shows as code."""
    return set(re.findall(r"`(\w+)`", text))


def public_names(result: type) -> set[str]:
    """Return the methods and attributes of a class, methods with their arguments."""
    names = {name for name in dir(result) if not name.startswith("_")}
    if dataclasses.is_dataclass(result):
        names |= {field.name for field in dataclasses.fields(result)}
    shown = set()
    for name in names:
        value = getattr(result, name, None)
        if not callable(value):
            shown.add(name)
            continue
        arguments = [n for n in inspect.signature(value).parameters if n != "self"]
        shown.add(f"{name}({', '.join(arguments)})")
    return shown


def test_every_function_is_on_the_page() -> None:
    """A function has one line, with its arguments and the types that it returns."""
    shown = {call: code_names(text) for call, _, text in table_of("Functions") if text}

    assert shown == {shown_call(each): returned_types(each) for each in functions()}


def test_every_argument_is_on_the_page() -> None:
    """An argument has one line, with its default."""
    expected = {
        (f"`{function.__name__}`", f"`{name}`", shown_default(argument.default))
        for function in functions()
        for name, argument in inspect.signature(function).parameters.items()
    }

    shown = [row[:3] for row in table_of("Arguments")]
    assert set(shown) == expected
    assert len(shown) == len(expected)


def test_every_option_is_on_the_page() -> None:
    """The options of a run are listed as they are described, and those of a repair."""
    assert table_of("MigrateOptions") == [
        (f"`{name}`", f"`{field.default!r}`", field.description)
        for name, field in MigrateOptions.model_fields.items()
    ]
    assert [row[:2] for row in table_of("RepairOptions")] == [
        (f"`{field.name}`", f"`{field.default!r}`")
        for field in dataclasses.fields(RepairOptions)
    ]


@pytest.mark.parametrize("result", RESULTS)
def test_every_attribute_of_a_result_is_on_the_page(result: type) -> None:
    """The methods and attributes of each report are listed, and no others."""
    shown = [name.strip("`") for name, *_ in table_of(result.__name__)]

    assert set(shown) == public_names(result)
    assert len(shown) == len(set(shown))


@pytest.mark.slow
def test_the_page_runs_and_is_true() -> None:
    """Each block must run, and each DataFrame have the columns and types of its table.

    The attributes and methods of the results have the types of theirs.
    """
    parts = [*parts_of_page(), Part("", (), [])]
    known: dict[str, Any] = {}
    for part, following in pairwise(parts):
        if part.code:
            value = run_block(part.code, known)
            shown = following.rows if following.columns[:1] == ("column",) else None
            assert shown == frame_rows(value, shown), part.code

    code = "".join(part.code for part in parts)
    called = set(re.findall(r"(\w+)\(", code))
    assert {each.__name__ for each in functions()} <= called
    for result in RESULTS:
        (name,) = re.findall(
            rf"^#+ {result.__name__}\n\n`(.*)` above", TEXT, re.MULTILINE
        )
        require_types(eval(name, known), table_of(result.__name__))  # noqa: S307


def run_block(code: str, known: dict[str, Any]) -> Any:
    """Execute a block as a cell; return the value of its last expression."""
    *statements, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        statements.append(last)
    exec(compile(ast.Module(statements, []), "page", "exec"), known)  # noqa: S102
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "page", "eval"), known)  # noqa: S307


def frame_rows(
    value: object, shown: list[tuple[str, ...]] | None
) -> list[tuple[str, ...]] | None:
    """Return the table of a DataFrame, with the texts that are shown; None without."""
    if not isinstance(value, pd.DataFrame):
        return None
    texts = [text for *_, text in shown or []]
    types = value.dtypes.astype(str).items()
    return [(f"`{n}`", f"`{t}`", text) for (n, t), text in zip_longest(types, texts)]


def require_types(result: object, rows: list[tuple[str, ...]]) -> None:
    """Assert that the attributes and methods of a result have the types that are shown.

    Methods that take arguments are not called.
    """
    for shown, types, _ in rows:
        name = shown.strip("`").removesuffix("()")
        if not name.endswith(")"):
            value = getattr(result, name)
            value = value() if shown.endswith("()`") else value
            kinds = (
                {"None"} if value is None else {k.__name__ for k in type(value).__mro__}
            )
            assert kinds & code_names(types), shown
