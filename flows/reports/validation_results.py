"""The validation results of a run, for its JSON and a section of its report.

The section is part of the report and needs no network.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from validation.contract import ITEM_SUITE, SOURCE_SUITE
from validation.report import describe_result, merge_results
from validation.subject import Subject

SIDES = ("source", "items")
SUITES = {"source": SOURCE_SUITE, "items": ITEM_SUITE}


def merge_validations(
    validations: Iterable[Mapping[str, Any]], duplicate_names: int | None = None
) -> dict[str, Any]:
    """Merge the validations of a run's partitions into one.

    A partition sees only the names of its rows. *duplicate_names* counts those of the
    whole table, if they were counted.
    """
    found = list(validations)
    merged = {side: merge_results(one.get(side, {}) for one in found) for side in SIDES}
    if duplicate_names is not None:
        warnings = merged["source"]["warnings"]
        warnings.pop("name_duplicate", None)
        if duplicate_names:
            warnings["name_duplicate"] = duplicate_names
        merged["source"]["warnings"] = dict(sorted(warnings.items()))
    return merged


def describe_validation(
    validation: Mapping[str, Any], subject: Subject
) -> dict[str, Any]:
    """Return both suites' results with a line for each rule."""
    return {
        side: {
            "suite": suite,
            "success": not validation.get(side, {}).get("failed_rows", 0),
            **{
                name: validation.get(side, {}).get(name, nothing)
                for name, nothing in merge_results([]).items()
                if name != "examples"
            },
            "rules": describe_result(suite, validation.get(side, {})),
        }
        for side, suite in SUITES.items()
    }


def compare_profiles(
    now: Mapping[str, Any] | None, last: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return a line for each measure of the source's rows, now and in the last run."""
    if not now:
        return []
    return [
        {
            "measure": name.replace("_", " "),
            "now": value,
            "last": (last or {}).get(name),
        }
        for name, value in now.items()
    ]


def write_data_docs(
    parts: Iterable[tuple[Subject, Mapping[str, Any]]], directory: Path
) -> str:
    """Write Great Expectations' pages of a run; return the path of the first page."""
    from validation.data_docs import write_pages

    results = {
        suite: validation.get(side, {})
        for subject, validation in parts
        for side, suite in SUITES.items()
    }
    return str(write_pages(results, directory / "data_docs", run=directory.name))
