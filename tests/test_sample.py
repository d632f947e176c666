"""The committed sample: output of its generator, and hard cases for a migration."""

import csv
import importlib.util
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import ModuleType
from unicodedata import is_normalized, normalize

import psycopg2
import pytest
from psycopg2 import extensions

DATA = Path(__file__).parents[1] / "data"
SAMPLE = DATA / "sample" / "enterprises.csv"

# Independent of the program, so that the two can be compared.
BAD_ROWS = r"""
    SELECT id FROM public.enterprises
    WHERE btrim(name, E' \t\n\r\u00a0\u3000') = ''
       OR (created_date IS NULL AND updated_date IS NULL)
       OR NOT isfinite(created_date)
       OR NOT isfinite(updated_date)
       OR least(created_date, updated_date) < '0001-01-01 00:00:00+00'
       OR greatest(created_date, updated_date) >= '10000-01-01 00:00:00+00'
    ORDER BY id
"""
COPY = "COPY public.enterprises FROM STDIN (FORMAT csv, HEADER)"

Connection = extensions.connection
Record = dict[str, str]


def import_generator() -> ModuleType:
    """Load the generator from its path: `data` is no package."""
    path = DATA / "generate_sample.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = import_generator()


@pytest.fixture
def source(database_url: str) -> Iterator[Connection]:
    """Connect to a database in which the table exists and is empty."""
    with closing(psycopg2.connect(database_url)) as connection:
        connection.set_client_encoding("UTF8")
        with connection.cursor() as cursor:
            cursor.execute((DATA / "schema.sql").read_text(encoding="utf-8"))
        yield connection


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Read the committed sample with Python's CSV reader."""
    return read_records(SAMPLE.read_bytes())


def generate(*arguments: str, path: Path) -> bytes:
    """Run the generator's command into *path*, and return what it wrote."""
    generator.main([*arguments, "--output", str(path)])
    return path.read_bytes()


def read_records(content: bytes) -> list[Record]:
    """Split CSV into records; keep blanks and line ends inside a name."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def load(connection: Connection, content: bytes) -> None:
    """Copy CSV into the table."""
    with connection.cursor() as cursor:
        cursor.copy_expert(COPY, io.BytesIO(content))


def fetch(connection: Connection, query: str) -> list[tuple[object, ...]]:
    """Return all rows of *query*."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def test_committed_sample_is_reproduced(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Without arguments the generator writes the committed file, byte for byte."""
    generator.main([])

    assert capfdbinary.readouterr().out == SAMPLE.read_bytes()


def test_another_seed_makes_another_sample(tmp_path: Path) -> None:
    """The seed determines the sample."""
    one = generate("--rows", "100", "--seed", "1", path=tmp_path / "one.csv")
    two = generate("--rows", "100", "--seed", "2", path=tmp_path / "two.csv")

    assert one != two


def test_sample_loads_exactly(source: Connection, records: list[Record]) -> None:
    """PostgreSQL has the names of the file, and NULL only for its empty dates."""
    load(source, SAMPLE.read_bytes())

    stored = fetch(
        source,
        "SELECT id::text, name, created_date IS NULL, updated_date IS NULL"
        " FROM public.enterprises ORDER BY enterprises.id",
    )
    assert len(stored) == generator.ROWS
    assert stored == [
        (row["id"], row["name"], not row["created_date"], not row["updated_date"])
        for row in records
    ]


def test_sample_holds_seven_bad_rows(source: Connection, records: list[Record]) -> None:
    """Exactly the documented number of rows is bad, one in each seventh of the file."""
    load(source, SAMPLE.read_bytes())

    bad = {str(row_id) for (row_id,) in fetch(source, BAD_ROWS)}
    places = [place for place, row in enumerate(records) if row["id"] in bad]
    assert generator.QUARANTINED == 7
    assert [place * 7 // len(records) for place in places] == list(range(7))


@pytest.mark.parametrize("rows", [0, 1, generator.ROWS])
def test_clean_sample_has_no_bad_row(
    source: Connection, tmp_path: Path, rows: int
) -> None:
    """With --clean there are as many rows as requested, and none of them is bad."""
    content = generate("--clean", "--rows", str(rows), path=tmp_path / "clean.csv")
    load(source, content)

    assert fetch(source, "SELECT count(*) FROM public.enterprises") == [(rows,)]
    assert fetch(source, BAD_ROWS) == []


def test_clean_changes_the_bad_rows_alone(
    records: list[Record], tmp_path: Path
) -> None:
    """With --clean the other rows stay unchanged, as do all ids."""
    clean = read_records(generate("--clean", path=tmp_path / "clean.csv"))

    pairs = list(zip(records, clean, strict=True))
    assert [row["id"] for row in records] == [row["id"] for row in clean]
    assert sum(ours != theirs for ours, theirs in pairs) == generator.QUARANTINED


@pytest.mark.parametrize("rows", [7, 8, 25, 49])
def test_small_sample_holds_all_bad_rows(
    source: Connection, tmp_path: Path, rows: int
) -> None:
    """Even with few rows, --rows is exact and includes the seven bad ones."""
    load(source, generate("--rows", str(rows), path=tmp_path / "small.csv"))

    assert fetch(source, "SELECT count(*) FROM public.enterprises") == [(rows,)]
    assert len(fetch(source, BAD_ROWS)) == generator.QUARANTINED


@pytest.mark.parametrize("arguments", [["--rows", "6"], ["--clean", "--rows", "-1"]])
def test_too_few_rows_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An impossible number of rows ends with status 2 and an error with the minimum."""
    with pytest.raises(SystemExit) as refused:
        generator.main(arguments)

    assert refused.value.code == 2
    assert "--rows must be at least" in capsys.readouterr().err


def test_ids_rise_with_gaps(records: list[Record]) -> None:
    """Ids are positive and ascending, with gaps."""
    ids = [int(row["id"]) for row in records]

    assert ids[0] > 0
    assert ids == sorted(set(ids))
    assert ids[-1] > len(ids)


def test_every_odd_name_is_there(records: list[Record]) -> None:
    """Each name known to break something occurs in the sample."""
    oddities = json.loads((DATA / "names.json").read_bytes())["oddities"]
    odd = {name for kind in oddities.values() for name in kind}

    assert odd <= {row["name"] for row in records}


def has_twins(names: Iterable[str]) -> bool:
    """Return whether a name is present both composed and decomposed."""
    seen = set(names)
    twins = (name for name in seen if not is_normalized("NFC", name))
    return any(normalize("NFC", name) in seen for name in twins)


@pytest.mark.parametrize(
    "holds",
    [
        pytest.param(lambda names: len(set(names)) < len(names), id="repeats"),
        pytest.param(has_twins, id="NFC-and-NFD"),
        pytest.param(
            lambda names: any(n != n.rstrip() and n.strip() for n in names),
            id="trailing",
        ),
        pytest.param(
            lambda names: any(n != n.lstrip() and n.strip() for n in names),
            id="leading",
        ),
        pytest.param(lambda names: "\U00010332" in "".join(names), id="Gothic"),
        pytest.param(lambda names: "\U00020bb7" in "".join(names), id="extension-B"),
        pytest.param(lambda names: "\U0001f680" in "".join(names), id="emoji"),
        pytest.param(lambda names: "\u200d" in "".join(names), id="joiner"),
        pytest.param(lambda names: "\u200f" in "".join(names), id="RTL-mark"),
    ],
)
def test_names_of_each_kind_are_there(
    records: list[Record], holds: Callable[[list[str]], bool]
) -> None:
    """The sample has names that a program might trim, normalise or shorten."""
    assert holds([row["name"] for row in records])


def test_update_never_precedes_creation(source: Connection, tmp_path: Path) -> None:
    """In a clean sample no row was updated before it was created."""
    load(source, generate("--clean", path=tmp_path / "clean.csv"))

    early = "SELECT id FROM public.enterprises WHERE updated_date < created_date"
    assert fetch(source, early) == []


def test_dates_reach_the_limits(source: Connection, tmp_path: Path) -> None:
    """A clean sample contains the first and the last valid instant."""
    load(source, generate("--clean", path=tmp_path / "clean.csv"))

    with source.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
    limits = "SELECT min(created_date), max(updated_date) FROM public.enterprises"
    first, last = fetch(source, limits)[0]
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    assert first.isoformat() == "0001-01-01T00:00:00+00:00"
    assert last.isoformat() == "9999-12-31T23:59:59.999999+00:00"
