"""Rates and ratios of the figures, and their goals."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

Figures: TypeAlias = Mapping[str, Any]

PACKAGES = ("boto3", "orjson", "pandas", "psycopg2-binary", "pyarrow")
RATIOS = {
    "load to batch_writer": ("load_by_program", "load_by_batch_writer", 8),
    "load to put_df": ("load_by_program", "load_by_put_df", 15),
    "extract to read_sql": ("extract_by_program", "extract_by_read_sql", 3),
    "whole to script": ("whole_by_program", "whole_by_script", 4),
    "reconcile to merge": ("reconcile_by_program", "reconcile_by_merge", 4),
    "mapped to script": ("mapped_by_program", "mapped_by_script", 5),
    "mapped reconcile to script": (
        "mapped_reconcile_by_program",
        "mapped_reconcile_by_script",
        5,
    ),
}
MOVING_RATE = 20_000
RECONCILE_RATE = 60_000
# Twelve attributes of mixed types.
MAPPED_MOVING_RATE = 10_000
MAPPED_RECONCILE_RATE = 25_000
MEMORY_GROWTH = 1.3
TIME_GROWTH = 1.15
POINTS = 3
VERDICTS = {True: "yes", False: "no"}


def summarise(runs: Sequence[Figures]) -> dict[str, Any]:
    """Return rates by contender, ratios between them, and growth with the rows.

    Rates are rows per CPU second of the client, marginal between the two largest
    sizes, so that the cost of a start is separate; with one size they include it.
    """
    series: dict[str, list[Figures]] = {}
    for run in runs:
        if "cpu_seconds" in run:
            series.setdefault(run["contender"], []).append(run)
    rates = {name: _rate(points, "cpu_seconds") for name, points in series.items()}
    whole = series.get("whole_by_program", [])
    goals = {
        name: _goal(rates[ours]["rate"] / rates[theirs]["rate"], at_least=least)
        for name, (ours, theirs, least) in RATIOS.items()
        if ours in rates and theirs in rates
    }
    if whole and all(run.get("moving_cpu_seconds") for run in whole):
        rates["moving"] = _rate(whole, "moving_cpu_seconds")
        goals["moving rate"] = _goal(rates["moving"]["rate"], at_least=MOVING_RATE)
    mapped = series.get("mapped_by_program", [])
    if mapped and all(run.get("moving_cpu_seconds") for run in mapped):
        rates["mapped moving"] = _rate(mapped, "moving_cpu_seconds")
        rate = rates["mapped moving"]["rate"]
        goals["mapped moving rate"] = _goal(rate, at_least=MAPPED_MOVING_RATE)
    for name, least in (
        ("reconcile_by_program", RECONCILE_RATE),
        ("mapped_reconcile_by_program", MAPPED_RECONCILE_RATE),
    ):
        if name in rates:
            title = name.removesuffix("_by_program").replace("_", " ")
            goals[f"{title} rate"] = _goal(rates[name]["rate"], at_least=least)
    if len(whole) > 1:
        growth = whole[-1]["peak_rss_mib"] / whole[0]["peak_rss_mib"]
        goals["memory growth"] = _goal(growth, at_most=MEMORY_GROWTH)
    if len(whole) >= POINTS:
        goals["time growth"] = _goal(_time_growth(whole), at_most=TIME_GROWTH)
    return {"rates": rates, "goals": goals}


def as_markdown(result: Figures) -> str:
    """Return rates, goals and runs as the tables of README.md."""
    rates = [
        f"| {name} | {figures['rate']:,.0f} | {figures['fixed_seconds']} |"
        for name, figures in result["rates"].items()
    ]
    goals = [
        f"| {name} | {goal['value']:,} | {_bound(goal)} | {VERDICTS[goal['met']]} |"
        for name, goal in result["goals"].items()
    ]
    columns = ("cpu_seconds", "wall_seconds", "peak_rss_mib", "endpoint_cpu_seconds")
    runs = [
        f"| {run['contender']} | {run['asked']:,} | "
        + " | ".join(f"{run[column]:,}" for column in columns)
        + " |"
        for run in result["runs"]
        if columns[0] in run
    ]
    parts = [
        ["| contender | rows/CPU s | fixed s |", "|---|---:|---:|", *rates],
        ["| goal | value | wanted | met |", "|---|---:|---|---|", *goals],
        ["| run | rows | CPU s | wall s | peak MiB | endpoint CPU s |"],
    ]
    parts[-1] += ["|---|---:|---:|---:|---:|---:|", *runs]
    return "\n\n".join("\n".join(part) for part in parts)


def _bound(goal: Figures) -> str:
    if "at_least" in goal:
        return f"at least {goal['at_least']:,}"
    return f"at most {goal['at_most']:,}"


def machine() -> dict[str, Any]:
    """Return the properties of this machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _rate(points: Sequence[Figures], seconds: str) -> dict[str, float]:
    """Return rows per second, and the seconds that do not grow with the rows."""
    last, before = points[-1], points[-2] if len(points) > 1 else None
    rows = last["rows"] - (before["rows"] if before else 0)
    spent = last[seconds] - (before[seconds] if before else 0.0)
    rate = rows / max(spent, 0.01)
    fixed = last[seconds] - last["rows"] / rate
    return {"rate": round(rate, 1), "fixed_seconds": round(fixed, 2)}


def _time_growth(points: Sequence[Figures]) -> float:
    """Return the wall time of the largest size over its linear extrapolation."""
    first, second, last = points[0], points[1], points[-1]
    slope = (second["wall_seconds"] - first["wall_seconds"]) / (
        second["rows"] - first["rows"]
    )
    foretold = first["wall_seconds"] + slope * (last["rows"] - first["rows"])
    return float(last["wall_seconds"] / foretold)


def _goal(
    value: float, *, at_least: float | None = None, at_most: float | None = None
) -> dict[str, Any]:
    bound = {"at_least": at_least} if at_least is not None else {"at_most": at_most}
    met = (at_least is None or value >= at_least) and (
        at_most is None or value <= at_most
    )
    return {"value": round(value, 2)} | bound | {"met": met}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
