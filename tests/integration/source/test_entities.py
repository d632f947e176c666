"""The entities of a mapping: resolved against a database, or refused by their keys."""

from collections.abc import Callable
from typing import Any

import pytest

from flows.errors import SettingsError, SourceError
from flows.mapping.model import Entity, Mapping, enterprise_entity
from flows.mapping.template import Template
from flows.models import Field, Reference, Rules, SourceTable, enterprise_table
from flows.models.source_coverage import describe_left_behind
from flows.stores.postgres.entities import describe_entities
from flows.stores.postgres.schema import describe_sources
from flows.stores.postgres.session import open_source
from tests.support.source_database import SourceDatabase
from tests.support.source_table import CreateTable

# A column's type, and what its values become: type, base type, and of what elements.
BASE_TYPES = {
    "smallint": ("number", "int2", "text"),
    "integer": ("number", "int4", "text"),
    "bigint": ("number", "int8", "text"),
    "numeric(10, 2)": ("number", "numeric", "text"),
    "real": ("text", "float4", "text"),
    "double precision": ("text", "float8", "text"),
    "money": ("text", "money", "text"),
    "oid": ("text", "oid", "text"),
    "boolean": ("boolean", "bool", "text"),
    "text": ("text", "text", "text"),
    "varchar(5)": ("text", "varchar", "text"),
    "char(5)": ("text", "bpchar", "text"),
    '"char"': ("text", "char", "text"),
    "name": ("text", "name", "text"),
    "bytea": ("binary", "bytea", "text"),
    "bit(3)": ("text", "bit", "text"),
    "varbit": ("text", "varbit", "text"),
    "date": ("date", "date", "text"),
    "time": ("text", "time", "text"),
    "timetz": ("text", "timetz", "text"),
    "timestamp(3)": ("timestamp", "timestamp", "text"),
    "timestamptz": ("timestamp", "timestamptz", "text"),
    "interval": ("text", "interval", "text"),
    "uuid": ("text", "uuid", "text"),
    "json": ("json", "json", "text"),
    "jsonb": ("json", "jsonb", "text"),
    "xml": ("text", "xml", "text"),
    "inet": ("text", "inet", "text"),
    "cidr": ("text", "cidr", "text"),
    "macaddr": ("text", "macaddr", "text"),
    "point": ("text", "point", "text"),
    "polygon": ("text", "polygon", "text"),
    "tsvector": ("text", "tsvector", "text"),
    "int4range": ("text", "int4range", "text"),
    "tstzmultirange": ("text", "tstzmultirange", "text"),
    "pg_lsn": ("text", "pg_lsn", "text"),
    "oidvector": ("text", "oidvector", "text"),
    "integer[]": ("list", "int4", "number"),
    "integer[][]": ("list", "int4", "number"),
    "numeric[]": ("list", "numeric", "number"),
    "boolean[]": ("list", "bool", "boolean"),
    "jsonb[]": ("list", "jsonb", "json"),
    "bytea[]": ("list", "bytea", "binary"),
    "text[]": ("list", "text", "text"),
    "timestamptz[]": ("list", "timestamptz", "text"),
    "double precision[]": ("list", "float8", "text"),
    "public.mood": ("text", "mood", "text"),
    "public.mood[]": ("list", "mood", "text"),
    "public.pair": ("text", "pair", "text"),
    "public.amount": ("number", "int4", "text"),
    "public.amounts": ("number", "int4", "text"),
    "public.amount[]": ("list", "int4", "number"),
    "public.numbers": ("list", "int4", "number"),
    "public.numbers[]": ("list", "_int4", "text"),
    # A type with the name of a built-in one is another type.
    "public.date": ("text", "public.date", "text"),
}
CREATE_TYPES = (
    "CREATE TYPE public.mood AS ENUM ('good', 'bad')",
    "CREATE TYPE public.date AS ENUM ('today')",
    "CREATE TYPE public.pair AS (a int, b text)",
    "CREATE DOMAIN public.amount AS int CHECK (value > 0)",
    "CREATE DOMAIN public.amounts AS public.amount CHECK (value > 1)",
    "CREATE DOMAIN public.numbers AS int[]",
)
PRODUCTS = (
    "CREATE TABLE public.products (id bigint PRIMARY KEY, sku text, price numeric,"
    " stock int, tags text[], made date, seen timestamptz, data jsonb, blob bytea,"
    " live boolean, note text, enterprise_id bigint)"
)
PRODUCT: dict[str, Any] = {
    "table": "public.products",
    "id": "id",
    "partition_key": "PROD#{id}",
    "sort_key": "METADATA",
}
ENTERPRISE: dict[str, Any] = {
    "table": "public.enterprises",
    "id": "id",
    "partition_key": "ENT#{id}",
    "sort_key": "METADATA",
}
Describe = Callable[..., tuple[SourceTable, ...]]


@pytest.fixture
def describe(database: SourceDatabase) -> Describe:
    """Return a function that describes entities, given as in a mapping file."""

    def run(settings: dict[str, Any] | None = None, **entities: Any) -> Any:
        those = {
            name: Entity.model_validate(entity) for name, entity in entities.items()
        }
        mapping = Mapping(entities=those, path="mapping.toml")
        values = database.settings(**settings or {})
        with open_source(values) as connection:
            return describe_entities(connection, values, mapping)

    return run


@pytest.fixture
def products(database: SourceDatabase) -> None:
    """Create a table of products."""
    database.run(PRODUCTS)


def faults_of(describe: Describe, **entities: Any) -> list[str]:
    """Return the lines of the error that a mapping causes."""
    with pytest.raises(SettingsError) as refused:
        describe({"source_timezone": "UTC"}, **entities)
    assert refused.value.remedy == "Correct mapping.toml, then run again."
    return refused.value.message.splitlines()


def test_each_base_type_has_its_usual_type(
    database: SourceDatabase, describe: Describe
) -> None:
    """Without a type, each column of PostgreSQL becomes what fits it best."""
    columns = [f"c{i} {name}" for i, name in enumerate(BASE_TYPES)]
    database.run(
        *CREATE_TYPES,
        f"CREATE TABLE public.products (id bigint PRIMARY KEY, {', '.join(columns)})",
    )
    attributes = {f"a{i}": f"c{i}" for i in range(len(columns))}

    (source,) = describe(
        {"source_timezone": "UTC"}, product=PRODUCT | {"attributes": attributes}
    )

    found = {
        name: (one.type, one.pg_type, one.element)
        for name, one in zip(BASE_TYPES, source.fields, strict=True)
    }
    assert found == BASE_TYPES
    zoneless = [one.pg_type for one in source.fields if one.zoneless]
    assert zoneless == ["timestamp"]
    assert [one.name for one in source.fields] == list(attributes)


def test_citext_is_text(database: SourceDatabase, describe: Describe) -> None:
    """A type of an extension has its name, and can be an enterprise's name."""
    if not database.ask(
        "SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'"
    ):
        pytest.skip("this server has no citext")
    database.run(
        "CREATE EXTENSION citext SCHEMA public",
        "CREATE TABLE public.products (id int PRIMARY KEY, name public.citext)",
    )
    attributes = {"name": {"column": "name", "is_name": True}}

    (source,) = describe(product=PRODUCT | {"attributes": attributes})

    assert (source.fields[0].type, source.fields[0].pg_type) == ("text", "citext")


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        *((c, "text") for c in ("int", "jsonb", "bytea", "text[]", "timestamp")),
        *((c, "number") for c in ("int2", "numeric", "float4", "float8")),
        *((c, "timestamp") for c in ("timestamp", "timestamptz", "date")),
        *((c, "list") for c in ("text[]", "int[]")),
        *((c, "string_set") for c in ("text[]", "int[]")),
        *((c, "number_set") for c in ("int[]", "numeric[]")),
    ],
)
def test_a_type_that_fits_is_taken(
    database: SourceDatabase, describe: Describe, column: str, wanted: str
) -> None:
    """The type of the mapping decides, wherever no value is lost by it."""
    database.run(f"CREATE TABLE public.products (id int PRIMARY KEY, c {column})")
    attributes = {"a": {"column": "c", "type": wanted}}

    (source,) = describe(
        {"source_timezone": "UTC"}, product=PRODUCT | {"attributes": attributes}
    )

    (field,) = source.fields
    assert field.type == wanted
    assert (field.element == "number") == (
        wanted == "number_set" or (wanted, column) == ("list", "int[]")
    )
    assert field.zoneless == (wanted == "timestamp" and column != "timestamptz")


@pytest.mark.parametrize(
    ("column", "wanted", "fault"),
    [
        ("text", "number", "of type text; use text"),
        ("text", "boolean", "of type text; use text"),
        ("text", "json", "of type text; use text"),
        ("money", "number", "of type money; use text"),
        ("time", "timestamp", "of type time without time zone; use text"),
        (
            "timestamptz",
            "date",
            "of type timestamp with time zone; one of text, timestamp",
        ),
        ("int", "boolean", "of type integer; one of text, number"),
        ("jsonb", "list", "of type jsonb; one of text, json"),
        ("jsonb", "string_set", "of type jsonb; one of text, json"),
        ("text[]", "number_set", "of type text[]; one of text, list, string_set"),
        ("float8[]", "number_set", None),
        ("text", "binary", "of type text; use text"),
        ("date", "number", "of type date; one of text, timestamp, date"),
        ("public.mood", "number", "of type public.mood; use text"),
        ("public.amounts", "date", "of type integer; one of text, number"),
    ],
)
def test_a_type_that_does_not_fit_is_one_line(
    database: SourceDatabase,
    describe: Describe,
    column: str,
    wanted: str,
    fault: str | None,
) -> None:
    """The line names the key, the column with its type, and the types that fit."""
    database.run(
        *CREATE_TYPES, f"CREATE TABLE public.products (id int PRIMARY KEY, c {column})"
    )
    fault = fault or f"of type {'double precision[]'}; one of text, list, string_set"

    found = faults_of(
        describe,
        product=PRODUCT | {"attributes": {"price": {"column": "c", "type": wanted}}},
    )

    assert found == [
        f"product.attributes.price: type {wanted} does not fit column c {fault}"
    ]


@pytest.mark.usefixtures("products")
def test_all_faults_are_in_one_error(
    describe: Describe, create_table: CreateTable
) -> None:
    """One run must show every line to correct, in the order of the mapping."""
    create_table()
    product = PRODUCT | {
        "sort_key": "{tags}#{stok}",
        "created": "made_at",
        "updated": "price",
        "where": "stock > ",
        "attributes": {
            "SKU": "SKU",
            "data": {"column": "data", "is_name": True},
            "labels": {"column": "nothing_like_it"},
            "tags": "tags",
            "price": {"column": "price", "minimum": "cheap"},
            "note": {"column": "note", "refers_to": "enterprise"},
            "stock": {"column": "stock", "max_length": 3},
            "GSI1PK": {"template": "{data_}"},
        },
    }

    found = faults_of(
        describe,
        enterprise=ENTERPRISE | {"id": "name_", "partition_key": "ENT#{nam}"},
        product=product,
    )

    assert [line.split(":")[0] for line in found] == [
        "enterprise.id",
        "enterprise.partition_key",
        "product.attributes.SKU",
        "product.attributes.data",
        "product.attributes.labels",
        "product.attributes.price",
        "product.attributes.note",
        "product.attributes.stock",
        "product.created",
        "product.updated",
        "product.sort_key",
        "product.sort_key",
        "product.attributes.GSI1PK",
        "product.where",
    ]
    texts = dict(line.split(": ", 1) for line in found)
    assert texts["enterprise.id"] == (
        "public.enterprises has no column name_; similar: name"
    )
    assert texts["product.attributes.SKU"].endswith("no column SKU; similar: sku")
    assert "the columns are: id, sku, price" in texts["product.attributes.labels"]
    assert "is_name needs a text" in texts["product.attributes.data"]
    assert texts["product.updated"].startswith("column price of type numeric has no")
    assert texts["product.attributes.GSI1PK"].endswith("similar: data")
    assert texts["product.attributes.note"] == (
        "refers_to enterprise: no entity with a usable id"
    )
    assert "tags is a list" in found[10]
    assert "{stok} is no attribute and no column; similar: stock" in found[11]


@pytest.mark.parametrize(
    ("ids", "column", "fits"),
    [
        ("bigint", "int", True),
        ("bigint", "smallint", True),
        ("bigint", "numeric", False),
        ("bigint", "text", False),
        ("bigint", "uuid", False),
        ("uuid", "uuid", True),
        ("uuid", "varchar(36)", True),
        ("text", "uuid", True),
        ("uuid", "int", False),
        ("uuid", "uuid[]", False),
    ],
)
def test_a_reference_fits_the_ids_that_it_refers_to(
    database: SourceDatabase,
    create_table: CreateTable,
    describe: Describe,
    ids: str,
    column: str,
    *,
    fits: bool,
) -> None:
    """A reference becomes an id by the rule of the other entity, so its text must."""
    create_table(id=f"id {ids} PRIMARY KEY")
    database.run(f"CREATE TABLE public.products (id int PRIMARY KEY, ent {column})")
    attributes = {"ent": {"column": "ent", "refers_to": "enterprise"}}
    product = PRODUCT | {"attributes": attributes, "partition_key": "ENT#{ent}"}
    enterprise = ENTERPRISE | {"where": "name <> ''"}

    if not fits:
        (fault,) = faults_of(describe, enterprise=enterprise, product=product)
        assert fault.startswith("product.attributes.ent: column ent of type ")
        assert "does not fit the ids of enterprise" in fault
        return
    _, source = describe(enterprise=enterprise, product=product)

    (field,) = source.references
    assert field.reference == Reference(
        "enterprise",
        "public",
        "enterprises",
        "id",
        {"bigint": "integer"}.get(ids, ids),
        "name <> ''",
    )
    assert (field.type, field.letter) == ("text", "S")
    assert source.key_fields == (field,)


@pytest.mark.usefixtures("products")
def test_attributes_of_one_value_share_a_field(describe: Describe) -> None:
    """A column is read once for all attributes with its value, and its rules apply."""
    attributes = {
        "code": "sku",
        "price": "price",
        "sku": {"column": "sku", "required": True},
        "kept": {"column": "sku", "null": "keep"},
        "short": {"column": "sku", "max_length": 3},
        "last": {"column": "sku", "required": True},
    }

    (source,) = describe(product=PRODUCT | {"attributes": attributes})

    assert source.fields == (
        Field(
            "code",
            "sku",
            attributes=("code", "sku", "last"),
            rules=Rules(required=True),
        ),
        Field("price", "price", "number", ("price",), "numeric"),
        Field("kept", "sku", attributes=("kept",), keep_null=True),
        Field("short", "sku", attributes=("short",), rules=Rules(max_length=3)),
    )


@pytest.mark.usefixtures("products")
def test_columns_in_keys_are_fields_without_attributes(describe: Describe) -> None:
    """A key may name a column; it is read as its usual type, and only once."""
    product = PRODUCT | {
        "partition_key": "P#{sku}#{made}",
        "sort_key": "{stock}#{id}#{price}",
        "created": "made",
        "updated": "seen",
        "attributes": {
            "number": "stock",
            "price_text": {"column": "price", "type": "text"},
            "GSI1PK": {"template": "{seen}#{sku}#{updated_date}"},
        },
    }

    (source,) = describe({"source_timezone": "UTC"}, product=product)

    assert [one.name for one in source.fields] == [
        "number",
        "price_text",
        "{sku}",
        "{made}",
        "{price}",
        "created_date",
        "updated_date",
    ]
    by_key = {name: source.named(name) for name in ("sku", "made", "price", "seen")}
    assert {name: (one.name, one.type) for name, one in by_key.items()} == {
        "sku": ("{sku}", "text"),
        "made": ("{made}", "date"),
        "price": ("{price}", "number"),
        "seen": ("updated_date", "timestamp"),
    }
    assert source.templates == (("GSI1PK", Template("{seen}#{sku}#{updated_date}")),)
    assert source.created.zoneless
    assert not source.updated.zoneless


@pytest.mark.usefixtures("products")
def test_a_template_cannot_be_made_of_another(describe: Describe) -> None:
    """Its names must be columns, or there would be an order in which to fill them."""
    attributes = {"note": {"template": "{sku}"}, "GSI1PK": {"template": "{note}"}}

    (fault,) = faults_of(describe, product=PRODUCT | {"attributes": attributes})

    assert fault == (
        "product.attributes.GSI1PK: note is made of a template;"
        " name the columns of that one instead"
    )


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("column", ["tags", "data", "blob"])
def test_a_value_of_several_parts_is_no_key(describe: Describe, column: str) -> None:
    """A list, a map and bytes have no text that a key could be made of."""
    (fault,) = faults_of(describe, product=PRODUCT | {"sort_key": f"{{{column}}}"})

    assert fault.startswith(f"product.sort_key: column {column} of type ")
    assert "keys are made of text, number, boolean, timestamp, date" in fault


@pytest.mark.usefixtures("products")
def test_other_columns_are_carried_under_their_names(describe: Describe) -> None:
    """Nothing of a row stays behind, and each column has its usual type."""
    product = PRODUCT | {
        "other_columns": "carry",
        "sort_key": "{sku}",
        "created": "made",
        "attributes": {"cost": "price"},
    }

    (source,) = describe({"source_timezone": "UTC"}, product=product)

    assert [(one.name, one.type) for one in source.fields] == [
        ("cost", "number"),
        ("sku", "text"),
        ("stock", "number"),
        ("tags", "list"),
        ("seen", "timestamp"),
        ("data", "json"),
        ("blob", "binary"),
        ("live", "boolean"),
        ("note", "text"),
        ("enterprise_id", "number"),
        ("created_date", "timestamp"),
    ]
    assert source.columns_not_migrated == ()
    assert source.named("sku").name == "sku"


@pytest.mark.parametrize("column", ["PK", "source_id", "code", "a{b}"])
def test_a_carried_column_needs_a_free_name(
    database: SourceDatabase, describe: Describe, column: str
) -> None:
    """The line names the column, and how to carry it under another name."""
    database.run(
        f'CREATE TABLE public.products (id int PRIMARY KEY, sku text, "{column}" text)'
    )
    attributes = {"code": "sku"}

    (fault,) = faults_of(
        describe, product=PRODUCT | {"other_columns": "carry", "attributes": attributes}
    )

    assert fault.startswith(f"product.other_columns: column {column} has ")
    assert fault.endswith("name it under product.attributes, with another name")
    attributes |= {"free": column}
    describe(product=PRODUCT | {"other_columns": "carry", "attributes": attributes})


def test_any_name_can_be_mapped(database: SourceDatabase, describe: Describe) -> None:
    """Case, quotes and odd characters must select exactly that column and table."""
    database.run(
        'CREATE SCHEMA "Shop 1"',
        'CREATE TABLE "Shop 1"."Pro""ducts; --" ("%Id" int PRIMARY KEY,'
        ' "select" int, "a""b" text, "ü.x" date, "{brace}" text)',
    )
    product = PRODUCT | {
        "table": '"Shop 1"."Pro""ducts; --"',
        "id": "%Id",
        "where": '"a""b" LIKE \'%x\' AND "select" % 2 = 0',
        "sort_key": '{a"b}',
        "attributes": {"one": "select", "day": "ü.x", "brace": "{brace}"},
    }

    (source,) = describe(product=product)

    assert source.name == 'Shop 1.Pro"ducts; --'
    assert source.attributes == {
        "%Id": ("PK", "id"),
        "select": ("one",),
        "ü.x": ("day",),
        "{brace}": ("brace",),
        'a"b': ("SK",),
    }


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("stock >", "syntax error at or near"),
        ("stok > 1", 'column "stok" does not exist; Perhaps you meant'),
        ("stock", "argument of WHERE must be type boolean"),
        ("products.stock > 1", '"products"; name columns without a table'),
        ("another_name.stock > 1", "missing FROM-clause entry"),
        ("count(*) > 1", "aggregate functions are not allowed in WHERE"),
        ("live) OR (true", "syntax error"),
        ("live AS boolean) OR CAST(true", "syntax error"),
        ("true) ; --", "syntax error"),
        ("live --", "syntax error"),
        ("note = 'x", "syntax error"),
        ("1 / 0 = 1", "division by zero"),
    ],
)
def test_a_condition_that_fails_is_named(
    describe: Describe, where: str, message: str
) -> None:
    """A condition must be one expression on the table's columns; PostgreSQL decides."""
    (fault,) = faults_of(describe, product=PRODUCT | {"where": where})

    assert fault.startswith("product.where: ")
    assert message in fault


@pytest.mark.usefixtures("products")
def test_a_condition_is_kept(describe: Describe) -> None:
    """A valid condition arrives as it was written."""
    where = "NOT live AND note LIKE '100% -- {}' AND (stock > 1 OR made IS NULL)"

    (source,) = describe(product=PRODUCT | {"where": where})

    assert source.where == where


@pytest.mark.usefixtures("products")
def test_a_condition_on_columns_that_cannot_be_read(
    database: SourceDatabase, role: str
) -> None:
    """The remedy must be the GRANT, since the condition itself is right."""
    database.run(f"GRANT SELECT (id) ON public.products TO {role}")
    settings = database.as_user(role).settings()
    entity = Entity.model_validate(PRODUCT | {"where": "stock > 1"})
    mapping = Mapping(entities={"product": entity})

    with (
        pytest.raises(SourceError, match=r"product\.where") as refused,
        open_source(settings) as connection,
    ):
        describe_entities(connection, settings, mapping)

    database.run(refused.value.remedy)
    with open_source(settings) as connection:
        describe_entities(connection, settings, mapping)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize(
    ("statement", "message", "remedy"),
    [
        ("DROP TABLE public.products", "is not in this database", "product.table"),
        (
            "CREATE TABLE public.child () INHERITS (public.products)",
            "inherited tables",
            "one table",
        ),
        (
            "ALTER TABLE public.products DROP CONSTRAINT products_pkey",
            "Column id of public.products is not a unique, not-null key",
            "ADD PRIMARY KEY",
        ),
        (
            (
                "CREATE SCHEMA old; ALTER TABLE public.products SET SCHEMA old;"
                " CREATE VIEW public.products AS TABLE old.products"
            ),
            "is not a table",
            "Set product.table to the table behind it",
        ),
    ],
)
def test_a_table_that_cannot_be_proven_is_refused(
    database: SourceDatabase,
    describe: Describe,
    statement: str,
    message: str,
    remedy: str,
) -> None:
    """The tables of a mapping are held to the rules of the source table."""
    database.run(statement)

    with pytest.raises(SourceError, match=message) as refused:
        describe(product=PRODUCT)

    assert remedy in refused.value.remedy


def test_a_name_that_is_no_table_is_refused_by_its_key(describe: Describe) -> None:
    """The message must name the key of the mapping, not a setting."""
    with pytest.raises(SettingsError, match=r"product\.table 'a\.b\.c' is not a table"):
        describe(product=PRODUCT | {"table": "a.b.c"})


@pytest.mark.usefixtures("products")
def test_a_column_that_cannot_be_read_is_refused(
    database: SourceDatabase, role: str
) -> None:
    """Every moved column needs its privilege, also those of keys; others need none."""
    database.run(f"GRANT SELECT (id, sku) ON public.products TO {role}")
    settings = database.as_user(role).settings()

    def describe(sort_key: str) -> None:
        entity = Entity.model_validate(
            PRODUCT | {"sort_key": sort_key, "attributes": {"sku": "sku"}}
        )
        with open_source(settings) as connection:
            describe_entities(
                connection, settings, Mapping(entities={"product": entity})
            )

    describe("METADATA")
    with pytest.raises(SourceError, match="may not read column stock") as refused:
        describe("{stock}")

    database.run(refused.value.remedy)
    describe("{stock}")


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"created": "made"}, "made"),
        ({"attributes": {"day": {"column": "made", "type": "timestamp"}}}, "made"),
        ({"attributes": {"day": "made"}, "updated": "seen"}, ""),
    ],
)
def test_times_without_zone_need_the_setting(
    describe: Describe, changes: dict[str, Any], named: str
) -> None:
    """Each time without a zone is read in that of the setting; a date has none."""
    product = PRODUCT | changes

    if named:
        with pytest.raises(SettingsError, match=f"The times in {named} have no time"):
            describe(product=product)
    (source,) = describe(
        {"source_timezone": "Europe/Paris"} if named else {}, product=product
    )

    assert [one.column for one in source.fields if one.zoneless] == [named] * bool(
        named
    )


@pytest.mark.parametrize("reference", ["public.products (enterprise_id)", ""])
def test_tables_that_refer_are_mapped_or_left(
    database: SourceDatabase,
    create_table: CreateTable,
    describe: Describe,
    reference: str,
) -> None:
    """Tables that the mapping moves are not left behind; others are, as always."""
    create_table("parent bigint REFERENCES public.enterprises")
    database.run(
        "CREATE TABLE public.products (id int PRIMARY KEY,"
        " enterprise_id bigint REFERENCES public.enterprises)",
        "CREATE TABLE public.seats (e bigint REFERENCES public.enterprises)",
    )
    entities = {"enterprise": ENTERPRISE}
    entities |= {"product": PRODUCT} if reference else {}

    source, *_ = describe(**entities)

    assert source.referring_tables == (
        "public.enterprises (parent)",
        "public.products (enterprise_id)",
        "public.seats (e)",
    )
    assert source.mapped_tables == ((reference,) if reference else ())
    (left,) = [
        text
        for name, text in describe_left_behind([source]).items()
        if name.startswith("tables")
    ]
    assert (reference in left) != bool(reference) or not reference
    moved = ENTERPRISE | {"attributes": {"parent": "parent"}}
    (source,) = describe(enterprise=moved)
    assert source.mapped_tables == ("public.enterprises (parent)",)


def test_the_built_in_mapping_gives_the_table_of_enterprises(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """Without a mapping, the fields are those of enterprises, whatever the columns."""
    create_table(
        "phone text", name="enterprise_name text", created="created_at timestamp"
    )
    values = database.settings(source_timezone="UTC")

    with open_source(values) as connection:
        sources = describe_sources(connection, values, None)

    assert sources == (
        enterprise_table(
            created_column="created_at",
            created_zoneless=True,
            timezone="UTC",
            columns_not_migrated=("phone",),
        ),
    )


def test_the_built_in_mapping_in_a_file_gives_the_same_table(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """A file that spells out the built-in mapping must give the same items."""
    create_table("phone text", name="name varchar(9)", updated="updated_at date")
    values = database.settings(source_timezone="Europe/Paris")
    entity = enterprise_entity(
        table="enterprises",
        id_column="id",
        name="name",
        created="created_date",
        updated="updated_at",
    )

    with open_source(values) as connection:
        written = Mapping(entities={"enterprise": entity}, path="mapping.toml")
        sources = describe_sources(connection, values, written)

        assert sources == describe_sources(connection, values, None)


@pytest.mark.usefixtures("products")
def test_hidden_rows_are_accepted_where_no_row_is_read(
    database: SourceDatabase, role: str
) -> None:
    """The doctor reports row-level security by a check of it, after the columns."""
    database.run(
        f"GRANT SELECT ON public.products TO {role}",
        "ALTER TABLE public.products ENABLE ROW LEVEL SECURITY",
    )
    settings = database.as_user(role).settings()
    entity = Entity.model_validate(PRODUCT | {"where": "stock > 1"})
    mapping = Mapping(entities={"product": entity})

    with open_source(settings) as connection:
        with pytest.raises(SourceError, match="Row-level security hides rows"):
            describe_sources(connection, settings, mapping)
        (source,) = describe_sources(connection, settings, mapping, whole=False)

    assert source.where == "stock > 1"
