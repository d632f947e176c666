"""The files of the reports of runs and reconciliations."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.prepare import subject_of
from flows.reconciliation.report import ReconciliationReport
from flows.reports.files import (
    paths_in,
    write_differences,
    write_json,
    write_renderings,
)
from flows.reports.validation_results import compare_profiles, describe_validation
from flows.run.entity_end import EntityEnd, plain_validation
from flows.run.report import MigrationReport


def name_files(directory: Path) -> dict[str, str]:
    """Return the paths of the files that ``write_migration`` writes, by name."""
    paths = paths_in(directory) | {"validation": directory / "validation.json"}
    return {name: str(path) for name, path in paths.items()}


def write_migration(report: MigrationReport, directory: Path) -> None:
    """Write the report of a run, and its validation results."""
    parts, paths = [_describe_part(one) for one in report.entities], paths_in(directory)
    write_renderings(report, paths, report.reconciliation, validations=parts)
    validation: dict[str, Any] = plain_validation(report.validation)
    profile: dict[str, Any] = {}
    if len(parts) == 1:
        validation = {side: parts[0][side] for side in validation}
        profile = {"profile": parts[0]["profile"]}
    results = {
        "run_id": report.run_id,
        **validation,
        "quarantined": dict(report.quarantine),
        **profile,
        "warnings": list(report.warnings),
    }
    if len(parts) > 1:
        results["entities"] = {part["entity"]: part for part in parts}
    write_json(results, Path(name_files(directory)["validation"]))


def _describe_part(one: EntityEnd) -> dict[str, Any]:
    """Return an entity's validations and profile, with a line for each rule."""
    return {
        "entity": one.source.entity,
        **describe_validation(one.validation, subject_of(one.source)),
        "profile": compare_profiles(one.profile, one.last_profile),
    }


def write_reconciliation(
    report: ReconciliationReport, directory: Path
) -> ReconciliationReport:
    """Write a reconciliation's files; return the report that names them."""
    files = write_differences(report.differences, directory)
    paths = paths_in(directory)
    report = replace(report, files={n: str(p) for n, p in paths.items()} | files)
    write_renderings(report, paths, report)
    return report
