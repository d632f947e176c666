"""The benchmark runs from end to end with a few rows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_all_parts_but_put_df_run(tmp_path: Path) -> None:
    """Each contender must move and find every row, and rates must be drawn."""
    plot = tmp_path / "rates.svg"
    parts = ["extract", "whole", "reconcile", "mapped"]
    command = [sys.executable, "-m", "tests.benchmarks.side_by_side", "--rows", "300"]

    done = subprocess.run(
        [*command, "--plot", plot, "--options", "partition_rows=200", "--only", *parts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    printed = json.loads(done.stdout)
    assert len(printed["runs"]) == 10
    assert printed["options"] == {"partition_rows": "200"}
    assert {run["rows"] for run in printed["runs"]} == {300}
    assert {run.get("status", "proven") for run in printed["runs"]} == {
        "proven",
        "clean",
    }
    assert printed["goals"]["whole to script"]["at_least"] == 4
    assert "batch" not in plot.read_text()
    assert plot.read_text().count("<rect") == 12


def test_every_benchmark_can_be_started_by_its_name() -> None:
    """Benchmarks must start without the paths that pytest adds."""
    folder = Path(__file__).parent
    names = [path.stem for path in folder.glob("*.py") if path.stem[:5] != "test_"]
    imports = "; ".join(f"import tests.benchmarks.{name}" for name in names)

    subprocess.run([sys.executable, "-c", imports], cwd=ROOT, check=True)
