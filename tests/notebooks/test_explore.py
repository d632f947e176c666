"""What notebooks show, without a store."""

import json
from pathlib import Path

import pandas as pd
import pytest

from flows.demo.stores import NotebookStores
from flows.explore import CUT_CELL, _format_table, draw_reasons
from flows.settings import load_settings
from tests.support.browser import CHROMIUM, browsing
from validation.html_tables import LONGEST


def test_stores_that_are_not_set_are_said_to_be_missing() -> None:
    """A store that no setting names is shown as missing, with the reason."""
    shown = repr(NotebookStores(load_settings(), embedded=False))

    assert "in no database: DATABASE_URL is not set" in shown
    assert "in no DynamoDB: " in shown
    assert "no .env and the environment" in shown


def test_reasons_are_drawn_by_what_happens_to_their_rows() -> None:
    """Rows in quarantine and rows that are moved have a chart each, with its title."""
    both = draw_reasons({"name_blank": 3, "name_long": 1, "refused_by_store": 4}).charts
    (critical,) = draw_reasons({"name_blank": 3}).charts
    (warnings,) = draw_reasons({"name_long": 1}).charts

    assert "quarantine, by reason" in critical
    assert "with a warning, by reason" in warnings
    assert "quarantine" not in warnings
    assert ["name_blank" in both[0], "name_long" in both[0]] == [True, False]
    assert both[0].index("refused_by_store") < both[0].index("name_blank")
    assert draw_reasons({}).charts == ()


def test_tables_of_a_notebook_are_cut_by_its_kernel() -> None:
    """A DataFrame shows a long value whole at the pointer, and nothing as markup."""
    shown = _format_table(pd.DataFrame({"name": ["<b>" + "x" * 500]}))

    assert f'title="&lt;b&gt;{"x" * 500}"' in shown
    assert "mathjax_ignore" in shown
    assert "<b>" not in shown


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_cuts_the_cells_of_interactive_tables(tmp_path: Path) -> None:
    """A long value is whole at the pointer; hidden characters show, emoji stay."""
    hostile = "<b>\u202e\x00👩" + "x" * 500
    page = tmp_path / "page.html"
    page.write_text("<td></td>", "utf-8")
    make_cell = "cell = document.createElement('td'), cell.textContent ="
    with browsing(tmp_path / "profile") as browser:
        browser.open(page)
        shown = browser.evaluate(
            f"{make_cell} {json.dumps(hostile)}, ({CUT_CELL})(cell),"
            " [cell.title, cell.textContent, cell.children.length]"
        )
        short = browser.evaluate(
            f"{make_cell} 'short', ({CUT_CELL})(cell), [cell.title, cell.textContent]"
        )

    whole = r"<b>\u202e\u0000👩" + "x" * 500
    # JavaScript counts an emoji as two characters.
    assert shown == [whole, f"{whole[: LONGEST - 2]}…", 0]
    assert short == ["", "short"]
