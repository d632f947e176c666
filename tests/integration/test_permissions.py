"""The policies of ``iam-policy``, compared with the requests that commands send."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows import pipeline
from flows.cli.app import app
from flows.models import MigrateOptions
from flows.settings import load_settings
from flows.stores.dynamodb.iam import Purpose, make_policy
from flows.stores.dynamodb.table import EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from tests.support.canary import SECRETS, leaks
from tests.support.fault_proxy import Call, FaultProxy
from tests.support.serving import serving
from tests.support.source_database import SourceDatabase

SourceRow = tuple[int, str | None, str | None, str | None]
ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/T"
STAMP = "2024-01-05 12:34:56.789+00"
# A transaction is authorised by the actions of its parts.
PARTS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
on_dynamodb_local = pytest.mark.parametrize(
    "endpoint", ["dynamodb-local"], indirect=True
)


def policy_of(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["iam-policy", *arguments])


def needs(call: Call) -> Iterator[tuple[str, str | None]]:
    """Yield the permissions that a request needs: actions with their keys."""
    body = call.request.json
    if call.operation in {"DescribeTable", "Scan"}:
        yield call.operation, None
    elif call.operation == "TransactWriteItems":
        for part in body["TransactItems"]:
            for kind, action in part.items():
                yield PARTS[kind], key_of(action)
    elif call.operation.startswith("Batch"):
        for asked in body["RequestItems"].values():
            keys = asked["Keys"] if isinstance(asked, dict) else asked
            for one in keys:
                yield call.operation, key_of(one.get("PutRequest", {"Key": one}))
    else:
        yield call.operation, key_of(body)


def key_of(action: dict[str, Any]) -> str:
    """Return the partition key of an action's item or key."""
    key: str = (action.get("Item") or action["Key"])["PK"]["S"]
    return key


def keys_of(statement: dict[str, Any]) -> Sequence[str] | None:
    """Return the partition keys that a statement covers, None for all requests."""
    condition = statement.get("Condition", {}).get("ForAllValues:StringLike", {})
    keys: Sequence[str] | None = condition.get("dynamodb:LeadingKeys")
    return keys


def allows(statement: dict[str, Any], action: str, key: str | None) -> bool:
    """Return whether a statement allows an action on a key."""
    if f"dynamodb:{action}" not in statement["Action"]:
        return False
    patterns = keys_of(statement)
    if patterns is None or key is None:
        return patterns is None
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def assert_least(policy: dict[str, Any], calls: Sequence[Call]) -> None:
    """Assert that a policy allows all requested actions, and no others."""
    needed = {need for call in calls for need in needs(call)}
    granted = {
        (s["Sid"], action) for s in policy["Statement"] for action in s["Action"]
    }
    used = {
        (statement["Sid"], f"dynamodb:{action}")
        for statement in policy["Statement"]
        for action, key in needed
        if allows(statement, action, key)
    }
    denied = {
        need
        for need in needed
        if not any(allows(s, *need) for s in policy["Statement"])
    }

    assert denied == set()
    assert used == granted


@on_dynamodb_local
def test_migrate_is_allowed_what_it_asks_and_no_more(
    source: str,
    proxy: FaultProxy,
    insert: Callable[[Iterable[SourceRow]], None],
) -> None:
    """A first run, and one that creates, changes and deletes, need the whole policy."""
    first = pipeline.migrate(MigrateOptions())
    without_deletes = len(proxy.calls)
    insert([(1, "new", STAMP, STAMP)])
    SourceDatabase(source).run(
        "UPDATE enterprises SET name = 'changed' WHERE id = 42",
        "DELETE FROM enterprises WHERE id = -7",
    )
    again = pipeline.migrate(MigrateOptions())
    calls = proxy.calls
    deleting = pipeline.migrate(MigrateOptions(propagate_deletes=1))
    insert([(2, "tried", STAMP, STAMP)])
    pipeline.migrate(MigrateOptions(limit=10))
    undone = pipeline.undo_trial()

    assert first.status == deleting.status == "proven"
    assert undone.items.removed == 1
    assert again.asdict()["reconciliation"]["extra"] == 1
    assert 0 < without_deletes < len(calls)
    assert_least(make_policy("migrate", ARN), calls)
    assert_least(make_policy("migrate", ARN, deletes=True), proxy.calls)


@on_dynamodb_local
@pytest.mark.usefixtures("source")
def test_reconcile_is_allowed_what_it_asks_and_no_more(
    table: EnterpriseTable, proxy: FaultProxy
) -> None:
    """Comparing needs no write permission, even if something is missing."""
    pipeline.migrate(MigrateOptions())
    before = len(proxy.calls)
    for page in table.scan():
        for item in page[:1]:
            key = to_wire({"PK": item["PK"], "SK": item["SK"]})
            table.client.delete_item(TableName=table.name, Key=key)
    report = pipeline.reconcile()
    calls = proxy.calls[before:]

    assert report.counts["missing"] == 1
    assert_least(make_policy("reconcile", ARN), calls)


@on_dynamodb_local
def test_serve_is_allowed_what_it_asks_and_no_more(proxy: FaultProxy) -> None:
    """Every route of the service, and its readiness, need the whole policy."""
    settings = load_settings().model_copy(update={"storage_mode": "dynamodb"})
    with serving(settings) as client:
        made = client.post("/api/enterprises", json={"name": "a"}).json()
        path = f"/api/enterprises/{made['id']}"
        answers = [
            client.get("/ready"),
            client.get(path),
            client.put(path, json={"name": "b"}),
            client.get("/api/enterprises"),
            client.get("/api/enterprises?name=b"),
            client.get("/api/enterprises?limit=1"),
            client.get("/api/enterprises/debug/dynamodb"),
            client.delete(path),
        ]

    assert [answer.status_code for answer in answers if answer.is_error] == []
    assert_least(make_policy("serve", ARN), proxy.calls)


@pytest.mark.parametrize("purpose", ["migrate", "reconcile", "serve"])
def test_a_policy_is_of_one_table_and_of_known_actions(purpose: Purpose) -> None:
    """It has no wildcard, and covers the whole table only to describe and scan it."""
    policy = make_policy(purpose, ARN, deletes=purpose == "migrate")
    whole = [s for s in policy["Statement"] if keys_of(s) is None]

    assert {s["Resource"] for s in policy["Statement"]} == {ARN}
    assert [s["Action"] for s in whole] == [["dynamodb:DescribeTable", "dynamodb:Scan"]]
    assert "*" not in json.dumps([s["Action"] for s in policy["Statement"]])


def test_the_account_is_that_of_the_credentials(
    moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If AWS STS answers, the ARN has its account and the partition of the region."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto_endpoint)
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    plain = policy_of("--for", "migrate")
    as_json = policy_of("--for", "migrate", "--json")

    assert plain.exit_code == as_json.exit_code == 0
    assert json.loads(plain.stdout) == json.loads(as_json.stdout)
    assert json.loads(as_json.stdout)["Statement"][0]["Resource"] == (
        "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/EnterpriseConfig"
    )
    assert "AWS STS" in as_json.stderr


def test_an_unknown_account_is_a_star_and_told(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer the policy covers every account, and the cause is reported."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    without = policy_of("--for", "serve", "--json")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    closed = policy_of("--for", "serve", "--json")
    named = policy_of("--for", "serve", "--json", "--account", "210987654321")

    for result, reason in ((without, "no AWS credentials"), (closed, "gave no answer")):
        assert ":eu-west-1:*:table/" in result.stdout
        assert reason in result.stderr
    assert ":eu-west-1:210987654321:table/" in named.stdout
    assert named.stderr == ""


def test_who_asks_sts_says_no_secret(
    closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG botocore logs the session token of a request and the answer of STS."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "botocore")

    result = policy_of("--for", "serve", "--json")

    assert "gave no answer" in result.stderr
    said = [("output", result.output.encode()), ("logs", caplog.text.encode())]
    assert leaks(said) == []


def test_dummy_credentials_are_sent_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a local endpoint AWS STS is not asked: it would refuse dummy credentials."""
    monkeypatch.setenv("DYNAMODB_ENDPOINT", "http://127.0.0.1:8000")
    monkeypatch.setattr("flows.stores.dynamodb.session.who_am_i", pytest.fail)

    result = policy_of("--for", "reconcile", "--json")

    assert result.exit_code == 0
    assert "has no account" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--for", "reconcile", "--with-deletes"),
        ("--for", "migrate", "--account", "12"),
        ("--for", "everything"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    """Wrong arguments must not produce a policy."""
    result = policy_of("--set", "AWS_REGION=eu-west-1", *arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
