"""The second sample: output of its generator, and what a mapping must carry."""

import csv
import importlib.util
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType

import psycopg2
import pytest
from psycopg2 import extensions

from flows.demo.stores import MAPPED_QUARANTINED, MAPPED_SAMPLE

DATA = Path(__file__).parents[1] / "data"
FILES = {table: DATA / file for table, file in MAPPED_SAMPLE.files}
ROWS = {"enterprises": 1_000, "products": 4_000}

DIGITS = "length(btrim(replace(abs({0})::text, '.', ''), '0'))"
SOME_LENGTH = "EXISTS (SELECT FROM unnest(dimensions) one WHERE {0})"
# Independent of the program, so that the two can be compared.
BAD_ROWS = {
    "enterprises": {
        "name_blank": r"btrim(name, E' \t\n\r\u00a0\u3000') = ''",
        "plan_not_one_of": "plan NOT IN ('free', 'pro', 'business')",
        "plan_missing": "plan IS NULL",
        "seats_too_small": "seats < 0",
        "settings_too_deep": (
            r"length(regexp_replace(settings::text, '[^{\[]', '', 'g')) > 32"
        ),
        "settings_too_precise": "settings::text ~ '[1-9][0-9]{37,}[1-9]'",
        "settings_out_of_range": "settings::text ~ '[^.0-9][0-9]{127}'",
        "tags_set_empty": "tags = '{}'",
        "tags_set_duplicate": (
            "(SELECT count(one) > count(DISTINCT one) FROM unnest(tags) one)"
        ),
        "tags_set_null": "EXISTS (SELECT FROM unnest(tags) one WHERE one IS NULL)",
        "tags_set_nested": "array_ndims(tags) > 1",
        "created_date_not_finite": "NOT isfinite(created_date)",
    },
    "products": {
        "price_not_a_number": "price = 'NaN'",
        "price_too_precise": f"{DIGITS.format('price')} > 38",
        "price_out_of_range": "price <> 'NaN' AND price >= 1e126",
        "price_too_small": "price < 0",
        "enterprise_id_key_missing": "enterprise_id IS NULL",
        "name_too_short": "name = ''",
        "dimensions_not_a_number": SOME_LENGTH.format("one = 'NaN'"),
        "dimensions_too_precise": SOME_LENGTH.format(f"{DIGITS.format('one')} > 38"),
        "dimensions_out_of_range": SOME_LENGTH.format("one <> 0 AND abs(one) < 1e-130"),
        "released_not_finite": "NOT isfinite(released)",
        "released_out_of_range": "isfinite(released) AND released < '0001-01-01'",
        "timestamps_missing": "coalesce(created_at, updated_at) IS NULL",
        "updated_date_out_of_range": "updated_at >= '10000-01-01 00:00:00+00'",
    },
}
# What no sample may have, besides the rows that are known.
NEVER = {
    "enterprises": "updated_date < created_date AND isfinite(created_date)",
    "products": "updated_at < created_at",
}

Connection = extensions.connection
Record = dict[str, str]


def import_values() -> ModuleType:
    """Load the odd values from their path: `data` is no package."""
    path = DATA / "mapped_values.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


values = import_values()


def run_generator(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the generator as its users do."""
    command = [sys.executable, str(DATA / "generate_sample.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def generate(*arguments: str, folder: Path) -> dict[str, bytes]:
    """Generate a sample into a folder; return each table's file."""
    folder.mkdir(exist_ok=True)
    done = run_generator("--mapped", str(folder), *arguments)
    assert done.returncode == 0, done.stderr
    return {table: (folder / path.name).read_bytes() for table, path in FILES.items()}


def read_committed() -> dict[str, bytes]:
    """Return each table's committed file."""
    return {table: path.read_bytes() for table, path in FILES.items()}


def read_records(content: bytes) -> list[Record]:
    """Split CSV into records; keep blanks and line ends inside a text."""
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


@pytest.fixture
def source(database_url: str) -> Iterator[Connection]:
    """Connect to a database in which both tables exist and are empty."""
    with closing(psycopg2.connect(database_url)) as connection:
        connection.set_client_encoding("UTF8")
        with connection.cursor() as cursor:
            cursor.execute((DATA / MAPPED_SAMPLE.schema).read_text("utf-8"))
        yield connection


def load(connection: Connection, contents: dict[str, bytes]) -> None:
    """Copy CSV into both tables."""
    with connection.cursor() as cursor:
        for table, content in contents.items():
            copy = f"COPY public.{table} FROM STDIN (FORMAT csv, HEADER)"
            cursor.copy_expert(copy, io.BytesIO(content))


def fetch(connection: Connection, query: str) -> list[tuple[object, ...]]:
    """Return all rows of *query*."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def select(connection: Connection, table: str, condition: str) -> list[int]:
    """Return the ids of the rows of a table that meet a condition."""
    query = f"SELECT id FROM public.{table} WHERE {condition}"  # noqa: S608
    return [int(str(row_id)) for (row_id,) in fetch(connection, query)]


def find_bad_rows(connection: Connection) -> dict[str, dict[str, list[int]]]:
    """Return the ids of the rows that cannot be items, by table and reason."""
    return {
        table: {
            reason: select(connection, table, condition)
            for reason, condition in conditions.items()
        }
        for table, conditions in BAD_ROWS.items()
    }


def count_products_of_bad_enterprises(connection: Connection) -> int:
    """Count the products that can be items, and whose enterprises cannot."""
    bad = {
        table: {row_id for ids in reasons.values() for row_id in ids}
        for table, reasons in find_bad_rows(connection).items()
    }
    owners = fetch(connection, "SELECT id, enterprise_id FROM public.products")
    return sum(
        owner in bad["enterprises"] and row_id not in bad["products"]
        for row_id, owner in owners
    )


@pytest.fixture
def loaded(source: Connection) -> Connection:
    """Connect to a database with the committed sample."""
    load(source, read_committed())
    return source


def test_committed_files_are_reproduced(tmp_path: Path) -> None:
    """With --mapped alone the generator writes the committed files, byte for byte."""
    assert generate(folder=tmp_path) == read_committed()


def test_the_files_are_small() -> None:
    """A checkout and a wheel have both files, so they stay below 700 KB."""
    assert sum(map(len, read_committed().values())) < 700_000


def test_another_seed_makes_another_sample(tmp_path: Path) -> None:
    """The seed determines both files."""
    one = generate("--rows", "20", "--seed", "1", folder=tmp_path / "one")
    two = generate("--rows", "20", "--seed", "2", folder=tmp_path / "two")

    assert all(one[table] != two[table] for table in FILES)


@pytest.mark.parametrize("table", FILES)
def test_sample_loads_exactly(loaded: Connection, table: str) -> None:
    """PostgreSQL has the texts of the file, and NULL only for its empty fields."""
    records = read_records(FILES[table].read_bytes())
    names = list(records[0])
    there = ", ".join(f"{name} IS NOT NULL" for name in names)
    query = f"SELECT name, {there} FROM public.{table} ORDER BY id"  # noqa: S608
    stored = fetch(loaded, query)

    assert len(stored) == ROWS[table]
    assert [row[0] for row in stored] == [one["name"] for one in records]
    for place, name in enumerate(names, 1):
        if name in {"name", "owner_email"}:
            continue
        assert [row[place] for row in stored] == [bool(one[name]) for one in records]


def test_each_reason_has_one_row(loaded: Connection) -> None:
    """As many rows as documented are bad, each for one reason that no other has."""
    found = find_bad_rows(loaded)

    bad = [(t, *ids) for t, reasons in found.items() for ids in reasons.values()]
    assert {len(one) for one in bad} == {2}
    assert len(set(bad)) == len(bad) == MAPPED_QUARANTINED


@pytest.mark.parametrize("table", FILES)
def test_bad_rows_are_spread_over_the_file(loaded: Connection, table: str) -> None:
    """Each of as many parts of the file has one bad row."""
    reasons = find_bad_rows(loaded)[table]
    bad = {str(row_id) for ids in reasons.values() for row_id in ids}

    ids = [one["id"] for one in read_records(FILES[table].read_bytes())]
    places = [ids.index(one) * len(bad) // len(ids) for one in bad]
    assert sorted(places) == list(range(len(bad)))


def test_the_page_lists_each_reason(loaded: Connection) -> None:
    """data/README.md names the reasons, and counts the rows of each table."""
    page = (DATA / "README.md").read_text("utf-8")

    for table, reasons in find_bad_rows(loaded).items():
        assert f"{len(reasons)} {table}" in page
        assert [one for one in reasons if f"`{one}`" not in page] == []
    warned = count_products_of_bad_enterprises(loaded)
    assert f"{warned} products of enterprises in quarantine" in page


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_clean_sample_has_no_bad_row(
    source: Connection, tmp_path: Path, rows: int
) -> None:
    """With --clean there are as many rows as requested, and none of them is bad."""
    load(source, generate("--clean", "--rows", str(rows), folder=tmp_path))

    counts = {table: len(select(source, table, "true")) for table in FILES}
    assert counts == {"enterprises": rows, "products": 4 * rows}
    bad = find_bad_rows(source).values()
    assert [ids for reasons in bad for ids in reasons.values() if ids] == []


def test_clean_changes_the_bad_rows_alone(tmp_path: Path) -> None:
    """With --clean the other rows stay unchanged, as do all ids."""
    clean = generate("--clean", folder=tmp_path)

    for table, content in read_committed().items():
        ours, theirs = read_records(content), read_records(clean[table])
        pairs = list(zip(ours, theirs, strict=True))
        assert all(one["id"] == other["id"] for one, other in pairs)
        changed = sum(one != other for one, other in pairs)
        assert changed == len(BAD_ROWS[table])


def test_the_least_rows_hold_all_bad_ones(source: Connection, tmp_path: Path) -> None:
    """With 12 enterprises there is one for each reason."""
    load(source, generate("--rows", "12", folder=tmp_path))

    found = find_bad_rows(source)
    assert {len(i) for reasons in found.values() for i in reasons.values()} == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "11"], "--rows must be at least 12, and is 11"),
        (["--clean", "--rows", "-1"], "--rows must be at least 0, and is -1"),
        (["--output", "one.csv"], "not allowed with argument --mapped"),
    ],
)
def test_impossible_samples_are_refused(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    """A wrong command line ends with status 2 and its reason, and writes nothing."""
    done = run_generator("--mapped", str(tmp_path), *arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "name", "column"),
    [
        ("enterprises", "seats", values.SEATS),
        ("enterprises", "settings", values.SETTINGS),
        ("enterprises", "tags", values.TAGS),
        ("enterprises", "owner_email", values.OWNERS),
        ("products", "price", values.PRICES),
        ("products", "stock", values.STOCKS),
        ("products", "dimensions", values.DIMENSIONS),
        ("products", "released", values.RELEASES),
    ],
)
def test_every_odd_value_is_there(table: str, name: str, column: object) -> None:
    """Each value that a program might round, sort or trim occurs in the sample."""
    odd = {text or "" for text in column.odd}  # type: ignore[attr-defined]

    records = read_records(FILES[table].read_bytes())
    assert odd <= {one[name] for one in records}


@pytest.mark.parametrize("table", FILES)
def test_update_never_precedes_creation(loaded: Connection, table: str) -> None:
    """No row was updated before it was created."""
    assert select(loaded, table, NEVER[table]) == []
