"""The notebooks, executed in a real kernel."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_verdict(path: Path, tmp_path: Path) -> None:
    """Every cell must run, and the last one must say that the run is proven."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}

    NotebookClient(notebook, timeout=240, resources=where).execute()

    (last,) = notebook.cells[-1].outputs
    assert last["data"]["text/plain"].startswith("'Proven: 4993 of 5000 rows")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_clean_and_defines_nothing(path: Path) -> None:
    """Notebooks call and never define; outputs are not committed."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert len(notebook.cells) <= 25
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [c.source for c in code if "def " in c.source or "class " in c.source] == []
