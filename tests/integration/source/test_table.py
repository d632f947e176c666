"""The source table and its key: accepted, or refused with the cause."""

import pytest

from flows.errors import SettingsError, SourceError
from tests.support.source_database import (
    TABLE,
    SourceDatabase,
)
from tests.support.source_table import CreateTable


@pytest.mark.parametrize(
    ("created", "setting"),
    [
        ("public.firms", "public.firms"),
        ("public.firms", "firms"),
        ("public.firms", ' "public"."firms" '),
        ('public."Firms"', 'public."Firms"'),
        ('public."Firms"', "public.Firms"),
        ('public."Firms"', "Firms"),
        ('public."select"', "public.select"),
        ('public."a.b"', 'public."a.b"'),
        ('public."a""b"', '"public"."a""b"'),
        ('public."a b%s{0}"', 'public."a b%s{0}"'),
        ('"CRM 1"."Firms; --"', '"CRM 1"."Firms; --"'),
    ],
)
def test_any_table_name_can_be_given(
    database: SourceDatabase, create_table: CreateTable, created: str, setting: str
) -> None:
    """Case, quotes and odd characters must select exactly that table."""
    columns = {
        "id": '"%id" bigint PRIMARY KEY',
        "name": '"Firm ""Name""" text',
        "created": '"{created}" date',
        "updated": '"source" timestamptz',
    }
    database.run('CREATE SCHEMA "CRM 1"')
    create_table(table=created, **columns)
    row = "VALUES (1, 'a', '2024-01-05', 'infinity')"
    database.run(f"INSERT INTO {created} {row}")

    rows = database.rows(
        source_table=setting,
        source_id_column="%id",
        source_name_column='Firm "Name"',
        source_created_column="{created}",
        source_updated_column="source",
        source_timezone="UTC",
    )

    assert rows == [("1", "a", "2024-01-05 00:00:00+00", "infinity")]


@pytest.mark.parametrize("column", ["position", "place", "bound", "source", "id"])
def test_a_column_may_have_a_name_that_queries_use(
    database: SourceDatabase, create_table: CreateTable, column: str
) -> None:
    """Internal names in the queries must not clash with those of the table."""
    create_table(id=f"{column} bigint PRIMARY KEY")
    database.run(
        "INSERT INTO public.enterprises SELECT i FROM generate_series(8, 12) i"
    )

    found = database.partitions(2, source_id_column=column)

    assert [f["source_id"].tolist() for f in found] == [
        ["8", "9"],
        ["10", "11"],
        ["12"],
    ]


@pytest.mark.parametrize("setting", ["a.b.c", "a.", ".a", '"a', 'a"b', '""', "a..b"])
def test_what_is_no_table_name_is_refused(
    database: SourceDatabase, setting: str
) -> None:
    """The message must quote a name that cannot be parsed, instead of a search."""
    with pytest.raises(SettingsError, match="is not a table name") as refused:
        database.describe(source_table=setting)

    assert setting in refused.value.message


def test_a_missing_table_is_named_with_its_namesakes(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """A wrong schema or case is the usual mistake, so similar names are listed."""
    database.run("CREATE SCHEMA crm")
    create_table(table="crm.enterprises")
    create_table(table='public."Enterprises"')

    with pytest.raises(SourceError, match=r"public\.enterprises is not in") as refused:
        database.describe()

    assert 'crm.enterprises, public."Enterprises"' in refused.value.remedy


def test_an_empty_database_is_told_from_a_wrong_name(database: SourceDatabase) -> None:
    """If no schema has a table with the name, the remedy must report that."""
    with pytest.raises(SourceError, match="is not in this database") as refused:
        database.describe()

    assert "none" in refused.value.remedy


def test_a_decoy_in_the_search_path_is_not_read(
    database: SourceDatabase, create_table: CreateTable, role: str
) -> None:
    """The named schema must be read, whatever comes first in search_path."""
    database.run("CREATE SCHEMA decoy", f"GRANT USAGE ON SCHEMA decoy TO {role}")
    for schema in ("decoy", "public"):
        create_table(table=f"{schema}.enterprises")
        database.run(
            f"INSERT INTO {schema}.enterprises VALUES (1, '{schema}')",  # noqa: S608
            f"GRANT SELECT ON {schema}.enterprises TO {role}",
        )
    database.run(f"ALTER ROLE {role} SET search_path = decoy, public")
    reader = database.as_user(role)

    assert reader.ask("SELECT name FROM enterprises") == "decoy"
    assert reader.rows() == [("1", "public", None, None)]
    assert reader.rows(source_table="enterprises") == [("1", "public", None, None)]


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_is_refused(
    database: SourceDatabase, create_table: CreateTable, kind: str
) -> None:
    """The ids of a view are not guaranteed to be unique, so it cannot be proven."""
    create_table(table="public.firms")
    database.run(f"CREATE {kind} public.enterprises AS TABLE public.firms")

    with pytest.raises(SourceError, match="is not a table") as refused:
        database.describe()

    assert "table behind it" in refused.value.remedy


def test_a_parent_of_inherited_tables_is_refused(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """A read includes the rows of a child, which may repeat an id of the parent."""
    create_table()
    database.run(
        "CREATE TABLE public.child (PRIMARY KEY (id)) INHERITS (public.enterprises)",
        "INSERT INTO public.enterprises VALUES (1, 'parent')",
        "INSERT INTO public.child VALUES (1, 'child')",
    )

    with pytest.raises(SourceError, match="inherited tables"):
        database.describe()

    assert database.rows(source_table="public.child") == [("1", "child", None, None)]


def test_a_partitioned_table_is_read_whole(
    database: SourceDatabase,
) -> None:
    """Partitions are one table: each row is read once, including the default's rows."""
    database.run(
        TABLE + "PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF public.enterprises FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE high PARTITION OF public.enterprises DEFAULT",
        "INSERT INTO public.enterprises SELECT i FROM generate_series(-5, 20) i",
    )

    found = [each for f in database.partitions(4) for each in f["source_id"]]

    assert found == [str(i) for i in range(-5, 21)]


@pytest.mark.parametrize(
    ("column", "more"),
    [
        ("id bigint", ()),
        ("id bigint NOT NULL", ()),
        ("id bigint UNIQUE", ()),
        ("id bigint NOT NULL", ("UNIQUE (id, name)",)),
        ("id bigint", ("PRIMARY KEY (id, name)",)),
        ("id bigint NOT NULL", ("CREATE UNIQUE INDEX ON {} (id) WHERE id > 0",)),
        ("id bigint NOT NULL", ("CREATE UNIQUE INDEX ON {} ((id + 0))",)),
        ("id bigint NOT NULL", ("CREATE INDEX ON {} (id)",)),
        (
            "id bigint UNIQUE",
            (
                "INSERT INTO {} VALUES (NULL, 'a')",
                "ALTER TABLE {} ADD CONSTRAINT n NOT NULL id NOT VALID",
            ),
        ),
    ],
)
def test_an_id_that_is_no_key_is_refused(
    database: SourceDatabase,
    create_table: CreateTable,
    column: str,
    more: tuple[str, ...],
) -> None:
    """An id that may be NULL or occur twice would lose rows."""
    indexes = [text for text in more if "{}" in text]
    create_table(*(text for text in more if "{}" not in text), id=column)
    database.run(*(text.format("public.enterprises") for text in indexes))

    with pytest.raises(SourceError, match="not a unique, not-null key") as refused:
        database.describe()

    assert "ADD PRIMARY KEY" in refused.value.remedy


@pytest.mark.parametrize(
    ("column", "more"),
    [
        ("id bigint NOT NULL UNIQUE", ()),
        ("id bigint NOT NULL", ("UNIQUE (id) INCLUDE (name)",)),
        ("id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", ()),
        ("id bigint NOT NULL", ("UNIQUE (id) DEFERRABLE INITIALLY DEFERRED",)),
    ],
)
def test_a_unique_id_is_a_key(
    database: SourceDatabase,
    create_table: CreateTable,
    column: str,
    more: tuple[str, ...],
) -> None:
    """A table without a primary key is accepted if its id is unique and not null."""
    create_table(*more, id=column)

    assert database.describe().id_column == "id"
