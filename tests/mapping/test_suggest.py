"""A mapping that is suggested by facts of a catalogue."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.mapping.catalogue import CatalogueColumn, CatalogueTable, ForeignKey, Roles
from flows.mapping.model import RESERVED, Entity
from flows.mapping.suggest import suggest_mapping
from flows.mapping.template import Template

ROOT = ("public", "enterprises")
ROLES = {
    "id": ("id",),
    "name": ("name",),
    "created": ("created_date",),
    "updated": ("updated_date",),
}
COLUMNS = (
    CatalogueColumn("id", base_type="int4", not_null=True, id_kind="integer"),
    CatalogueColumn("name", not_null=True),
    CatalogueColumn("created_date", base_type="timestamptz"),
    CatalogueColumn("updated_date", base_type="timestamptz"),
)


def integer(name: str, **facts: Any) -> CatalogueColumn:
    """Return an integer column."""
    return CatalogueColumn(name, base_type="int4", id_kind="integer", **facts)


def root(*columns: CatalogueColumn, **facts: Any) -> CatalogueTable:
    """Return the table of the enterprises, with more columns."""
    return CatalogueTable(*ROOT, (*COLUMNS, *columns), keys=("id",), **facts)


def table(name: str, *columns: CatalogueColumn, **targets: str) -> CatalogueTable:
    """Return a table with an id, and references by column to the ids of tables."""
    references = tuple(
        ForeignKey((column,), ("public", target), ("id",))
        for column, target in targets.items()
    )
    keys = (integer("id", not_null=True), *columns)
    return CatalogueTable("public", name, keys, keys=("id",), references=references)


def suggest(
    *tables: CatalogueTable, roles: Roles | None = None
) -> tuple[dict[str, Entity], dict[str, str]]:
    """Suggest a mapping; a table has no times, and its id is its first key."""
    others = {t.name: {"id": t.keys, "created": (), "updated": ()} for t in tables}
    mapping, comments = suggest_mapping(tables, others | {ROOT: roles or ROLES})
    return mapping.entities, comments


def keys_of(entity: Entity) -> tuple[str, str]:
    """Return the keys of an entity."""
    return entity.partition_key, entity.sort_key


def test_an_enterprise_without_name_and_times_is_still_an_entity() -> None:
    """The mapping file needs neither; the comments say what is missing."""
    entities, comments = suggest(root(), roles={"id": ("id",)})

    enterprise = entities["enterprise"]
    assert (enterprise.created, enterprise.updated) == (None, None)
    assert "enterprise_name" not in enterprise.attributes
    assert "add the attribute enterprise_name" in comments["enterprise"]
    assert "--since" in comments["enterprise"]


def test_a_column_that_may_have_a_role_too_is_named() -> None:
    """Without a mapping file it would be an error; in a file it is a decision."""
    other = CatalogueColumn("created_at", base_type="timestamptz")
    roles = ROLES | {"created": ("created_date", "created_at")}

    entities, comments = suggest(root(other), roles=roles)

    assert entities["enterprise"].created == "created_date"
    assert comments == {"enterprise.created": "or created_at"}
    assert entities["enterprise"].attributes["created_at"].column == "created_at"


def test_the_name_of_an_enterprise_keeps_both_its_attributes() -> None:
    """A column of the name of one of them gives way."""
    roles = ROLES | {"name": ("enterprise_name", "name")}

    entities, comments = suggest(root(CatalogueColumn("enterprise_name")), roles=roles)

    attributes = entities["enterprise"].attributes
    assert attributes["enterprise_name"].is_name
    assert attributes["name"].column == "enterprise_name"
    assert attributes["name_column"].column == "name"
    assert "reserved, taken" in comments["enterprise.attributes.name_column"]


@pytest.mark.parametrize(
    "name", sorted(RESERVED - {"id", "created_date", "updated_date"})
)
def test_a_reserved_name_gets_another_one(name: str) -> None:
    """The attribute is made by the program, and the column would overwrite it."""
    entities, comments = suggest(root(CatalogueColumn(name)))

    assert entities["enterprise"].attributes[f"{name}_column"].column == name
    assert name in comments[f"enterprise.attributes.{name}_column"]


def test_a_table_is_in_the_partition_of_its_enterprise() -> None:
    """One query returns an enterprise and what belongs to it."""
    owner = integer("enterprise_id", not_null=True)

    entities, comments = suggest(
        root(), table("products", owner, enterprise_id="enterprises")
    )

    product = entities["product"]
    assert keys_of(product) == ("ENT#{enterprise_id}", "PROD#{id}")
    assert product.attributes["enterprise_id"].refers_to == "enterprise"
    assert "product.partition_key" not in comments


def test_of_several_references_one_without_null_makes_the_key() -> None:
    """A row whose key is NULL cannot be an item; the others are named."""
    columns = integer("buyer"), integer("seller", not_null=True), integer("agent")
    targets = dict.fromkeys(("buyer", "seller", "agent"), "enterprises")

    entities, comments = suggest(root(), table("deals", *columns, **targets))

    assert entities["deal"].partition_key == "ENT#{seller}"
    said = "or buyer or agent, which refers to enterprise too"
    assert comments["deal.partition_key"] == said


def test_a_key_that_may_be_null_has_a_comment() -> None:
    """Its rows without the reference would be found in quarantine only."""
    deals = table("deals", integer("buyer"), buyer="enterprises")

    _, comments = suggest(root(), deals)

    assert comments["deal.partition_key"] == "rows without buyer cannot be items"


def test_a_table_that_is_two_references_away_has_a_partition_for_each_parent() -> None:
    """Its rows have no id of an enterprise, and no lookup gives one."""
    products = table("products", integer("e", not_null=True), e="enterprises")
    seats = table("seats", integer("p", not_null=True), p="products")
    users = table("users", integer("s", not_null=True), s="seats")

    entities, comments = suggest(root(), users, seats, products)

    assert list(entities) == ["enterprise", "product", "seat", "user"]
    assert keys_of(entities["seat"]) == ("PROD#{p}", "SEAT#{id}")
    assert keys_of(entities["user"]) == ("SEAT#{s}", "USER#{id}")
    assert "a partition for each product" in comments["seat.partition_key"]


def test_an_enterprise_is_preferred_to_a_nearer_parent() -> None:
    """Whatever else a row refers to, it belongs to its enterprise."""
    products = table("products", integer("e", not_null=True), e="enterprises")
    columns = integer("p", not_null=True), integer("e")
    seats = table("seats", *columns, p="products", e="enterprises")

    entities, _ = suggest(root(), products, seats)

    assert keys_of(entities["seat"]) == ("ENT#{e}", "SEAT#{id}")
    assert entities["seat"].attributes["p"].refers_to == "product"


def test_tables_that_refer_to_each_other_and_themselves_have_keys() -> None:
    """A circle of references must neither hang nor make a key of what follows."""
    columns = integer("e", not_null=True), integer("b"), integer("up")
    one = table("ones", *columns, e="enterprises", b="others", up="ones")
    other = table("others", integer("a"), integer("up"), a="ones", up="others")

    entities, _ = suggest(root(), other, one)

    assert keys_of(entities["one"]) == ("ENT#{e}", "ONE#{id}")
    assert keys_of(entities["other"]) == ("ONE#{a}", "OTHE#{id}")
    assert entities["one"].attributes["b"].refers_to == "other"
    assert entities["other"].attributes["up"].refers_to == "other"


def test_a_table_whose_parent_is_left_out_has_partitions_of_its_rows() -> None:
    """It is moved all the same, since a comment can say what is missing."""
    logs = CatalogueTable(
        *("public", "logs"),
        (integer("id"), integer("e")),
        references=(ForeignKey(("e",), ROOT, ("id",)),),
    )
    lines = table("lines", integer("log"), log="logs")

    entities, comments = suggest(root(), logs, lines)

    assert list(entities) == ["enterprise", "line"]
    assert keys_of(entities["line"]) == ("LINE#{id}", "METADATA")
    assert comments[""].startswith("public.logs is left out: its ids need")
    said = "refers to public.logs (id), which is not the id of an entity"
    assert comments["line.attributes.log"] == said


def test_a_table_with_inherited_ones_is_left_out() -> None:
    """A run refuses it, since its ids may repeat."""
    columns = integer("id", not_null=True), integer("e")
    facts: dict[str, Any] = {
        "keys": ("id",),
        "inherited": True,
        "references": (ForeignKey(("e",), ROOT, ("id",)),),
    }

    entities, comments = suggest(
        root(), CatalogueTable("s", "cities", columns, **facts)
    )

    assert list(entities) == ["enterprise"]
    assert "s.cities is left out: it has inherited tables" in comments[""]


def test_a_reference_of_another_kind_than_the_id_is_none() -> None:
    """A numeric may refer to an integer; no id can be made of its text."""
    amount = CatalogueColumn("e", base_type="numeric")

    entities, comments = suggest(root(), table("sums", amount, e="enterprises"))

    assert entities["sum"].attributes["e"].refers_to is None
    assert entities["sum"].partition_key == "SUM#{id}"
    assert "not the id of an entity" in comments["sum.attributes.e"]


def test_an_id_that_is_a_reference_is_an_attribute_too() -> None:
    """A table with a row for each enterprise is in its partition."""
    columns = (integer("enterprise_id", not_null=True),)
    reference = ForeignKey(("enterprise_id",), ROOT, ("id",))
    facts: dict[str, Any] = {"keys": ("enterprise_id",), "references": (reference,)}

    entities, _ = suggest(root(), CatalogueTable("s", "addresses", columns, **facts))

    address = entities["address"]
    assert keys_of(address) == ("ENT#{enterprise_id}", "ADDR#{id}")
    assert address.attributes["enterprise_id"].refers_to == "enterprise"


def test_what_needs_a_decision_has_a_comment() -> None:
    """Each other line stands without one."""
    columns = (
        CatalogueColumn("f", "real", base_type="float4"),
        CatalogueColumn("n38", "numeric(38,2)", base_type="numeric"),
        CatalogueColumn("n39", "numeric(39)", base_type="numeric"),
        CatalogueColumn("t", base_type="timestamp"),
        CatalogueColumn("ts", base_type="timestamp", is_array=True),
        CatalogueColumn("d", base_type="date"),
        CatalogueColumn("closed", readable=False),
        CatalogueColumn('a."b', readable=False),
    )

    _, comments = suggest(root(*columns))

    place = "enterprise.attributes."
    assert set(comments) == {
        *(place + name for name in ("f", "n39", "t", "closed", r'"a.\"b"')),
    }
    assert "SOURCE_TIMEZONE" in comments[f"{place}t"]


def test_a_text_id_has_a_comment_with_the_other_keys() -> None:
    """Only a text of a UUID can be an id."""
    columns = (
        CatalogueColumn("code", not_null=True, id_kind="text"),
        integer("number", not_null=True),
    )
    codes = CatalogueTable("s", "codes", columns, keys=("code", "number"))

    _, comments = suggest(root(), codes)

    assert comments["code.id"] == "each text must be a UUID, or choose number"


def test_an_estimate_of_the_rows_helps_to_decide() -> None:
    """A table of a billion rows may not be wanted."""
    facts: dict[str, Any] = {"keys": ("id",), "rows": 1_000_000_000}
    logs = CatalogueTable("s", "logs", (integer("id"),), **facts)

    _, comments = suggest(root(rows=5), logs)

    assert "about 1,000,000,000 rows" in comments["log"]
    assert "enterprise" not in comments


@given(st.lists(st.text(min_size=1), unique=True))
def test_any_names_give_a_mapping_that_can_be_used(names: list[str]) -> None:
    """Every column is an attribute once, and every template can be parsed."""
    usual = {column.name for column in COLUMNS}
    names = [name for name in names if name not in usual]
    enterprises = root(*map(CatalogueColumn, names))
    tables = [
        CatalogueTable(
            name,
            name,
            (integer(name, not_null=True),),
            keys=(name,),
            references=(ForeignKey((name,), ROOT, ("id",)),),
        )
        for name in names
    ]

    entities, comments = suggest(enterprises, *tables)

    columns = [one.column for one in entities["enterprise"].attributes.values()]
    assert columns == ["name", "name", *names]
    assert len(entities) == 1 + len(names)
    assert len({keys_of(one) for one in entities.values()}) == len(entities)
    for entity in entities.values():
        for key in keys_of(entity):
            assert {"id", *entity.attributes}.issuperset(Template.parse(key).names)
    assert all(text.isprintable() for text in comments.values())
