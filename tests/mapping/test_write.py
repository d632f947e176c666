"""Mappings written as files: the form, the comments, and what is read again."""

import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flows.mapping import read_mapping
from flows.mapping.model import (
    RESERVED,
    Attribute,
    Entity,
    FieldType,
    Mapping,
    enterprise_entity,
)
from flows.mapping.write import write_mapping

HOSTILE = '"quoted" a.b \\ é\t\n\r\x00\x1f\x7f\x85\u2028\ufeff\U0001f600 #='

# Texts with what TOML has a meaning for, beside any other.
characters = st.one_of(
    st.sampled_from(HOSTILE + "'[],{}"), st.characters(exclude_categories=["Cs"])
)
texts = st.text(characters, min_size=1, max_size=12)
columns = texts.filter(lambda text: "\0" not in text)
constants = texts.map(lambda text: text.replace("{", "{{").replace("}", "}}"))
attribute_names = texts.filter(
    lambda text: text not in RESERVED and not {"{", "}"} & {*text}
)
entity_names = st.from_regex(r"[a-z][A-Za-z0-9_.-]{0,9}", fullmatch=True)
numbers = st.one_of(
    st.integers().map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.sampled_from(["-0", "00", "1.50", "1e5", "1_000", "+1", "0.00000001"]),
)
choices = st.lists(st.one_of(texts, numbers), min_size=1, max_size=3, unique=True)
kinds = st.sampled_from(FieldType.__args__)  # type: ignore[attr-defined]


@st.composite
def attributes(draw: st.DrawFn) -> Attribute:
    """Return an attribute without a fault."""
    given: dict[str, Any] = {"column": draw(columns)}
    form = draw(st.sampled_from(["plain", "template", "number", "rules", "reference"]))
    if form == "template":
        return Attribute(template=draw(constants) + draw(st.sampled_from(["", "{id}"])))
    if form == "number":
        given |= {"type": "number", "one_of": tuple(draw(choices))}
        given[draw(st.sampled_from(["minimum", "maximum"]))] = draw(numbers)
    if form == "rules":
        given |= {"one_of": tuple(draw(choices)), "type": draw(kinds)}
        given["null"] = draw(st.sampled_from(["omit", "keep"]))
        given |= {"required": draw(st.booleans()), "unique": draw(st.booleans())}
    if form == "reference":
        given |= {"refers_to": "enterprise", "severity": "critical"}
    return Attribute(**given)


entities = st.builds(
    Entity,
    table=columns,
    id=columns,
    partition_key=constants.map(lambda text: f"{text}{{id}}"),
    sort_key=constants,
    created=st.none() | columns.map(lambda text: f"c{text}"),
    updated=st.none() | columns.map(lambda text: f"u{text}"),
    where=st.none() | texts.map(lambda text: f"{text}x"),
    other_columns=st.sampled_from(["leave", "carry"]),
    attributes=st.dictionaries(attribute_names, attributes(), max_size=3),
)
ENTERPRISE = enterprise_entity(
    table="public.enterprises",
    id_column="id",
    name="name",
    created="created_date",
    updated="updated_date",
)


def read_text(text: str) -> Mapping:
    """Return the mapping of a file with this text."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mapping.toml"
        path.write_bytes(text.encode())
        return read_mapping(path)


@given(
    named=st.dictionaries(
        entity_names.map(lambda name: f"x{name}"),
        entities,
        max_size=2,
    ),
    comment=st.text(characters, max_size=20),
)
def test_a_written_mapping_is_read_again(
    named: dict[str, Entity], comment: str
) -> None:
    """Any name, and any comment, must leave the mapping as it was."""
    # Keys that no other entity has.
    own = {
        name: entity.model_copy(update={"sort_key": f"{entity.sort_key}#{number}"})
        for number, (name, entity) in enumerate(named.items())
    }
    mapping = Mapping(entities={"enterprise": ENTERPRISE, **own})
    comments = dict.fromkeys(
        ["enterprise", "enterprise.table", "enterprise.attributes.name"], comment
    )

    again = read_text(write_mapping(mapping, comments))

    assert again.entities == mapping.entities
    assert list(again.entities) == list(mapping.entities)
    for name, entity in mapping.entities.items():
        assert list(again.entities[name].attributes) == list(entity.attributes)


def test_the_text_has_the_documented_form() -> None:
    """A person must find one line per attribute, as short as it can be."""
    product = Entity(
        table="public.products",
        id="id",
        partition_key="ENT#{enterprise_id}",
        sort_key="PROD#{id}",
        where="NOT deleted",
        attributes={
            "enterprise_id": Attribute(column="enterprise_id", refers_to="enterprise"),
            "price": Attribute(
                column="price", type="number", minimum="0", maximum="99.50"
            ),
            "plan": Attribute(column="plan", one_of=("1", "pro"), required=True),
            "list price": Attribute(column='list "price"'),
            "GSI1PK": Attribute(template="PLAN#{plan}"),
        },
    )
    comments = {
        "product": "a choice",
        "product.sort_key": "one item\nfor each",
        "product.attributes": "columns",
        "product.attributes.price": "numeric(6, 2)",
        'product.attributes."list price"': "  ",
        "product.attributes.gone": "of no line",
    }

    text = write_mapping(
        Mapping(entities={"enterprise": ENTERPRISE, "product": product}), comments
    )

    assert (
        text
        == """\
[enterprise]
table = "public.enterprises"
id = "id"
partition_key = "ENT#{id}"
sort_key = "METADATA"
created = "created_date"
updated = "updated_date"

[enterprise.attributes]
enterprise_name = { column = "name", is_name = true, required = true }
name = "name"

[product]  # a choice
table = "public.products"
id = "id"
partition_key = "ENT#{enterprise_id}"
sort_key = "PROD#{id}"  # one item for each
where = "NOT deleted"

[product.attributes]  # columns
enterprise_id = { column = "enterprise_id", refers_to = "enterprise" }
price = { column = "price", type = "number", minimum = 0, maximum = 99.50 }  \
# numeric(6, 2)
plan = { column = "plan", required = true, one_of = ["1", "pro"] }
"list price" = "list \\"price\\""
GSI1PK = { template = "PLAN#{plan}" }
"""
    )


def test_characters_that_cannot_be_seen_are_escaped() -> None:
    """A person must see each character of a name, also one that changes a line."""
    entity = ENTERPRISE.model_copy(update={"table": HOSTILE, "attributes": {}})

    text = write_mapping(Mapping(entities={"enterprise": entity}))

    assert tomllib.loads(text)["enterprise"]["table"] == HOSTILE
    assert '\\"quoted\\" a.b \\\\ é\\t\\n\\r\\u0000\\u001F\\u007F\\u0085\\u2028' in text
    assert "attributes" not in text
