"""The catalogue of the source: its tables, and the mapping that is suggested by it."""

from pathlib import Path
from typing import Any

import pytest

from flows.errors import SettingsError, SourceError
from flows.mapping.catalogue import CatalogueTable, ForeignKey
from flows.mapping.model import Entity, Mapping, enterprise_entity
from flows.mapping.suggest import suggest_mapping
from flows.stores.postgres.catalogue import read_catalogue
from flows.stores.postgres.column_roles import find_roles
from flows.stores.postgres.session import open_source
from tests.support.catalogue_tables import ENTERPRISES, REFERRERS
from tests.support.source_database import SourceDatabase
from tests.support.source_table import CreateTable

ROOT = ("public", "enterprises")
SAMPLE = Path(__file__).parents[3] / "data" / "schema.sql"
SCHEMA = """
CREATE TYPE public.mood AS ENUM ('sad', 'it''s "ok"');
CREATE DOMAIN public.either AS text CHECK (value IN ('a', 'b'));
CREATE DOMAIN public.same AS public.either CHECK (value IN ('b', 'c'));
"""


def read(database: SourceDatabase) -> dict[str, CatalogueTable]:
    """Read the catalogue as the program does; return the tables by their names."""
    with open_source(database.settings()) as connection:
        return {one.table: one for one in read_catalogue(connection, ROOT)}


def suggest(database: SourceDatabase, **values: Any) -> tuple[Mapping, dict[str, str]]:
    """Suggest a mapping under these settings."""
    with open_source(database.settings()) as connection:
        tables = read_catalogue(connection, ROOT)
    return suggest_mapping(tables, find_roles(tables, database.settings(**values)))


def test_a_table_brings_those_that_refer_to_it(database: SourceDatabase) -> None:
    """A partition is read by its parent, and a stranger belongs to nothing."""
    database.run(ENTERPRISES, REFERRERS)

    tables = read(database)

    assert next(iter(tables)) == "enterprises"
    assert set(tables) == {
        "enterprises",
        "products",
        "seats",
        "addresses",
        "logs",
        "notes",
        "events",
        "visits",
        'Order "Free" Lines',
    }


def test_keys_are_single_columns_of_a_type_for_ids(database: SourceDatabase) -> None:
    """The primary key comes first; neither a part of a key nor char(3) NULL is one."""
    database.run(ENTERPRISES, REFERRERS)
    database.run(
        "CREATE UNIQUE INDEX partial ON public.enterprises (size) WHERE size > ''",
        "ALTER TABLE public.logs ADD total numeric PRIMARY KEY",
    )

    keys = {name: table.keys for name, table in read(database).items()}

    assert keys["enterprises"] == ("id", "number")
    assert keys["products"] == ("id",)
    assert keys["seats"] == ("seat",)
    assert keys["visits"] == ("id",)
    assert keys["logs"] == keys["events"] == ()


def test_columns_are_described_by_their_base_types(database: SourceDatabase) -> None:
    """What a value becomes follows from the type behind domains and arrays."""
    database.run(ENTERPRISES)
    columns = read(database)["enterprises"].by_name

    assert list(columns)[:4] == ["id", "name", "created_date", "updated_date"]
    found = {
        name: (columns[name].type, columns[name].base_type, columns[name].is_array)
        for name in ("plan", "code", "plans", "tags", "huge", "Tax No")
    }
    assert found == {
        "plan": ("public.plan", "plan", False),
        "code": ("public.short_code", "varchar", False),
        "plans": ("public.plan[]", "plan", True),
        "tags": ("text[]", "text", True),
        "huge": ("numeric(60,2)", "numeric", False),
        "Tax No": ("character(3)", "bpchar", False),
    }
    required = {name for name, one in columns.items() if one.not_null}
    assert required == {"id", "name", "plan", "code", "tags", "number"}


def test_foreign_keys_are_found_by_their_columns(database: SourceDatabase) -> None:
    """A key of several columns is named, since no reference is made of it."""
    database.run(ENTERPRISES, REFERRERS)
    tables = read(database)
    products = ("shop", "products")

    assert tables["products"].references == (
        ForeignKey(("seller_id",), ROOT, ("id",)),
        ForeignKey(("enterprise_id",), ROOT, ("id",)),
        ForeignKey(("category_id",), ("shop", "categories"), ("id",)),
    )
    assert tables["notes"].references == (
        ForeignKey(("enterprise_number",), ROOT, ("number",)),
    )
    assert tables["visits"].references == (
        ForeignKey(("enterprise_id",), ROOT, ("id",)),
    )
    assert tables['Order "Free" Lines'].composite == (
        ForeignKey(("product_id", "region"), products, ("id", "region")),
    )
    assert tables["products"].composite_referrers == (("public", "stock"),)


def test_rows_are_estimated_by_statistics(database: SourceDatabase) -> None:
    """A table that was never analysed has no estimate, not an estimate of 0."""
    database.run(ENTERPRISES, REFERRERS)
    database.run("INSERT INTO public.visits SELECT generate_series(1, 50)")
    assert read(database)["visits"].rows is None

    database.run("ANALYZE public.visits")

    tables = read(database)
    assert tables["visits"].rows == 50
    assert tables["enterprises"].rows is None


@pytest.mark.parametrize(
    ("definition", "listed"),
    [
        ("text CHECK (x IN ('a', 'it''s', '\\', ', '))", ("a", "it's", "\\", ", ")),
        ("text CHECK (x = 'a')", ("a",)),
        ('text CHECK (x = ANY (\'{a,"b,\\"c"}\'))', ("a", 'b,"c')),
        ("varchar(5) CHECK (x IN ('a', 'b'))", ("a", "b")),
        ("varchar CHECK (x = ANY (ARRAY['a'::varchar::text, 'b']))", ("a", "b")),
        ("char(3) CHECK (x IN ('a  ', 'abc'))", ("a", "abc")),
        ("smallint CHECK (x IN (1, -2))", ("1", "-2")),
        ("bigint CHECK (x IN (1, 5000000000))", ("1", "5000000000")),
        ("public.mood CHECK (x IN ('sad'))", ("sad",)),
        ("public.either", ("a", "b")),
        ("public.same", ("b",)),
        ("public.same CHECK (x IN ('b', 'x'))", ("b",)),
        ("text CHECK (x IN ('a', 'b')) CHECK (x <> 'a')", ("a", "b")),
        # These allow other values, or other texts of the same values.
        ("text CHECK (x IN ('a', NULL))", ()),
        ("text CHECK (x = ANY ('{a,NULL}'))", ()),
        ("text CHECK (x NOT IN ('a', 'b'))", ()),
        ("text CHECK (x IN ('a', 'b') OR x > 'c')", ()),
        ("text CHECK (x IN ('a', upper('b')))", ()),
        ("text CHECK (lower(x) IN ('a', 'b'))", ()),
        ("text CHECK (x IN ('a', other))", ()),
        ("text CHECK (x IN ('a' COLLATE \"C\", 'b'))", ()),
        ("text CHECK (x = ALL ('{a}'))", ()),
        ("numeric(3, 2) CHECK (x IN (1.5, 2))", ()),
        ("integer CHECK (x IN (1, 2.5))", ()),
        ("boolean CHECK (x = true)", ()),
        ("text[] CHECK (x = '{a}')", ()),
        ("public.either[]", ()),
    ],
)
def test_only_a_list_of_constants_gives_the_values(
    database: SourceDatabase, create_table: CreateTable, definition: str, listed: Any
) -> None:
    """A value that the check allows must never be refused by the rule made of it."""
    database.run(SCHEMA)
    create_table(f"x {definition}", "other text")

    assert read(database)["enterprises"].by_name["x"].listed == listed


def test_a_check_of_a_quoted_column_is_read(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """A name like the keyword of a domain's check must not be taken for it."""
    create_table(
        '"VALUE" text CHECK ("VALUE" IN (\'a\'))', '"A (b" int CHECK ("A (b" IN (1))'
    )
    columns = read(database)["enterprises"].by_name

    assert (columns["VALUE"].listed, columns["A (b"].listed) == (("a",), ("1",))


def test_a_collation_that_takes_texts_for_equal_gives_no_values(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """The check accepts "A" where it lists "a"."""
    database.run('CREATE COLLATION public.any_case FROM "C"')
    create_table("x text COLLATE public.any_case CHECK (x IN ('a', 'b'))")
    assert read(database)["enterprises"].by_name["x"].listed == ("a", "b")

    # The embedded server has no ICU, by which such a collation is made.
    database.run(
        "UPDATE pg_collation SET collisdeterministic = false"
        " WHERE collname = 'any_case'"
    )

    assert read(database)["enterprises"].by_name["x"].listed == ()


def test_a_check_that_is_not_valid_gives_no_values(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """Older rows may have other values, which the check does not refuse."""
    create_table("x text")
    database.run("ALTER TABLE public.enterprises ADD CHECK (x IN ('a', 'b')) NOT VALID")

    assert read(database)["enterprises"].by_name["x"].listed == ()


def test_the_sample_gives_the_built_in_mapping(database: SourceDatabase) -> None:
    """The file of the sample must move what is moved without a file."""
    database.run(SAMPLE.read_text("utf-8"))

    mapping, comments = suggest(database)

    built_in = enterprise_entity(
        table="public.enterprises",
        id_column="id",
        name="name",
        created="created_date",
        updated="updated_date",
    )
    assert mapping == Mapping(entities={"enterprise": built_in})
    assert comments == {}


def test_settings_choose_the_columns_of_the_enterprises(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """The settings of the built-in mapping have the same meaning here."""
    create_table("key uuid UNIQUE NOT NULL", "label text", "at timestamptz")

    mapping, _ = suggest(
        database,
        source_id_column="key",
        source_name_column="label",
        source_created_column="at",
    )

    entity = mapping.entities["enterprise"]
    assert (entity.id, entity.created, entity.updated) == ("key", "at", "updated_date")
    assert entity.attributes["name"].column == "label"
    assert {"id_column", "name_column", "created_date_column"} < set(entity.attributes)


@pytest.mark.parametrize(
    ("setting", "column"),
    [
        ("id", "name"),
        ("name", "id"),
        ("created", "name"),
        ("updated", "times"),
        ("updated", "gone"),
    ],
)
def test_a_column_that_cannot_have_its_role_is_refused(
    database: SourceDatabase, create_table: CreateTable, setting: str, column: str
) -> None:
    """The message names the column, and the remedy the setting and the choices."""
    create_table("times timestamptz[]")

    with pytest.raises(SourceError, match=f"has no column {column} that is") as refused:
        suggest(database, **{f"source_{setting}_column": column})

    assert f"Set SOURCE_{setting.upper()}_COLUMN" in refused.value.remedy
    assert "id, name, created_date, updated_date, times" in refused.value.remedy


def test_one_column_cannot_have_two_roles(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """As without a mapping file."""
    create_table()

    with pytest.raises(SettingsError, match="two roles"):
        suggest(database, source_created_column="updated_date")


def test_a_table_without_an_id_is_refused(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """Nothing would tie an item to its row."""
    create_table(id="id bigint")

    with pytest.raises(SourceError, match="no unique, not-null column"):
        suggest(database)


def test_a_table_that_is_missing_is_refused(database: SourceDatabase) -> None:
    """The message names it."""
    with pytest.raises(SourceError, match=r"public\.enterprises is not in this"):
        read(database)


def test_what_the_role_may_not_read_has_a_comment(
    database: SourceDatabase, role: str
) -> None:
    """The catalogue needs no privilege; a run that reads the column does."""
    database.run(ENTERPRISES, REFERRERS)
    database.run(
        f"GRANT SELECT ON public.enterprises, public.visits TO {role}",
        "ALTER TABLE public.visits ENABLE ROW LEVEL SECURITY",
    )

    _, comments = suggest(database.as_user(role))

    assert "enterprise.attributes.tags" not in comments
    assert "may not read the column" in comments["note.attributes.enterprise_number"]
    assert "may not read the column" in comments["seat.id"]
    assert "may not read the column" in comments["seat.updated"]
    assert "may not use the schema shop" in comments["product"]
    assert "BYPASSRLS" in comments["visit"]


def test_all_tables_of_a_database_become_entities(database: SourceDatabase) -> None:
    """Each entity shares the partition of the row that its table refers to."""
    database.run(ENTERPRISES, REFERRERS)

    mapping, comments = suggest(database)

    keys = {
        name: (one.table, one.partition_key, one.sort_key)
        for name, one in mapping.entities.items()
    }
    assert keys == {
        "enterprise": ("public.enterprises", "ENT#{id}", "METADATA"),
        "Order__Free__Line": (
            'public."Order ""Free"" Lines"',
            "ENT#{the.enterprise_id}",
            "ORDE#{id}",
        ),
        "address": ("public.addresses", "ENT#{enterprise_id}", "ADDR#{id}"),
        "note": ("public.notes", "NOTE#{id}", "METADATA"),
        "visit": ("public.visits", "ENT#{enterprise_id}", "VISI#{id}"),
        "product": ("shop.products", "ENT#{enterprise_id}", "PROD#{id}"),
        "seat": ("public.seats", "PROD#{product_id}", "SEAT#{id}"),
    }
    unfit = "its ids need a unique, not-null column of type integer, uuid or text"
    assert comments[""].splitlines() == [
        f"public.events is left out: {unfit}.",
        f"public.logs is left out: {unfit}.",
        "public.stock is left out: it refers to shop.products by several columns.",
    ]
    assert "several columns" in comments["Order__Free__Line"]


def test_rules_of_columns_become_rules_of_attributes(database: SourceDatabase) -> None:
    """What PostgreSQL guarantees is validated again on the way."""
    database.run(ENTERPRISES, REFERRERS)

    entities: dict[str, Entity] = suggest(database)[0].entities

    given = {
        name: one.model_dump(exclude_defaults=True)
        for name, one in entities["enterprise"].attributes.items()
    }
    assert given == {
        "enterprise_name": {"column": "name", "is_name": True, "required": True},
        "name": {"column": "name"},
        "plan": {
            "column": "plan",
            "required": True,
            "one_of": ("free", "pro", 'über "alles"'),
        },
        "size": {"column": "size", "one_of": ("small", "it's large", "back\\slash")},
        "code": {"column": "code", "required": True, "one_of": ("a", "b")},
        "tags": {"column": "tags", "required": True},
        "plans": {"column": "plans"},
        "settings": {"column": "settings"},
        "seats": {"column": "seats"},
        "rating": {"column": "rating"},
        "huge": {"column": "huge"},
        "seen": {"column": "seen"},
        "Tax No": {"column": "Tax No"},
        "parent_id": {"column": "parent_id", "refers_to": "enterprise"},
        "number": {"column": "number", "required": True},
        "SK_column": {"column": "SK"},
        "a_b_": {"column": "a{b}"},
    }
    seat = entities["seat"]
    assert (seat.id, seat.created, seat.updated) == ("seat", None, "last_update_date")
    assert seat.attributes["stars"].one_of == ("1", "2", "3")
    assert seat.attributes["product_id"].refers_to == "product"
    assert seat.attributes["product_id"].required
