"""Functions that the notebooks call besides the steps, on real stores."""

from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from flows.demo.cutover import catch_up, rehearse_cutover
from flows.demo.stores import NotebookStores
from flows.explore import (
    compare_enterprise,
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
        for shown in (repr(stores), stores._repr_html_()):
            assert "YOUR STORES" in shown
            assert "EMBEDDED" not in shown


@pytest.mark.usefixtures("source")
def test_the_stores_are_named_in_bold_and_the_file_that_was_read(
    table: EnterpriseTable, tmp_path: Path
) -> None:
    """Source, target and `.env` are named, also before the stores can be reached."""
    (tmp_path / ".env").write_text("SOURCE_TABLE=<b>.enterprises\n")
    settings = load_settings()
    shown = NotebookStores(settings, embedded=False)._repr_html_()
    embedded = NotebookStores(settings, embedded=True)._repr_html_()

    assert "<b>&lt;b&gt;.enterprises</b> in PostgreSQL at" in shown
    assert f"<b>{table.name}</b> in DynamoDB, region {table.region}" in shown
    assert f"<b>{tmp_path / '.env'}</b> and the environment" in shown
    assert "<b>EMBEDDED STORES on this machine, with the SAMPLE" in embedded
    assert "where no store is named" in embedded


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
    assert "5/5" in capsys.readouterr().err
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
