"""Secondary indexes of the target: their refusals are detected before any write."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.models import ENTERPRISE_TABLE
from flows.settings import load_settings
from flows.stores.dynamodb.indexes import written_types
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from tests.support.fault_proxy import FaultProxy
from tests.support.target_table import key_schema

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

ReadItems = Callable[[], dict[str, dict[str, Any]]]
MakeIndexed = Callable[..., None]
Insert = Callable[[Iterable[Any]], None]
REASON = "index_key_too_long"
STAMP = "2024-01-05Z"
COMMANDS = ["migrate", "migrate --dry-run", "plan", "validate"]


def command(text: str) -> tuple[int, dict[str, Any]]:
    """Run a command in this process; return its exit code and its JSON."""
    result = CliRunner().invoke(app, [*text.split(), "--json"])
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("asked", COMMANDS)
def test_an_index_key_of_another_type_is_refused_before_the_first_write(
    make_indexed: MakeIndexed, items: ReadItems, asked: str
) -> None:
    """DynamoDB would refuse every item: each command must name index, key, types."""
    make_indexed(
        ("by-time", ["entity_type", "updatedAt"]), entity_type="S", updatedAt="N"
    )
    code, said = command(asked)

    assert code == 2
    error = said["error"]
    assert error["code"] == "TargetError"
    for part in ("by-time", "updatedAt", "RANGE N", "updatedAt as S"):
        assert part in error["message"]
    assert '[{"Delete": {"IndexName": "by-time"}}]' in error["remedy"]
    assert items() == {}


@pytest.mark.parametrize(
    ("keys", "local", "most"),
    [
        (["name"], [], 2_048),
        (["entity_type", "enterprise_name"], [], 1_024),
        ([], ["PK", "name"], 1_024),
    ],
)
def test_a_name_too_long_for_an_index_is_known_before_the_load(  # noqa: PLR0917
    make_indexed: MakeIndexed,
    insert: Insert,
    source: str,
    items: ReadItems,
    proxy: FaultProxy,
    keys: list[str],
    local: list[str],
    most: int,
) -> None:
    """The limit counts bytes and is itself allowed; a longer name must not be sent."""
    types = dict.fromkeys({*keys, *local} - {"PK"}, "S")
    some = [("by-name", keys)] if keys else []
    make_indexed(*some, local=[("of-name", local)] if local else [], **types)
    fits, too_long = "é" * (most // 2), "é" * (most // 2) + "x"
    insert([(100, fits, STAMP, None), (101, too_long, STAMP, None)])
    planned = command("plan")[1]["source"]["quarantined"]
    valid = command("validate")[1]["items"]["by_reason"]
    code, said = command("migrate --allow-quarantined 1")

    assert source
    assert (code, said["ledger"]["quarantined"], planned) == (0, 1, 1)
    assert said["validation"]["items"]["by_reason"] == valid == {REASON: 1}
    (row,) = command("quarantine show")[1]["rows"]
    assert (row["source_id"], row["reasons"]) == ("101", REASON)
    assert fits in {item["name"]["S"] for item in items().values() if "name" in item}
    assert too_long.encode() not in b"".join(call.request.body for call in proxy.calls)
    replayed = command("quarantine replay")[1]
    assert replayed["validation"]["items"]["by_reason"] == {REASON: 1}


@pytest.mark.usefixtures("source")
def test_without_an_index_names_may_be_long(
    make_indexed: MakeIndexed, insert: Insert
) -> None:
    """The limit is that of an index key: without an index it bars no row."""
    make_indexed()
    insert([(100, "x" * 5_000, STAMP, None)])

    assert command("migrate")[0] == 0


@pytest.mark.usefixtures("source")
def test_doctor_names_the_index(make_indexed: MakeIndexed) -> None:
    """The line of the index must fail, since every write would fail."""
    make_indexed(local=[("of-old", ["PK", "createdAt"])], createdAt="B")
    code, said = command("doctor")

    lines = {line["check"]: line for line in said["checks"]}
    assert (code, lines["indexes"]["status"]) == (2, "fail")
    assert "createdAt RANGE B" in lines["indexes"]["found"]
    assert "another table" in lines["indexes"]["remedy"]


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("attribute", "kind"),
    [("owner", "N"), ("expires", "S"), ("declared_at", "N"), ("source_table", "B")],
)
def test_an_index_that_the_runs_own_items_break_is_refused(
    make_indexed: MakeIndexed, items: ReadItems, attribute: str, kind: str
) -> None:
    """Lease, origin and marker are items too, and none may be refused midway."""
    make_indexed(("theirs", [attribute]), **{attribute: kind})
    for asked in ("migrate", "cutover declare --yes"):
        code, said = command(asked)

        assert code == 2
        assert f"{attribute} HASH {kind}" in said["error"]["message"]
    assert items() == {}


@pytest.mark.usefixtures("source")
def test_an_attribute_that_is_not_written_may_have_any_type(
    make_indexed: MakeIndexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index on other attributes accepts or omits our items; provenance counts."""
    make_indexed(
        ("by-price", ["entity_type", "price"]),
        ("by-origin", ["original_pg_id"]),
        entity_type="S",
        price="N",
        original_pg_id="S",
    )
    without = command("migrate")
    monkeypatch.setenv("ITEM_PROVENANCE", "true")
    code, said = command("migrate --dry-run")

    assert without[0] == 0
    assert code == 2
    assert "original_pg_id HASH S" in said["error"]["message"]


@pytest.mark.usefixtures("source")
def test_what_was_written_before_the_index_is_still_compared(
    make_indexed: MakeIndexed, table: EnterpriseTable
) -> None:
    """Comparing writes nothing: only the repair needs a table that accepts items."""
    make_indexed()
    assert command("migrate")[0] == 0
    table.client.update_table(
        TableName=table.name,
        AttributeDefinitions=[{"AttributeName": "updatedAt", "AttributeType": "N"}],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "by-time",
                    "KeySchema": key_schema(["updatedAt"]),
                    "Projection": {"ProjectionType": "ALL"},
                }
            }
        ],
    )
    code, said = command("reconcile")
    refused = command("reconcile --repair --yes")

    assert (code, said["status"]) == (0, "clean")
    assert refused[0] == 2
    assert "by-time" in refused[1]["error"]["message"]


@pytest.mark.usefixtures("source")
def test_the_types_that_are_checked_are_those_that_are_written(
    make_indexed: MakeIndexed, items: ReadItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every attribute of every written item must be known, with its type."""
    make_indexed()
    monkeypatch.setenv("ITEM_PROVENANCE", "true")
    assert command("migrate")[0] == 0
    assert command("cutover declare --yes")[0] == 0
    Lease(open_table(load_settings()), "held", 30).acquire(after_cutover=True)
    found = {
        name: next(iter(value))
        for item in items().values()
        for name, value in item.items()
    }

    types = written_types([ENTERPRISE_TABLE], provenance=True)
    # Only the origin of a mapping file has it.
    assert types.pop("mapping") == "S"
    assert types == found
    assert "owner" in found
