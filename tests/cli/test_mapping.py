"""``enterprises mapping init``: the file, the JSON, and what is refused."""

import importlib.util
import json
import sys
import tomllib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows.cli.app import app
from flows.mapping.model import Mapping
from tests.support.catalogue_tables import ENTERPRISES, REFERRERS

SAMPLE = Path(__file__).parents[2] / "data" / "schema.sql"
BUILT_IN = {
    "table": "public.enterprises",
    "id": "id",
    "partition_key": "ENT#{id}",
    "sort_key": "METADATA",
    "created": "created_date",
    "updated": "updated_date",
    "attributes": {
        "enterprise_name": {"column": "name", "required": True, "is_name": True},
        "name": "name",
    },
}


def write_plainly(mapping: Mapping, comments: dict[str, str]) -> str:
    """Write a mapping as TOML, each attribute as a table, and the comments last."""
    lines = []
    for name, entity in mapping.entities.items():
        values = entity.model_dump(mode="json", exclude_defaults=True)
        attributes = values.pop("attributes", {})
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        for attribute, rules in attributes.items():
            lines.append(f"[{name}.attributes.{json.dumps(attribute)}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in rules.items()]
    return "\n".join([*lines, *(f"# {text}" for text in comments.values()), ""])


@pytest.fixture(autouse=True)
def writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide a writer of mapping files as long as the program has none."""
    name = "flows.mapping.write"
    if importlib.util.find_spec(name) is None:
        module: Any = ModuleType(name)
        module.write_mapping = write_plainly
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def create(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Name the source in the environment; return a function that creates tables."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    def run(*statements: str) -> None:
        with closing(psycopg2.connect(database_url)) as connection, connection:
            for statement in statements:
                connection.cursor().execute(statement)

    return run


def init(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["mapping", "init", *arguments])


def read_attributes(text: str) -> dict[str, Any]:
    """Return the entities of a mapping file, with plain columns as texts."""
    entities = tomllib.loads(text)
    for entity in entities.values():
        entity["attributes"] = {
            name: rules["column"] if [*rules] == ["column"] else rules
            for name, rules in (
                (name, {"column": rules} if isinstance(rules, str) else rules)
                for name, rules in entity["attributes"].items()
            )
        }
    return entities


def test_the_sample_gives_the_built_in_mapping(create: Callable[..., None]) -> None:
    """The file of the sample must move what is moved without a file."""
    create(SAMPLE.read_text("utf-8"))

    result = init()

    assert result.exit_code == 0, result.output
    assert read_attributes(result.stdout) == {"enterprise": BUILT_IN}


def test_a_file_is_written_and_never_replaced(
    create: Callable[..., None], tmp_path: Path
) -> None:
    """What a person has decided in a file must not be lost."""
    create(ENTERPRISES, REFERRERS)
    path = tmp_path / "mapping.toml"
    printed = init()

    written = init("--output", str(path))

    assert written.exit_code == 0, written.output
    assert path.read_text("utf-8") == printed.stdout
    assert f"Next: enterprises mapping check --mapping {path}" in written.output

    path.write_text("decided = true")
    again = init("--output", str(path), "--json")

    assert again.exit_code == 2
    error = json.loads(again.stdout)["error"]
    assert error["message"] == f"The file {path} exists already."
    assert "--output" in error["remedy"]
    assert path.read_text() == "decided = true"


def test_a_link_to_nowhere_is_not_followed(tmp_path: Path) -> None:
    """It may name a file that another program is about to create."""
    path = tmp_path / "mapping.toml"
    path.symlink_to(tmp_path / "elsewhere")

    assert init("--output", str(path)).exit_code == 2
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_missing_is_an_error(
    create: Callable[..., None], tmp_path: Path
) -> None:
    """The message names the file and the cause."""
    create(SAMPLE.read_text("utf-8"))

    result = init("--output", str(tmp_path / "gone" / "mapping.toml"), "--json")

    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert "gone/mapping.toml cannot be written: No such file" in error["message"]


def test_the_json_has_the_mapping_and_its_comments(
    create: Callable[..., None], tmp_path: Path
) -> None:
    """A program needs no parser of TOML to show what must be decided."""
    create(ENTERPRISES, REFERRERS)
    path = tmp_path / "mapping.toml"

    printed = json.loads(init("--json").stdout)
    written = json.loads(init("--json", "--output", str(path)).stdout)

    assert printed["status"] == "suggested"
    assert printed["file"] is None
    assert printed["next"] == "enterprises mapping init --output mapping.toml"
    mapping = Mapping.model_validate(printed["mapping"])
    assert set(mapping.entities) == set(tomllib.loads(path.read_text("utf-8")))
    assert "SOURCE_TIMEZONE" in printed["comments"]["enterprise.attributes.seen"]
    assert written["status"] == "written"
    assert written["file"] == str(path)
    assert written["mapping"] == printed["mapping"]


def test_what_is_left_out_is_at_the_top_of_the_file(
    create: Callable[..., None],
) -> None:
    """No section of the file could say it."""
    create(ENTERPRISES, REFERRERS)

    top, _, rest = init().stdout.partition("[enterprise]")

    assert "# public.events is left out: " in top
    assert "# public.stock is left out: " in top
    assert "left out" not in rest
    assert all(line.startswith("#") for line in top.splitlines() if line)


def test_settings_of_the_command_line_choose_the_table(
    create: Callable[..., None],
) -> None:
    """The table of the setting is that of the enterprises."""
    create("CREATE SCHEMA s", 'CREATE TABLE s."My.Firms" (key uuid PRIMARY KEY)')

    result = init("--set", 'SOURCE_TABLE=s."My.Firms"')

    assert result.exit_code == 0, result.output
    enterprise = tomllib.loads(result.stdout)["enterprise"]
    assert (enterprise["table"], enterprise["id"]) == ('s."My.Firms"', "key")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("SELECT", "is not in this database"),
        ("CREATE VIEW public.enterprises AS SELECT 1 AS id", "is not a table"),
        ("CREATE TABLE public.enterprises (id integer)", "no unique, not-null"),
    ],
)
def test_a_table_that_cannot_be_moved_is_refused(
    create: Callable[..., None], statement: str, message: str
) -> None:
    """The command ends with the cause and a remedy, and writes no file."""
    create(statement)

    result = init("--json", "--output", "mapping.toml")

    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert message in error["message"]
    assert error["remedy"]
    assert not Path("mapping.toml").exists()
