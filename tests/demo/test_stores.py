"""The samples of the demo: their files, tables and mapping."""

import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from flows.demo.stores import (
    MAPPED_SAMPLE,
    SAMPLE,
    EmbeddedStores,
    Sample,
    fill_source,
)
from flows.mapping.model import Entity, Mapping
from flows.settings import Settings
from flows.stores.embedded import EmbeddedStore

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data"
COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = %s
"""


def fetch(url: str, query: str, *arguments: str) -> list[tuple[Any, ...]]:
    """Return all rows of *query*."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query, arguments)
        return cursor.fetchall()


def read_entities() -> dict[str, Entity]:
    """Return the entities of the mapping file."""
    assert MAPPED_SAMPLE.mapping_file is not None
    text = MAPPED_SAMPLE.mapping_file.read_text("utf-8")
    return Mapping(entities=tomllib.loads(text)).entities


def test_the_mapping_leaves_no_column(database_url: str) -> None:
    """Every column of both tables becomes part of an item."""
    fill_source(database_url, MAPPED_SAMPLE)
    for entity in read_entities().values():
        table = entity.table.removeprefix("public.")
        mapped = {one.column for one in entity.attributes.values()}
        mapped |= {entity.id, entity.created, entity.updated}
        mapped.discard(None)
        assert {name for (name,) in fetch(database_url, COLUMNS, table)} == mapped


def test_products_are_stored_beside_their_enterprise() -> None:
    """Both entities have one partition key, so that one Query returns them."""
    entities = read_entities()

    assert list(entities) == ["enterprise", "product"]
    enterprise, product = (one.keys for one in entities.values())
    assert [key.text for key in enterprise] == ["ENT#{id}", "METADATA"]
    assert [key.text for key in product] == ["ENT#{enterprise_id}", "PROD#{id}"]
    referring = entities["product"].attributes["enterprise_id"]
    assert referring.refers_to == "enterprise"


def test_the_demo_fills_both_tables(database_url: str) -> None:
    """The demo loads all rows, and an application can insert more of them."""
    fill_source(database_url, MAPPED_SAMPLE)

    for table, rows in (("enterprises", 1_000), ("products", 4_000)):
        query = f"SELECT count(*), max(id) FROM public.{table}"  # noqa: S608
        ((counted, highest),) = fetch(database_url, query)
        query = f"INSERT INTO public.{table} (name) VALUES ('x') RETURNING id"  # noqa: S608
        ((inserted,),) = fetch(database_url, query)
        assert (counted, inserted) == (rows, highest + 1)


@pytest.mark.parametrize("sample", [SAMPLE, MAPPED_SAMPLE])
def test_the_wheel_has_the_files_of_a_sample(sample: Sample) -> None:
    """The demo finds in the wheel what it finds in a checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    files = [sample.schema, *(file for _, file in sample.files)]
    files += [sample.mapping] if sample.mapping else []

    for file in files:
        assert (DATA / file).is_file()
        assert wheel["force-include"][f"data/{file}"] == f"flows/sample_data/{file}"


@pytest.mark.parametrize("sample", [SAMPLE, MAPPED_SAMPLE])
def test_kept_stores_name_their_mapping_file(sample: Sample) -> None:
    """Other commands that use the stores need the mapping file, if there is one."""
    settings = Settings.isolated(mapping_file=sample.mapping_file)
    store = EmbeddedStore("http://127.0.0.1:1", 1, None)
    environment = EmbeddedStores(settings, store, store).environment

    named = environment.get("MAPPING_FILE")
    assert named == (str(DATA / sample.mapping) if sample.mapping else None)
