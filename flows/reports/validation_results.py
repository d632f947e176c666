"""The validation results of a run, for its JSON and a section of its report.

The section is part of the report and needs no network.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from validation.report import describe_result, merge_results
from validation.rules import item_suite_of, source_suite_of
from validation.subject import Subject

SIDES = ("source", "items")


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
            "rules": describe_result(suite, validation.get(side, {}), subject),
        }
        for side, suite in _suites_of(subject).items()
    }


def _suites_of(subject: Subject) -> dict[str, str]:
    """Return the names of a subject's suites by side."""
    suites = (source_suite_of(subject), item_suite_of(subject))
    return {side: suite.name for side, suite in zip(SIDES, suites, strict=True)}


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

    parts = list(parts)
    results = {
        suite: validation.get(side, {})
        for subject, validation in parts
        for side, suite in _suites_of(subject).items()
    }
    subjects = [subject for subject, _ in parts]
    folder = directory / "data_docs"
    return str(write_pages(results, folder, run=directory.name, subjects=subjects))
