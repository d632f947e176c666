"""The notebooks, executed in a real kernel."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
# What the last cell of each must say, on the embedded stores.
VERDICTS = {
    "01_explore_the_source": r"Explored: 5000 of 5000 rows looked at",
    "02_validate_and_look_into_failures": (
        r"source_enterprises: 7 of 5,000 rows failed \(created_date_not_finite 1, .*"
    ),
    "03_migrate_and_reconcile": r"Proven: 4,993 of 5,000 rows proven equal, 7 in .*",
    "04_follow_up_after_cutover": (
        r"Clean: \d+ of \d+ rows proven equal, 3 newer in target, 1 deleted in target,"
        r" \d explained, 1 created in target, .*"
    ),
    "05_map_more_columns": r"Proven: [\d,]+ of [\d,]+ rows proven equal, \d+ in .*",
}


def test_each_notebook_has_a_verdict() -> None:
    """There must be five notebooks, numbered, and what each ends with known."""
    assert [path.stem for path in NOTEBOOKS] == list(VERDICTS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_verdict(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell must run on embedded stores, and the last one say what is so."""
    # Coverage of moto takes minutes.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}

    NotebookClient(notebook, timeout=240, resources=where).execute()

    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    shown = first.outputs[-1]["data"]["text/html"]
    bold = [text.split("</b>")[0] for text in shown.split("<b>")[1:]]
    assert bold[0].startswith("EMBEDDED STORES")
    assert bold[1:] == ["public.enterprises", "EnterpriseConfig", "no .env"]
    (last,) = notebook.cells[-1].outputs
    verdict = last["data"]["text/plain"].strip("'")
    assert re.fullmatch(VERDICTS[path.stem], verdict), verdict


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_short_clean_and_defines_nothing(path: Path) -> None:
    """Notebooks call and never define; outputs are not committed."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    assert len(notebook.cells) <= 25
    assert [cell.outputs for cell in code] == [[]] * len(code)
    assert [c.source for c in code if "def " in c.source or "class " in c.source] == []
