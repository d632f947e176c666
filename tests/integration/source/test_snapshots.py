"""Several tables are locked under one snapshot, and errors name the locked one."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Timer
from typing import Any

import psycopg2
import pytest

from flows.errors import SourceLocked
from flows.mapping.model import Entity, Mapping
from flows.stores.postgres.schema import tables_of
from flows.stores.postgres.session import open_source
from flows.stores.postgres.snapshots import describe_held, hold_tables
from tests.support.source_database import TABLE, SourceDatabase

NAMES = [("public", "products"), ("shop", 'a"b'), ("public", "enterprises")]
TABLES = (
    "CREATE SCHEMA shop",
    TABLE,
    "CREATE TABLE public.products (id int PRIMARY KEY)",
    'CREATE TABLE shop."a" (id int PRIMARY KEY)',
    'CREATE TABLE shop."a""b" (id int PRIMARY KEY)',
)
MAPPING = Mapping(
    entities={
        name: Entity(table=table, id="id", partition_key="P#{id}", sort_key=name)
        for name, table in (
            ("product", "products"),
            ("odd", 'shop."a""b"'),
            ("other", "public.products"),
        )
    }
)


@pytest.fixture
def tables(database: SourceDatabase) -> SourceDatabase:
    """Create the tables."""
    database.run(*TABLES)
    return database


@contextmanager
def locking(database: SourceDatabase, *statements: str) -> Iterator[Any]:
    """Run statements in another session, whose transaction ends after the block."""
    with closing(psycopg2.connect(database.url)) as other:
        for statement in statements:
            other.cursor().execute(statement)
        yield other


def holders(database: SourceDatabase) -> str:
    """Return the tables of the schemas on which a session holds a lock."""
    return str(
        database.ask(
            "SELECT string_agg(DISTINCT relation::regclass::text, ', ')"
            " FROM pg_locks JOIN pg_class c ON c.oid = relation AND c.relkind = 'r'"
            " WHERE mode = 'AccessShareLock' AND granted AND pid <> pg_backend_pid()"
            " AND relnamespace IN ('public'::regnamespace, 'shop'::regnamespace)"
        )
    )


def test_all_tables_are_locked_until_the_end(tables: SourceDatabase) -> None:
    """No table may be rewritten while another one is read under the same snapshot."""
    with open_source(tables.settings()) as connection:
        hold_tables(connection, NAMES)

        assert holders(tables) == 'enterprises, products, shop."a""b"'
        connection.rollback()
        assert holders(tables) == "None"


def test_a_table_rewritten_during_the_wait_is_read_as_it_is_then(
    tables: SourceDatabase,
) -> None:
    """The snapshot is newer than every rewrite, whichever table was waited for."""
    changes = ["TRUNCATE public.products", "INSERT INTO public.products VALUES (7)"]
    tables.run("INSERT INTO public.products VALUES (1)")
    with locking(tables, *changes) as other, open_source(tables.settings()) as reader:
        timer = Timer(0.5, other.commit)
        timer.start()
        hold_tables(reader, NAMES)
        timer.join()

        with reader.cursor() as cursor:
            cursor.execute("SELECT id FROM public.products")
            assert cursor.fetchall() == [(7,)]


@pytest.mark.parametrize(("schema", "table"), NAMES)
def test_the_locked_table_is_named(
    tables: SourceDatabase, schema: str, table: str
) -> None:
    """The error names the table that is locked and its holder, not another one."""
    quoted = f'{schema}."{table.replace(chr(34), chr(34) * 2)}"'
    settings = tables.settings(lock_wait_seconds=2)
    with (
        locking(tables, f"LOCK TABLE {quoted}"),
        pytest.raises(SourceLocked) as refused,
        open_source(settings) as connection,
    ):
        hold_tables(connection, NAMES)

    assert refused.value.message.startswith(f"{schema}.{table} could not be locked")
    assert "state idle in transaction, LOCK) holds" in refused.value.message


def test_a_statement_on_several_tables_names_the_locked_one(
    tables: SourceDatabase,
) -> None:
    """A query that joins two tables waits for one of them."""
    query = 'SELECT FROM "public"."enterprises", "public"."products", "shop"."a""b"'
    settings = tables.settings(lock_wait_seconds=2)
    with (
        locking(tables, "LOCK TABLE public.products"),
        pytest.raises(SourceLocked, match=r"^public\.products could not"),
        open_source(settings) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query)


def test_an_error_that_names_its_table_is_kept(tables: SourceDatabase) -> None:
    """An error of a worker, or of a table that is rewritten, is not the source's."""
    made = SourceLocked("shop.a is being rewritten.", "Run again.")
    with pytest.raises(SourceLocked) as refused, open_source(tables.settings()):
        raise made

    assert refused.value is made


def test_a_table_that_cannot_be_read_is_left_to_its_description(
    tables: SourceDatabase,
) -> None:
    """A missing table is refused with its reason, and the others are locked."""
    with open_source(tables.settings()) as connection:
        hold_tables(connection, [("nowhere", "products"), ("public", "products")])

        assert holders(tables) == "products"


def test_entities_are_held_and_described_in_their_order(
    tables: SourceDatabase,
) -> None:
    """Two entities may have one table; the built-in mapping has the source table."""
    settings = tables.settings()
    assert tables_of(settings, MAPPING) == {
        "product": ("public", "products"),
        "odd": ("shop", 'a"b'),
        "other": ("public", "products"),
    }
    assert tables_of(settings, None) == {"enterprise": ("public", "enterprises")}
    with open_source(settings) as connection:
        sources = describe_held(connection, settings, MAPPING)

        assert [one.entity for one in sources] == ["product", "odd", "other"]
        assert holders(tables) == 'products, shop."a""b"'
    with open_source(settings) as connection:
        (source,) = describe_held(connection, settings)

        assert (source.entity, source.name) == ("enterprise", "public.enterprises")
        assert holders(tables) == "enterprises"
