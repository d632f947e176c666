"""Whole runs on DynamoDB Local from AWS, behind a proxy that fails in every way.

Whatever fails, in the end each row equals its item exactly, and is counted once.
"""

import itertools
import json
import os
import time
import uuid
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import pandas as pd
import psycopg2
import pytest
from botocore.loaders import create_loader
from click.testing import Result
from typer.testing import CliRunner

from flows import pipeline, prepare
from flows.cli.app import app
from flows.models import Ledger, MigrateOptions
from flows.run.evidence import SPOT_CHECKS
from flows.run.report import MigrationReport
from flows.stores.dynamodb.lease import LEASE
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import OWN_PARTITION, EnterpriseTable
from flows.stores.dynamodb.wire import to_wire
from tests.support.expected_items import (
    Wire,
    all_items,
    enterprises,
    expected_items,
    fill,
)
from tests.support.fault_proxy import Call, Fault, FaultProxy, Request
from tests.support.faults import (
    corrupt,
    delay_after,
    error,
    error_after,
    passing,
    read_part,
    reset_after,
    reset_before,
    truncate,
    write_part,
)
from tests.support.target_table import open_at, sent_keys
from validation.report import ValidationReport

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)

# FAULT_SECONDS=20 is the long version.
FAULT_SECONDS = float(os.environ.get("FAULT_SECONDS", "3"))
# A run stops within five (``tests.benchmarks.stop_seconds``); a busy machine may take
# longer. A run that ignores the signal would never end.
STOP_SECONDS = 30
ALL_WRITTEN = Ledger(read=60, written=60)
HALVES = MigrateOptions(partition_rows=30)
RESUME = MigrateOptions(resume="last")
LOADERS = cache(create_loader)
NEWER = "2031-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Target:
    """A table, the proxy that the program uses, and the expected items."""

    table: EnterpriseTable
    proxy: FaultProxy
    expected: dict[str, Wire]

    def found(self) -> dict[str, Wire]:
        """Return the enterprises in the table, bypassing the proxy."""
        return enterprises(self.table.client, self.table.name)

    def put(self, item: Wire) -> None:
        """Put an item as another program would, bypassing the proxy."""
        self.table.client.put_item(TableName=self.table.name, Item=item)

    def forget_lease(self) -> None:
        """Delete the lease of a run that could not release it, as if it had expired."""
        key = to_wire({"PK": OWN_PARTITION, "SK": LEASE})
        self.table.client.delete_item(TableName=self.table.name, Key=key)


NewTarget = Callable[[], Any]


@pytest.fixture
def rows(database_url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Fill the source with this many rows, and name it in the environment."""
    fill(database_url, 60)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return 60


@pytest.fixture
def few_rows(database_url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Fill the source with few rows: each one causes one conditional write."""
    fill(database_url, 8)
    monkeypatch.setenv("DATABASE_URL", database_url)
    return 8


@pytest.fixture
def new_target(
    endpoint: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> NewTarget:
    """Return a function that creates an empty table behind a proxy, and a new state."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    @contextmanager
    def make() -> Iterator[Target]:
        name = f"Test-{uuid.uuid4().hex}"
        table = open_at(endpoint, name)
        create_table(table)
        with FaultProxy(endpoint) as proxy:
            monkeypatch.setenv("DYNAMODB_ENTERPRISE_TABLE", name)
            monkeypatch.setenv("DYNAMODB_ENDPOINT", proxy.url)
            monkeypatch.setenv("STATE_URL", f"sqlite:///{name}.db")
            yield Target(table, proxy, expected_items(database_url))

    return make


@pytest.fixture
def target(new_target: NewTarget) -> Iterator[Target]:
    """Create one empty table behind a proxy."""
    with new_target() as made:
        yield made


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache the slow parts of a small run that are not under test.

    Each frame is validated once, and botocore reads its service descriptions once.
    """
    monkeypatch.setattr("botocore.session.create_loader", LOADERS)

    def remember(judge: Callable[..., ValidationReport]) -> object:
        verdicts: dict[str, ValidationReport] = {}

        def judged(frame: pd.DataFrame, **more: object) -> ValidationReport:
            text = frame.to_csv()
            if text not in verdicts:
                verdicts[text] = judge(frame, **more)
            return verdicts[text]

        return judged

    for name in ("validate_enterprises", "validate_items"):
        monkeypatch.setattr(prepare, name, remember(getattr(prepare, name)))


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between retries, because many runs fail once each."""
    monkeypatch.setattr(
        "flows.stores.dynamodb.backoff.random.uniform", lambda _, most: most / 50
    )


def command(*arguments: str) -> tuple[Result, dict[str, Any]]:
    """Run the ``migrate`` command in this process; return the result and its JSON."""
    fixed = ["migrate", "--no-prefect", "--json", "--partition-rows", "30"]
    result = CliRunner().invoke(app, [*fixed, *arguments])
    return result, json.loads(result.stdout)


def outcome(target: Target, report: MigrationReport) -> dict[str, Any]:
    """Return all values that must be right in the end."""
    return {
        "status": report.status,
        "ledger": report.ledger,
        "findings": report.findings,
        "found": target.found(),
    }


def proven(target: Target, ledger: Ledger = ALL_WRITTEN) -> dict[str, Any]:
    """Return how a proven run ends."""
    found = target.expected
    return {"status": "proven", "ledger": ledger, "findings": [], "found": found}


def is_enterprise(request: Request) -> bool:
    """Return whether a request concerns enterprises, not the internal items."""
    return b"ENT#" in request.body


def is_item_write(request: Request) -> bool:
    """Return whether a request writes enterprises."""
    writes = {"BatchWriteItem", "PutItem", "UpdateItem"}
    return request.operation in writes and is_enterprise(request)


def from_then_on(begins: Callable[[Request], bool]) -> Callable[[Request], bool]:
    """Return a condition that holds from the first request for which *begins* holds."""
    begun = False

    def fits(request: Request) -> bool:
        nonlocal begun
        begun = begun or begins(request)
        return begun

    return fits


def busiest_second(calls: Sequence[Call]) -> int:
    """Return the greatest number of calls within one second."""
    times = sorted(call.time for call in calls)
    return max(bisect(times, begun + 1) - i for i, begun in enumerate(times))


LOST = {
    "before": reset_before(),
    "after": reset_after(),
    "unclear": error_after("InternalServerError"),
}


@pytest.mark.usefixtures("rows", "_quick", "_impatient")
@pytest.mark.parametrize("lost", ["before", "after"])
def test_any_one_request_may_be_lost(new_target: NewTarget, lost: str) -> None:
    """A reset of any one request, before or after it is applied, loses nothing."""
    faulty: set[str] = set()
    for number in itertools.count(1):
        with new_target() as target:
            rule = target.proxy.add(LOST[lost], first=number, times=1)
            report = pipeline.migrate(HALVES)
            assert (number, outcome(target, report)) == (number, proven(target))
        if not rule.played:
            break
        faulty |= {call.operation for call in target.proxy.calls if call.faulty}

    assert number > 15
    assert faulty == {
        "BatchGetItem",
        "DescribeTable",
        "GetItem",
        "TransactWriteItems",
        "Scan",
        "PutItem",
        "UpdateItem",
        "BatchWriteItem",
        "DeleteItem",
    }


@pytest.mark.usefixtures("rows", "_quick", "_impatient")
def test_any_two_requests_may_be_lost_one_after_the_other(
    new_target: NewTarget,
) -> None:
    """The request that checks the outcome of a lost one may be lost too."""
    for number in itertools.count(1):
        with new_target() as target:
            rule = target.proxy.add(LOST["after"], first=number, times=2)
            report = pipeline.migrate(HALVES)
            assert (number, outcome(target, report)) == (number, proven(target))
        if not rule.played:
            break

    assert number > 15


def edit_as(name: str) -> Wire:
    """Return what a later edit of the application changes."""
    text, time = {"S": name}, {"S": NEWER}
    names = {"enterprise_name": text, "name": text}
    return names | {"updated_date": time, "updatedAt": time}


def meet(target: Target) -> dict[str, Wire]:
    """Put two equal items, two old ones with an extra attribute, and a newer one.

    Return the items that the table must hold after a run.
    """
    equal, _, old, other, newer, *_ = target.expected.values()
    stale = {"name": {"S": "old"}, "updatedAt": {"S": "2019-01-01T00:00:00.000Z"}}
    kept = newer | edit_as("edited")
    tier = {"tier": {"S": "gold"}}
    for item in (equal, kept, old | stale | tier, other | stale | tier):
        target.put(item)
    changed = (kept, old | tier, other | tier)
    return target.expected | {item["PK"]["S"]: item for item in changed}


@pytest.mark.usefixtures("few_rows", "_quick", "_impatient")
@pytest.mark.parametrize("lost", ["before", "after"])
def test_any_one_conditional_request_may_be_lost(
    new_target: NewTarget, lost: str
) -> None:
    """If items already exist, a lost answer changes neither items nor counts."""
    ledger = Ledger(read=8, written=6, unchanged=1, kept_newer=1)
    faulty: set[str] = set()
    for number in itertools.count(1):
        with new_target() as target:
            expected = proven(target, ledger) | {"found": meet(target)}
            rule = target.proxy.add(LOST[lost], first=number, times=1)
            report = pipeline.migrate(MigrateOptions(partition_rows=4))
            assert (number, outcome(target, report)) == (number, expected)
        if not rule.played:
            break
        faulty |= {c.operation for c in target.proxy.calls if c.faulty}

    assert number > 20
    assert {"BatchGetItem", "PutItem", "UpdateItem"} < faulty


@pytest.mark.usefixtures("rows", "_quick")
# Not fewer: each loop of two or three requests would lose the same one forever.
@pytest.mark.parametrize("every", [4, 5])
@pytest.mark.parametrize("lost", ["before", "after", "unclear"])
def test_requests_may_be_lost_without_end(
    target: Target, lost: str, every: int
) -> None:
    """Losing every fourth or fifth request makes a run slower, but not wrong."""
    rule = target.proxy.add(LOST[lost], every=every)

    report = pipeline.migrate(HALVES)

    assert outcome(target, report) == proven(target)
    assert rule.played > 3


@pytest.mark.usefixtures("rows", "_quick")
def test_what_comes_back_unprocessed_is_sent_again(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If ten of 25 puts come back repeatedly, none is lost and none is doubled."""
    # Send sequentially, so that the faults occur in the order of the script.
    monkeypatch.setenv("SENDERS", "1")
    several = target.proxy.add(write_part(3), operation="BatchWriteItem", times=5)
    target.proxy.add(write_part(0), operation="BatchWriteItem", times=2)
    target.proxy.add(write_part(15), operation="BatchWriteItem")

    report = pipeline.migrate()

    assert outcome(target, report) == proven(target)
    assert several.played == 5
    # Five partial and two empty answers, then ten of the second 25.
    assert report.capacity["throttles"] == 8


@pytest.mark.usefixtures("few_rows", "_quick")
def test_keys_that_come_back_unprocessed_are_read_again(target: Target) -> None:
    """A key that was not read must not count as a key without an item."""
    found = meet(target)
    reads = target.proxy.add(read_part(1), operation="BatchGetItem", times=2)

    report = pipeline.migrate()

    ledger = Ledger(read=8, written=6, unchanged=1, kept_newer=1)
    assert outcome(target, report) == proven(target, ledger) | {"found": found}
    assert reads.played == 2


@pytest.mark.usefixtures("rows", "_quick")
@pytest.mark.parametrize("since", ["the start", "the first batch"])
def test_a_throttle_is_waited_for(
    target: Target, since: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While everything is throttled, including heartbeats, few requests are sent.

    The lease is the shortest allowed: waiting must not lose it.
    """
    monkeypatch.setenv("LEASE_SECONDS", "15")
    throttled = error("ProvisionedThroughputExceededException")
    begins = {"the start": lambda _: True, "the first batch": is_item_write}[since]
    when = from_then_on(begins)
    target.proxy.add(throttled, when=when, seconds=FAULT_SECONDS)

    report = pipeline.migrate(HALVES)

    calls = [call for call in target.proxy.calls if call.faulty]
    served = [call for call in target.proxy.calls if call.time > calls[-1].time]
    assert outcome(target, report) == proven(target)
    assert len(calls) > 3
    # Full jitter guarantees no pause: assert only that the run outlasts the throttle.
    assert served[0].time - calls[0].time > FAULT_SECONDS
    assert busiest_second(calls) < 20


@pytest.mark.usefixtures("rows", "_quick")
def test_a_server_that_fails_for_a_while_is_waited_for(target: Target) -> None:
    """A run must outlast it, and send no put again that may have been applied."""
    failing = error("InternalServerError", 500)
    begins = from_then_on(is_item_write)
    rule = target.proxy.add(failing, when=begins, seconds=FAULT_SECONDS)

    report = pipeline.migrate(HALVES)

    batches = target.proxy.calls_of("BatchWriteItem")
    puts = Counter(key for call in batches for key in sent_keys(call))
    assert outcome(target, report) == proven(target)
    assert set(puts.values()) == {1}
    # More attempts than a client makes by itself.
    assert rule.played > 8


@pytest.mark.usefixtures("rows", "_quick")
@pytest.mark.parametrize("since", ["the lease", "the first batch"])
def test_a_throttle_without_end_stops_at_the_deadline(
    target: Target, since: str
) -> None:
    """The run is incomplete at its deadline, and a resumed run is proven."""
    begins: dict[str, Callable[[Request], bool]] = {
        "the lease": lambda request: request.operation == "TransactWriteItems",
        "the first batch": is_item_write,
    }
    throttled = error("ThrottlingException")
    target.proxy.add(throttled, when=from_then_on(begins[since]))
    begun = time.monotonic()
    stopped, said = command("--deadline", "2")
    seconds = time.monotonic() - begun
    throttles = busiest_second([call for call in target.proxy.calls if call.faulty])
    target.proxy.clear()
    target.forget_lease()

    resumed, report = command("--resume", "last")

    assert (stopped.exit_code, said["status"]) == (4, "incomplete"), stopped.output
    assert "deadline" in json.dumps(said)
    assert seconds < 2 + STOP_SECONDS
    assert throttles < 20
    assert (resumed.exit_code, report["status"]) == (0, "proven"), resumed.output
    assert report["ledger"] == asdict(ALL_WRITTEN)
    assert target.found() == target.expected


@pytest.mark.usefixtures("rows", "_quick")
@pytest.mark.parametrize("every", [4, 5])
@pytest.mark.parametrize(
    "fault",
    [truncate(), truncate(0.0), corrupt(b'"'), corrupt(0)],
    ids=["cut", "empty", "changed", "changed-first"],
)
def test_answers_may_be_damaged(target: Target, fault: Fault, every: int) -> None:
    """An answer that is truncated or corrupted in transit is never accepted."""
    parts = truncate(of=write_part(15))
    target.proxy.add(parts, operation="BatchWriteItem", times=1)
    rule = target.proxy.add(fault, every=every)

    report = pipeline.migrate(HALVES)

    assert outcome(target, report) == proven(target)
    assert rule.played > 3


@pytest.mark.usefixtures("rows", "_quick")
def test_answers_may_be_late(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer within the time limit is accepted; a later one counts as lost."""
    monkeypatch.setattr("flows.stores.dynamodb.client.READ_SECONDS", 0.5)
    target.proxy.add(delay_after(0.1), every=2)
    late = target.proxy.add(delay_after(1.0), every=4)

    report = pipeline.migrate(HALVES)

    assert outcome(target, report) == proven(target)
    assert late.played > 1


def late_error(then: Callable[[], object]) -> Fault:
    """Forward the request, call *then*, and answer with a server error."""
    applied, failed = reset_after(then), error("InternalServerError", 500)
    return lambda exchange: applied(exchange) or failed(exchange)


@pytest.mark.usefixtures("few_rows", "_quick")
@pytest.mark.parametrize("operation", ["BatchWriteItem", "PutItem", "UpdateItem"])
@pytest.mark.parametrize("lost", [reset_after, late_error])
def test_an_edit_between_a_lost_answer_and_the_retry_survives(
    target: Target, operation: str, lost: Callable[..., Fault]
) -> None:
    """A write of the application in between is newer, and stays unchanged."""
    # If items already exist, no batch is used.
    batches = operation == "BatchWriteItem"
    found = target.expected if batches else meet(target)
    edited: dict[str, Wire] = {}

    def edit() -> None:
        body = sent[0].body.decode()
        key = next(key for key in target.expected if key in body)
        mine = edit_as("mine") | {"by": {"S": "app"}}
        edited[key] = target.expected[key] | mine
        target.put(edited[key])

    def is_meant(request: Request) -> bool:
        meant = request.operation == operation and is_item_write(request)
        return meant and not sent.append(request)

    sent: list[Request] = []
    target.proxy.add(lost(edit), when=is_meant, times=1)
    report = pipeline.migrate()

    kept = len(edited) + (not batches)
    assert len(edited) == 1
    assert report.status == "proven", report.findings
    assert report.ledger.read == 8
    assert report.ledger.kept_newer == kept
    assert report.reconciliation is not None
    assert report.reconciliation.counts["newer_in_target"] == kept
    assert target.found() == found | edited


def change_source(url: str, statement: str) -> None:
    """Change rows of the source."""
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute(statement)


@pytest.mark.usefixtures("few_rows", "_quick")
@pytest.mark.parametrize("lost", [*LOST, "throttled"])
def test_a_deletion_may_be_lost(target: Target, database_url: str, lost: str) -> None:
    """An item without a row is deleted once, whatever happens to the answer."""
    pipeline.migrate()
    change_source(database_url, "DELETE FROM enterprises WHERE id = -93")
    fault = LOST.get(lost, error("ThrottlingException"))
    target.proxy.add(fault, operation="DeleteItem", when=is_enterprise, times=1)

    report = pipeline.migrate(MigrateOptions(propagate_deletes=1))

    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=7, unchanged=7)
    assert len(target.expected) == 8
    assert target.found() == expected_items(database_url)


class Killed(BaseException):
    """Simulates the death of the process."""


@pytest.mark.usefixtures("few_rows", "_quick")
@pytest.mark.parametrize("applied", [False, True])
def test_a_run_that_died_while_it_deleted_is_made_up_for(
    target: Target, database_url: str, monkeypatch: pytest.MonkeyPatch, *, applied: bool
) -> None:
    """The next run must delete the items that the dead run did not delete."""
    pipeline.migrate()
    two = "SELECT id FROM enterprises ORDER BY id LIMIT 2"
    change_source(database_url, f"DELETE FROM enterprises WHERE id IN ({two})")  # noqa: S608
    delete = EnterpriseTable.delete

    def die(table: EnterpriseTable, *arguments: Any) -> None:
        if applied:
            delete(table, *arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(EnterpriseTable, "delete", die)
        with pytest.raises(Killed):
            pipeline.migrate(MigrateOptions(propagate_deletes=2))
    left = target.found()

    report = pipeline.migrate(MigrateOptions(propagate_deletes=2))

    assert len(left) == 8 - applied
    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=6, unchanged=6)
    assert target.found() == expected_items(database_url)


@pytest.mark.usefixtures("few_rows", "_quick")
def test_an_edit_between_our_read_and_our_deletion_survives(
    target: Target, database_url: str
) -> None:
    """An item that the application has just changed stays, even without its row."""
    pipeline.migrate()
    change_source(database_url, "DELETE FROM enterprises WHERE id = -93")
    (gone,) = target.expected.keys() - expected_items(database_url).keys()
    edited = target.expected[gone] | {"name": {"S": "edited, and not stamped"}}
    edit = passing(lambda: target.put(edited))
    target.proxy.add(edit, operation="DeleteItem", when=is_enterprise, times=1)

    report = pipeline.migrate(MigrateOptions(propagate_deletes=1))

    deletions = [c for c in target.proxy.calls_of("DeleteItem") if c.faulty]
    assert [call.status for call in deletions] == [400]
    assert target.found() == expected_items(database_url) | {gone: edited}
    assert report.status == "unproven"
    assert report.reconciliation is not None
    assert report.reconciliation.counts["extra"] == 1


@pytest.mark.usefixtures("few_rows", "_quick")
def test_what_a_resume_could_not_move_is_moved_by_the_next(
    target: Target, database_url: str
) -> None:
    """Only the row that changed since the run began is moved; it is counted once."""
    denied = error("AccessDeniedException")
    target.proxy.add(denied, operation="Scan", first=2, times=1)
    target.proxy.add(denied, operation="UpdateItem", when=is_enterprise, times=1)
    stops = [pipeline.migrate().status]
    change_source(
        database_url,
        "UPDATE enterprises SET updated_date = '2031-01-01Z' WHERE id = -93",
    )
    stops.append(pipeline.migrate(RESUME).status)
    begun = len(target.proxy.calls)

    report = pipeline.migrate(RESUME)

    asked = [c for c in target.proxy.calls[begun:] if c.operation == "BatchGetItem"]
    keys = [call.request.json["RequestItems"][target.table.name] for call in asked]
    assert stops == ["incomplete"] * 2
    assert report.status == "proven", report.findings
    assert report.ledger == Ledger(read=8, written=8)
    # The last one reads the items to check by hand.
    assert [len(each["Keys"]) for each in keys[:-1]] == [1] * (len(keys) - 1)
    assert len(keys[-1]["Keys"]) == SPOT_CHECKS
    assert target.found() == expected_items(database_url)


PERMANENT = [
    "AccessDeniedException",
    "ExpiredTokenException",
    "ResourceNotFoundException",
]


@pytest.mark.usefixtures("rows", "_quick")
@pytest.mark.parametrize("code", PERMANENT)
def test_what_no_retry_can_help_stops_a_run_under_way(
    target: Target, code: str
) -> None:
    """The run stops within seconds, names the code, and resumes after the repair.

    No further request is allowed, not even the release of the lease.
    """
    batches = iter(range(100))
    third = from_then_on(
        lambda r: r.operation == "BatchWriteItem" and next(batches) == 2
    )
    target.proxy.add(error(code), when=third)
    stopped, said = command()
    ended = time.monotonic()
    faulty = [call.time for call in target.proxy.calls if call.faulty]
    target.proxy.clear()
    target.forget_lease()

    resumed, report = command("--resume", "last")

    assert (stopped.exit_code, said["status"]) == (4, "incomplete"), stopped.output
    assert said["ledger"] == asdict(Ledger(read=30, written=30))
    assert code in json.dumps(said["findings"])
    assert ended - faulty[0] < STOP_SECONDS
    assert (resumed.exit_code, report["status"]) == (0, "proven"), resumed.output
    assert report["ledger"] == asdict(ALL_WRITTEN)
    assert target.found() == target.expected


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    "operation", ["DescribeTable", "GetItem", "TransactWriteItems"]
)
@pytest.mark.parametrize("code", PERMANENT)
def test_what_no_retry_can_help_is_refused_before_the_first_write(
    target: Target, code: str, operation: str
) -> None:
    """Nothing was written, so the run is refused and leaves nothing to resume."""
    target.proxy.add(error(code), operation=operation)
    begun = time.monotonic()
    refused, said = command()
    seconds = time.monotonic() - begun

    assert (refused.exit_code, said["status"]) == (2, "refused"), refused.output
    assert code in said["error"]["message"]
    assert seconds < STOP_SECONDS
    assert all_items(target.table.client, target.table.name) == {}


@pytest.mark.usefixtures("rows", "_quick")
def test_what_fails_after_the_lease_is_taken_is_incomplete(target: Target) -> None:
    """After any write, even of the lease, a run is not refused but resumable."""
    target.proxy.add(error("AccessDeniedException"), operation="PutItem")
    stopped, said = command()
    target.proxy.clear()

    resumed, report = command("--resume", "last")

    assert (stopped.exit_code, said["status"]) == (4, "incomplete"), stopped.output
    assert "AccessDeniedException" in json.dumps(said)
    assert (resumed.exit_code, report["status"]) == (0, "proven"), resumed.output
    assert target.found() == target.expected


@pytest.mark.usefixtures("rows", "_quick")
def test_a_refused_run_leaves_nothing_to_resume(target: Target) -> None:
    """Resuming the last run skips the refused run and resumes the one before it."""
    target.proxy.add(error("ExpiredTokenException"), operation="BatchWriteItem")
    stopped, _ = command("--run-id", "first")
    held = {"owner": "other@host:1", "expires": int(time.time()) + 60}
    lease = {"PK": OWN_PARTITION, "SK": LEASE, **held}
    target.put(to_wire(lease))
    refused, _ = command("--run-id", "second")
    target.forget_lease()
    target.proxy.clear()

    resumed, report = command("--resume", "last")

    assert (stopped.exit_code, refused.exit_code) == (4, 5)
    assert (resumed.exit_code, report["run_id"]) == (0, "first"), resumed.output


@pytest.mark.usefixtures("rows", "_quick")
def test_a_run_that_died_before_it_began_is_begun_by_its_resume(
    target: Target,
) -> None:
    """A schedule that always resumes the last run must be able to start that way."""
    resumed, report = command("--resume", "last")
    again, said = command("--resume", "last")

    assert (resumed.exit_code, report["resumed"]) == (0, False), resumed.output
    assert report["ledger"] == asdict(ALL_WRITTEN)
    assert target.found() == target.expected
    assert (again.exit_code, said["status"]) == (2, "refused")
    assert "is proven: there is nothing to resume" in said["error"]["message"]
