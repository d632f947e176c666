"""Functions that notebooks call beside the steps: stores, samples and charts.

Nothing here decides or writes anything that a run does not.
"""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas as pd
import pyarrow as pa
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.demo.stores import NotebookStores, embedded_stores
from flows.errors import SettingsError
from flows.extract import extract_enterprises, sample_ids
from flows.mapping import load_mapping
from flows.mapping.model import ENTERPRISE
from flows.models import PartitionSpec, SourceTable, same_value
from flows.reconciliation.compare import as_rows
from flows.reconciliation.source_rows import Selection, copy_rows
from flows.reports.charts import Drawing, draw_across, draw_bars, draw_counts
from flows.reports.validation_results import compare_profiles
from flows.run.keys import keys_of_rows
from flows.run.preflight import Acceptance, open_stores
from flows.run.source_profile import read_profile
from flows.settings import load_settings
from flows.stores.postgres.snapshots import describe_held
from flows.stores.postgres.watch import open_watched
from flows.timing import Progress
from validation.contract import Reason, Severity
from validation.html_tables import HIDDEN, LONGEST, cut_cells

# If one of these is set, the configured stores are used, not embedded ones.
NAMES_A_STORE = (
    "database_url",
    "pghost",
    "pgdatabase",
    "pgservice",
    "dynamodb_endpoint",
)
WARNINGS = frozenset(r.value for r in Reason if r.severity is Severity.WARNING)
LENGTH_STEP = 10
# Cuts a cell of an interactive table, as `cut_cells` does; text never becomes markup.
CUT_CELL = f"""function (cell) {{
  const whole = cell.textContent.replace(/{HIDDEN}/gu, function (hidden) {{
    return '\\\\u' + hidden.charCodeAt(0).toString(16).padStart(4, '0');
  }});
  const long = whole.length > {LONGEST};
  if (long) {{ cell.title = whole; }}
  cell.textContent = long ? whole.slice(0, {LONGEST - 1}) + '…' : whole;
}}"""
# Jupyter would break ids into several lines.
ONE_LINE = "<style>table.dataframe td { white-space: nowrap; }</style>"
SAMPLE_ROWS = 5_000


@contextmanager
def notebook_stores(*, mapped: bool = False) -> Iterator[NotebookStores]:
    """Use the stores that are set, or embedded ones with the sample if none is set.

    If *mapped*, they are always embedded ones, with the second sample and its mapping.

    Raises:
        Refused: a setting is wrong, or the embedded stores do not start.
    """
    settings = load_settings()
    named = any(getattr(settings, name) is not None for name in NAMES_A_STORE)
    if named and not mapped:
        yield NotebookStores(settings, embedded=False)
        return
    with embedded_stores(mapped=mapped) as stores:
        yield NotebookStores(stores.settings, embedded=True)


def format_tables() -> None:
    """Show DataFrames as tables that cut long values, with the whole at the pointer.

    The tables sort and search by a click if itables is installed.
    """
    from IPython import get_ipython

    format_frame = _format_table
    if importlib.util.find_spec("itables") is not None:
        from itables import init_notebook_mode

        init_notebook_mode(all_interactive=False)
        format_frame = _format_interactive_table
    if (shell := get_ipython()) is not None:
        html = shell.display_formatter.formatters["text/html"]
        html.for_type(pd.DataFrame, format_frame)


def _format_table(frame: pd.DataFrame) -> str:
    """Return a DataFrame as pandas shows it, but with its long values cut."""
    # pandas would drop the rest, and MathJax would typeset a name with dollars.
    whole = ("display.max_colwidth", None, "display.html.use_mathjax", False)
    shown: Any = frame
    with pd.option_context(*whole):
        return ONE_LINE + cut_cells(shown._repr_html_())


def _format_interactive_table(frame: pd.DataFrame) -> str:
    """Return a DataFrame as a table that sorts and searches; the browser cuts it."""
    from itables import JavascriptFunction, to_html_datatable

    shown: str = to_html_datatable(
        frame,
        columnDefs=[{"targets": "_all", "createdCell": JavascriptFunction(CUT_CELL)}],
        # Else the columns would be as wide as their longest values.
        autoWidth=False,
        # Large enough for a whole sample.
        maxBytes="4MB",
        classes="display nowrap compact tex2jax_ignore mathjax_ignore",
    )
    return shown


def show_bar() -> Progress:
    """Return a progress with a bar, for ``migrate(progress=show_bar())``."""
    return _Bar()


class _Bar(Progress):
    """A bar of rows for each phase whose rows are counted."""

    def changed(self) -> None:
        """Show the present phase, and the rows that are done at its partitions' end."""
        if importlib.util.find_spec("ipywidgets") is not None:
            from tqdm.notebook import tqdm
        else:
            from tqdm import tqdm
        bars: list[Any] = vars(self).setdefault("_bars", [])
        if not self.finished:
            while bars:
                bars.pop().close()
            if self.total:
                name = self.phase.capitalize()
                bars.append(tqdm(desc=name, total=self.total, unit=" rows"))
        for bar in bars:
            bar.update(self.done - bar.n)


def profile_source(entity: str = ENTERPRISE) -> pd.DataFrame:
    """Measure all rows of an entity: counts, NULLs, lengths and ranges, one per row."""
    with _opened(entity) as (connection, source):
        profile = read_profile(connection, source)
    lines = pd.DataFrame(compare_profiles(profile, None))
    return lines.rename(columns={"now": "value"})[["measure", "value"]].astype(str)


def sample_source(rows: int = SAMPLE_ROWS, entity: str = ENTERPRISE) -> pd.DataFrame:
    """Read random rows of an entity; every value is PostgreSQL's text."""
    with _opened(entity) as (connection, source):
        ids = sample_ids(connection, source, rows)
    return read_rows(ids, entity)


def read_rows(source_ids: Iterable[str], entity: str = ENTERPRISE) -> pd.DataFrame:
    """Read the rows that have these ids; every value is PostgreSQL's text."""
    ids = tuple(dict.fromkeys(source_ids))
    with _opened(entity) as (connection, source):
        return extract_enterprises(
            connection, PartitionSpec("look", 1, source, ids=ids)
        )


@contextmanager
def _opened(entity: str) -> Iterator[tuple[Connection, SourceTable]]:
    """Open the source of an entity.

    Raises:
        SettingsError: the mapping has no such entity.
    """
    settings = load_settings()
    mapping = load_mapping(settings)
    with open_watched(settings) as (connection, _):
        sources = describe_held(connection, settings, mapping)
        found = {source.entity: source for source in sources}
        if entity not in found:
            message = f"The mapping has no entity {entity!r}."
            raise SettingsError(message, f"Name one of: {', '.join(found)}.")
        yield connection, found[entity]


def draw_rows(rows: pd.DataFrame) -> Drawing:
    """Draw when rows were created and updated, and how long their names are."""
    dates = {
        "created": _by_day(rows["created_date"]),
        "updated": _by_day(rows["updated_date"]),
    }
    lengths = rows["enterprise_name"].dropna().str.len() // LENGTH_STEP * LENGTH_STEP
    counted = lengths.value_counts().sort_index()
    names = {
        f"{low:.0f}-{low + LENGTH_STEP - 1:.0f}": int(count)
        for low, count in zip(counted.index.tolist(), counted.tolist(), strict=True)
    }
    charts = (
        draw_bars("Created and updated, in the periods that have any", dates),
        draw_counts("Lengths of names", ("characters", "rows"), names),
    )
    return Drawing(tuple(chart for chart in charts if chart))


def draw_reasons(by_reason: Mapping[str, int]) -> Drawing:
    """Draw how many rows have each reason, those in quarantine apart from the moved."""
    warnings = {name: n for name, n in by_reason.items() if name in WARNINGS}
    critical = {name: n for name, n in by_reason.items() if name not in WARNINGS}
    charts = (
        draw_across("Rows that go to quarantine, by reason", critical),
        draw_across("Rows that are moved with a warning, by reason", warnings),
    )
    return Drawing(tuple(chart for chart in charts if chart))


def compare_enterprise(source_id: str, entity: str = ENTERPRISE) -> pd.DataFrame:
    """Compare the item that a row becomes now with the item that is in the table.

    One row per attribute: its value on either side, and whether they are equal.
    """
    found: list[pa.Table] = []
    only = Acceptance(mapping=True, entities=(entity,))
    with open_stores(accepting=only, writing=False) as stores:
        selection = Selection(ids=[source_id])
        copy_rows(stores.connection, stores.source, found.append, selection)
        expected = stores.expected_items(stores.source)
        made = [expected.item(row)[0] for part in found for row in as_rows(part)]
        keys = [key for _, key in keys_of_rows(stores, [source_id]).values()]
        there = stores.table.read(keys)
        source, target = next(iter(made), {}), next(iter(there.values()), {})
    names = list(dict.fromkeys((*source, *target)))
    values = [(name, source.get(name), target.get(name)) for name in names]
    lines = [(*line, same_value(*line[1:])) for line in values]
    columns = ["attribute", "source", "target", "equal"]
    frame = pd.DataFrame(lines, columns=columns, dtype=object)
    return frame.astype({"attribute": "str", "equal": bool})


def _by_day(stamps: pd.Series) -> dict[str, int]:
    """Count PostgreSQL's texts of times by day, for the years 1 to 9999."""
    days = stamps.dropna().str.extract(r"^(\d{4}-\d\d-\d\d) .*\+00$")[0]
    return {str(day): int(count) for day, count in days.value_counts().items()}
