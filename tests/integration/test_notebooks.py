"""Functions that the notebooks call besides the steps, on real stores."""

from contextlib import closing

import psycopg2
import pytest

from flows.demo.cutover import catch_up, rehearse_cutover
from flows.demo.stores import NotebookStores
from flows.explore import (
    compare_enterprise,
    draw_reasons,
    draw_rows,
    notebook_stores,
    profile_source,
    read_rows,
    sample_source,
    show_bar,
)
from flows.pipeline import migrate
from flows.settings import load_settings
from flows.stores.dynamodb.table import EnterpriseTable

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


@pytest.mark.usefixtures("source", "table")
def test_stores_that_are_set_are_the_ones_at_hand() -> None:
    """A notebook must show that it uses the stores of the user."""
    with notebook_stores() as stores:
        assert not stores.embedded
        assert stores.settings == load_settings()
        assert "YOUR STORES: public.enterprises and Test-" in repr(stores)


@pytest.mark.usefixtures("source")
def test_nothing_is_rehearsed_on_stores_of_the_user(table: EnterpriseTable) -> None:
    """A rehearsal writes, so it must not touch stores that are not embedded."""
    stores = NotebookStores(load_settings(), embedded=False)

    rehearse_cutover(stores)
    catch_up(stores)

    assert table.client.scan(TableName=table.name)["Count"] == 0


@pytest.mark.usefixtures("table")
def test_an_enterprise_is_shown_on_both_sides(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The expected and the actual item must be shown side by side, with differences."""
    assert migrate(progress=show_bar()).status == "proven"
    assert "1/1" in capsys.readouterr().err
    with closing(psycopg2.connect(source)) as connection, connection:
        connection.cursor().execute("UPDATE enterprises SET name='New' WHERE id=42")

    shown = compare_enterprise("42").set_index("attribute")
    gone = compare_enterprise("4711")

    assert shown.loc["name"].tolist() == ["New", "Acme GmbH", False]
    assert shown.loc["PK"].tolist()[2]
    assert (~shown["equal"]).sum() == 2
    assert gone.empty


@pytest.mark.usefixtures("source", "table")
def test_rows_are_profiled_and_drawn() -> None:
    """Each measure is a line, each row can be shown, and axes have names."""
    profile = profile_source().set_index("measure")["value"]
    rows = sample_source(3)
    page = draw_rows(sample_source())._repr_html_()

    assert profile["rows"] == "5"
    assert len(rows) == 3
    assert read_rows(["42", "42"])["enterprise_name"].tolist() == ["Acme GmbH"]
    assert page.count("<figure") == 2
    for axis in ("date", "enterprises", "characters", "rows"):
        assert f">{axis}</text>" in page
    reasons = draw_reasons({"name_blank": 3})._repr_html_()
    assert "name_blank" in reasons
    assert "Reasons for quarantine" in reasons
    warnings = draw_reasons({"name_long": 1}, "Warnings: these rows are moved")
    assert "Warnings: these rows are moved" in warnings._repr_html_()
    assert "quarantine" not in warnings._repr_html_()
