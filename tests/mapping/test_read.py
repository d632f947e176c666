"""Mapping files as they are read: the form, and each fault with its line."""

import os
import re
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.errors import SettingsError
from flows.mapping import load_mapping, read_mapping
from flows.mapping.model import Attribute, Entity, enterprise_entity
from flows.mapping.spelling import spell_key, spell_value
from flows.settings import Settings

# The form of the documentation.
WHOLE = """\
[enterprise]
table = "public.enterprises"
id = "id"
partition_key = "ENT#{id}"
sort_key = "METADATA"
created = "created_date"
updated = "updated_date"
where = "NOT deleted"

[enterprise.attributes]
enterprise_name = { column = "name", required = true }
name = "name"
plan = { column = "plan", one_of = ["free", "pro"], severity = "critical" }
seats = { column = "seats", type = "number", minimum = 0, maximum = 1_000.50 }
settings = { column = "settings", type = "json", null = "keep" }
owner_id = { column = "owner_id", refers_to = "user" }
changed = "updated_date"
source = "id"
GSI1PK = { template = "OWNER#{owner_id}" }
GSI1SK = { template = "METADATA" }

[user]
table = "public.users"
id = "id"
partition_key = "USER#{id}"
sort_key = "USER#{region}"
"""
START = """\
[product]
table = "public.products"
id = "id"
partition_key = "ENT#{enterprise_id}"
sort_key = "PROD#{id}"
"""
ATTRIBUTES = START + "[product.attributes]\n"
TYPES = (
    "text, number, boolean, timestamp, date, json, list, string_set, number_set, binary"
)
ATTRIBUTE_KEYS = (
    "column, template, type, null, refers_to, is_name, required, one_of, matches,"
    " min_length, max_length, minimum, maximum, unique, severity"
)
ENTITY_KEYS = (
    "table, id, partition_key, sort_key, created, updated, where, other_columns,"
    " attributes"
)


LONG = "0x" + "f" * 5_000
NESTED = "(" * 2_000 + ")" * 2_000
WORDS = {
    "START": START.strip(),
    "TYPES": TYPES,
    "ENTITY_KEYS": ENTITY_KEYS,
    "ATTRIBUTE_KEYS": ATTRIBUTE_KEYS,
}


def lines_of(text: str | bytes, folder: Path) -> list[str]:
    """Return the lines of the error that the text of a file raises."""
    file = folder / "mapping.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)

    with pytest.raises(SettingsError) as refused:
        read_mapping(file)

    assert refused.value.exit_code == 2
    assert refused.value.remedy.startswith("Correct the mapping file")
    return [
        line.removeprefix(f"{folder}/") for line in refused.value.message.split("\n")
    ]


def test_the_documented_form_is_read(tmp_path: Path) -> None:
    """Each key of the documentation must be read, entities in the file's order."""
    file = tmp_path / "mapping.toml"
    file.write_text(WHOLE, "utf-8")

    mapping = read_mapping(file)

    assert mapping.path == str(file)
    assert list(mapping.entities) == ["enterprise", "user"]
    enterprise = mapping.entities["enterprise"]
    assert enterprise.where == "NOT deleted"
    assert enterprise.attributes == {
        "enterprise_name": Attribute(column="name", required=True),
        "name": Attribute(column="name"),
        "plan": Attribute(column="plan", one_of=("free", "pro"), severity="critical"),
        "seats": Attribute(
            column="seats", type="number", minimum="0", maximum="1000.50"
        ),
        "settings": Attribute(column="settings", type="json", null="keep"),
        "owner_id": Attribute(column="owner_id", refers_to="user"),
        "changed": Attribute(column="updated_date"),
        "source": Attribute(column="id"),
        "GSI1PK": Attribute(template="OWNER#{owner_id}"),
        "GSI1SK": Attribute(template="METADATA"),
    }
    assert mapping.entities["user"] == Entity(
        table="public.users",
        id="id",
        partition_key="USER#{id}",
        sort_key="USER#{region}",
    )


def test_numbers_and_times_are_read_as_they_are_spelled(tmp_path: Path) -> None:
    """A bound of more digits than a float has must keep all of them."""
    file = tmp_path / "mapping.toml"
    bounds = "minimum = -12345678901234567890.123456789, maximum = 1e2"
    times = "minimum = 2024-01-01, maximum = 2024-02-03T04:05:06Z"
    file.write_text(
        f"{ATTRIBUTES}a = {{ column = 'a', {bounds}, one_of = [1, 1.50, true] }}\n"
        f"b = {{ column = 'b', {times} }}\n",
        "utf-8",
    )

    attributes = read_mapping(file).entities["product"].attributes

    assert attributes["a"].minimum == "-12345678901234567890.123456789"
    assert attributes["a"].maximum == "1E+2"
    assert attributes["a"].one_of == ("1", "1.50", "true")
    assert attributes["b"].minimum == "2024-01-01"
    assert attributes["b"].maximum == "2024-02-03 04:05:06+00:00"


@pytest.mark.parametrize("text", [f"\ufeff{WHOLE}", WHOLE.replace("\n", "\r\n")])
def test_the_files_of_other_editors_are_read(text: str, tmp_path: Path) -> None:
    """A byte order mark and line ends of Windows must change nothing."""
    plain, other = tmp_path / "plain.toml", tmp_path / "other.toml"
    plain.write_text(WHOLE, "utf-8")
    other.write_bytes(text.encode())

    assert read_mapping(other).entities == read_mapping(plain).entities


@pytest.mark.parametrize(
    "rules",
    [
        'type = "string_set", null = "keep"',
        "min_length = 3, max_length = 3",
        'type = "date", minimum = "2024-01-31", maximum = "2024-01-31"',
        'type = "timestamp", minimum = "2024-01-31", maximum = "2024-01-31 00:00:00Z"',
        'matches = "^[A-Z]{2}\\\\d+$"',
        'refers_to = "product", required = true, unique = true, severity = "warning"',
        "required = true, is_name = true",
    ],
)
def test_what_fits_together_is_accepted(rules: str, tmp_path: Path) -> None:
    """Rules at their limits must not be refused."""
    file = tmp_path / "mapping.toml"
    file.write_text(f"{ATTRIBUTES}a = {{ column = 'a', {rules} }}\n", "utf-8")

    assert read_mapping(file).entities["product"].attributes["a"].column == "a"


def test_two_entities_may_share_a_table(tmp_path: Path) -> None:
    """One table may hold two kinds of rows, each with its condition."""
    file = tmp_path / "mapping.toml"
    second = START.replace("[product]", "[offer]").replace("PROD#", "OFFER#")
    file.write_text(START + second, "utf-8")

    assert list(read_mapping(file).entities) == ["product", "offer"]


def faulty() -> Iterator[tuple[str, str]]:
    """Yield each text of ``faults.txt`` with the line that it must cause."""
    page = (Path(__file__).parent / "faults.txt").read_text("utf-8")
    for name, value in WORDS.items():
        page = re.sub(rf"\b{name}\b", lambda _, value=value: value, page)
    _, files, attributes = re.split(r"^## .*\n", page, flags=re.MULTILINE)
    for start, section in (("", files), (ATTRIBUTES, attributes)):
        for case in section.strip().split("\n\n"):
            text, line = case.split("\n=> ")
            yield f"{start}{text}\n", line


FAULTS = list(faulty())


@pytest.mark.parametrize(("text", "line"), FAULTS, ids=[line for _, line in FAULTS])
def test_each_fault_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    """A fault must be named with file, key, value and remedy, and cause no other."""
    assert lines_of(text, tmp_path) == [f"mapping.toml: {line}"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"[product]\ntable = '\xe9'\n", "line 2: the byte 0xe9 is not UTF-8;"),
        ("", "the file has no entity; add one, e.g. [enterprise] with table, id, "),
        ("a = " + "[" * 5_000, "lists or tables are nested too deeply; flatten them"),
        (f"{START}where = {'9' * 5_000}", "a number has too many digits; shorten it"),
        (f"{START}where = {LONG}", "product: where a number with too many "),
        (
            f"{ATTRIBUTES}a = {{ column = 'a', minimum = {LONG} }}",
            "product.attributes.a: minimum a number with too many digits is not ",
        ),
        (
            f"{ATTRIBUTES}a = {{ column = 'a', matches = '{NESTED}' }}",
            f'product.attributes.a: matches "{"(" * 79} … is not a regular expression ',
        ),
    ],
    ids=["bytes", "empty", "nested", "digits", "long", "bound", "pattern"],
)
def test_hostile_text_is_one_line_too(
    text: str | bytes, line: str, tmp_path: Path
) -> None:
    """Text at the limits of Python must be named as any other fault."""
    (found,) = lines_of(text, tmp_path)

    assert found.startswith(f"mapping.toml: {line}")
    assert len(found) < 300


def test_all_faults_are_in_one_error(tmp_path: Path) -> None:
    """Each fault must be named at once, in the order of the file."""
    text = """\
[product]
table = "public.products"
partition_key = 5
sort_key = "PROD"
other = 1
[product.attributes]
PK = { column = "a", min_length = 2, max_length = 1, type = "txt" }
b = { column = false, refers_to = "nothing" }
c = 1
[offer]
id = ""
partition_key = ""
"""
    begins = [
        "product: id is missing;",
        "product: partition_key 5 is not a text;",
        'product: key "other" is unknown;',
        'product.attributes.PK: type "txt" is unknown;',
        "product.attributes.PK: the name is reserved for this program;",
        "product.attributes.PK: min_length 2 is more than max_length 1;",
        "product.attributes.b: column false is not a text;",
        'product.attributes.b: refers_to "nothing" is unknown; one of product, offer',
        "product.attributes.c: 1 is neither a column nor a table;",
        "offer: table is missing;",
        "offer: sort_key is missing;",
        'offer: id "" is empty;',
        'offer: partition_key "" is empty;',
    ]

    lines = lines_of(text, tmp_path)

    for line, begin in zip(lines, begins, strict=True):
        assert line.startswith(f"mapping.toml: {begin}")


def test_another_file_is_not_shown(tmp_path: Path) -> None:
    """A path to `.env` must not print the password that is in there."""
    for text in (
        "A_URL=postgresql://u:s3cret@h/d\n",
        "A_URL='postgresql://u:s3cret'\n",
    ):
        (line,) = lines_of(text, tmp_path)

        assert "s3cret" not in line


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.toml", "there is no such file; name one that exists"),
        ("", "it is a folder; name a file"),
        ("file/below.toml", "it cannot be read (Not a directory); name another file"),
        ("x" * 300, "it cannot be read (File name too long); name another file"),
    ],
)
def test_a_path_without_a_file_is_refused(
    name: str, reason: str, tmp_path: Path
) -> None:
    """The path must be named, and how to get a mapping file."""
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError) as refused:
        read_mapping(tmp_path / name)

    assert refused.value.message == f"{tmp_path / name}: {reason}"
    assert "enterprises mapping init" in refused.value.remedy


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """Each worker reads the file, so a pipe would be empty for all but the first."""
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(SettingsError, match="it is not a regular file; name a file"):
        read_mapping(tmp_path / "pipe")


def test_without_a_file_there_is_no_mapping(tmp_path: Path) -> None:
    """The setting alone decides whether a mapping file is read."""
    file = tmp_path / "mapping.toml"
    file.write_text(START, "utf-8")

    assert load_mapping(Settings.isolated()) is None
    mapping = load_mapping(Settings.isolated(mapping_file=file))

    assert mapping is not None
    assert list(mapping.entities) == ["product"]


def test_the_builtin_mapping_has_no_fault(tmp_path: Path) -> None:
    """The mapping of today, written as a file, must be read as the same entity."""
    file = tmp_path / "mapping.toml"
    file.write_text(
        '[enterprise]\ntable = "public.enterprises"\nid = "id"\n'
        'partition_key = "ENT#{id}"\nsort_key = "METADATA"\n'
        'created = "created_date"\nupdated = "updated_date"\n'
        "[enterprise.attributes]\n"
        'enterprise_name = { column = "name", required = true, is_name = true }\n'
        'name = "name"\n',
        "utf-8",
    )

    assert read_mapping(file).entities == {
        "enterprise": enterprise_entity(
            table="public.enterprises",
            id_column="id",
            name="name",
            created="created_date",
            updated="updated_date",
        )
    }


values = st.recursive(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.sampled_from(["id", "{id}", "number", "json", "keep", "product", "a", "("]),
        st.booleans(),
        st.integers(-3, 3),
        st.decimals(-2, 2, places=1),
        st.dates(),
        st.datetimes(timezones=st.none() | st.just(UTC)),
        st.times(),
    ),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["column", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)
some_attributes = st.dictionaries(
    st.sampled_from([*Attribute.model_fields, "a", "a.b"]), values, max_size=4
)
some_entities = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(Entity.model_fields, values),
        "other": values,
        "attributes": values
        | st.dictionaries(
            st.sampled_from(["a", "b", "PK", "{"]), values | some_attributes
        ),
    },
)


@given(
    st.dictionaries(
        st.sampled_from(["product", "offer", "", "a b"]), values | some_entities
    )
)
def test_whatever_toml_has_is_read_or_refused_by_line(data: dict[str, object]) -> None:
    """No value at any place may cause another error, or a line without its file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mapping.toml"
        lines = (f"{spell_key(k)} = {spell_value(v)}\n" for k, v in data.items())
        path.write_bytes("".join(lines).encode())

        try:
            assert list(read_mapping(path).entities) == list(data)
        except SettingsError as error:
            found = error.message.split("\n")

            assert all(line.startswith(f"{path}: ") for line in found)
            assert all(re.search(r"[;?] \S|[?]$| is not a", line) for line in found)
            assert len(found) == len(set(found))
