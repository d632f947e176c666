"""The doctor, with each part broken in turn: its line has the fault and a remedy."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from flows import pipeline
from flows.cli.app import app
from flows.doctor import runs, source
from flows.doctor.checks import checks_for, examine
from flows.doctor.diagnosis import Diagnosis, Finding
from flows.models import MigrateOptions
from flows.run.context import RunContext
from flows.run.start import open_run
from flows.settings import load_settings
from flows.state.runs import State
from flows.stores.dynamodb.lease import LEASE, Lease
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.fault_proxy import Answer, Exchange, Fault, FaultProxy, Request
from tests.support.faults import black_hole, change, error
from tests.support.source_database import SourceDatabase, new_role
from tests.support.target_table import put

CANARY = "c4nary-pässword"
STS_REFUSAL = (
    b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
    b"<Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>no</Message>"
    b"</Error></ErrorResponse>"
)
ACTIONS = {
    "BatchGetItem": "BatchGetItem",
    "ConditionCheckItem": "TransactWriteItems",
    "DeleteItem": "DeleteItem",
    "GetItem": "GetItem",
    "PutItem": "PutItem",
    "Scan": "Scan",
    "UpdateItem": "UpdateItem",
}

pytestmark = pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)


@pytest.fixture
def proxy(
    source: str,  # noqa: ARG001 - must exist
    proxy: FaultProxy,
) -> FaultProxy:
    """Place a proxy before the table; everything else is in order."""
    return proxy


def line(diagnosis: Diagnosis, check: str) -> Finding:
    """Return the line of a check."""
    (found,) = (one for one in diagnosis.findings if one.check == check)
    return found


def troubles(diagnosis: Diagnosis, *statuses: str) -> list[str]:
    """Return the checks that ended with one of the statuses."""
    return [one.check for one in diagnosis.findings if one.status in statuses]


def assert_only(diagnosis: Diagnosis, check: str, found: str, remedy: str) -> None:
    """Assert that only this check failed, with the finding and the remedy."""
    (failed,) = (one for one in diagnosis.findings if one.status == "fail")

    assert failed.check == check
    assert found in failed.found
    assert remedy in failed.remedy
    assert diagnosis.status == "unfit"


def run(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_all_is_well_and_nothing_is_changed(
    proxy: FaultProxy, items: Callable[[], dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    """On a sound system the lines are in order, and no item or file is created."""
    plain, result = run(), run("--json")
    values = json.loads(result.stdout)

    assert (plain.exit_code, result.exit_code) == (0, 0), plain.output
    assert values["status"] == "fit"
    assert [one["check"] for one in values["checks"]] == [
        "settings",
        "PostgreSQL",
        "table and columns",
        "row-level security",
        "locks",
        "clock",
        "credentials",
        "region",
        "endpoint",
        "DynamoDB table",
        "indexes",
        "point-in-time recovery",
        "throughput",
        "permission BatchGetItem",
        "permission BatchWriteItem",
        "permission ConditionCheckItem",
        "permission DeleteItem",
        "permission DescribeTable",
        "permission GetItem",
        "permission PutItem",
        "permission Scan",
        "permission UpdateItem",
        "lease",
        "runs",
        "Prefect",
        "disk",
    ]
    not_ok = {c["check"]: c["status"] for c in values["checks"] if c["status"] != "ok"}
    assert not_ok.pop("clock", "skipped") == "skipped"
    assert not_ok == {
        "point-in-time recovery": "skipped",
        "permission BatchWriteItem": "skipped",
        "Prefect": "skipped",
    }
    assert set(values["checks"][0]) == {"check", "status", "found", "remedy"}
    assert "ok       settings" in plain.stdout
    assert items() == {}
    assert list(tmp_path.iterdir()) == []
    assert len(proxy.calls_of("PutItem")) == 4


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize("purpose", ["reconcile", "serve"])
def test_other_commands_need_less(
    purpose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only permissions that a command uses are checked: comparing writes nothing."""
    monkeypatch.setenv("STORAGE_MODE", "dynamodb")
    result = run("--json", "--for", purpose)
    checks = [one["check"] for one in json.loads(result.stdout)["checks"]]

    assert result.exit_code == 0
    assert ("permission PutItem" in checks) is (purpose == "serve")
    assert ("lease" in checks) is (purpose == "reconcile")


def test_a_service_needs_one_store(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the served store is checked: the other one may be in any state."""
    from_postgres = examine("serve")
    asked = len(proxy.calls)
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("STORAGE_MODE", "dynamodb")
    from_dynamodb = examine("serve")

    assert asked == 0
    assert from_postgres.status == from_dynamodb.status == "fit"
    assert line(from_postgres, "PostgreSQL").status == "ok"
    assert line(from_postgres, "region").found == "not checked: see settings"
    assert line(from_dynamodb, "PostgreSQL").found == "not checked: see settings"
    assert line(from_dynamodb, "permission PutItem").status == "ok"


@pytest.mark.usefixtures("proxy")
def test_a_wrong_setting_leaves_nothing_to_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the settings cannot be read, every other line is skipped for that reason."""
    monkeypatch.setenv("STORAGE_MODE", "dynamo")

    diagnosis = examine()
    others = [one for one in diagnosis.findings if one.check != "settings"]

    assert_only(diagnosis, "settings", "STORAGE_MODE is not valid", "Set STORAGE_MODE")
    assert {one.status for one in others} == {"skipped"}
    assert others[0].found == "not checked: see settings"


@pytest.mark.usefixtures("proxy")
def test_a_missing_source_hides_nothing_of_the_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without DATABASE_URL the AWS lines are unchanged, and the exit code is 2."""
    monkeypatch.delenv("DATABASE_URL")

    diagnosis = examine()

    assert_only(diagnosis, "settings", "DATABASE_URL is not set", "postgresql://")
    assert line(diagnosis, "PostgreSQL").status == "skipped"
    assert line(diagnosis, "permission UpdateItem").status == "ok"
    assert run().exit_code == 2


@pytest.mark.usefixtures("proxy")
def test_a_server_that_is_down(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names host and port but no password; dependent checks are skipped."""
    url = f"postgresql://ana:{CANARY}@127.0.0.1:{closed_port}/shop"
    monkeypatch.setenv("DATABASE_URL", url)

    diagnosis = examine()

    assert_only(
        diagnosis, "PostgreSQL", f"127.0.0.1:{closed_port}", "host and the port"
    )
    assert line(diagnosis, "row-level security").found.endswith("see table and columns")
    assert CANARY not in str(diagnosis)


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize(
    ("statement", "found", "remedy"),
    [
        (
            "ALTER TABLE enterprises RENAME TO firms",
            "is not in this database",
            "SOURCE_TABLE",
        ),
        ("ALTER TABLE enterprises DROP COLUMN name", "no column", "SOURCE_NAME_COLUMN"),
        (
            "ALTER TABLE enterprises DROP CONSTRAINT enterprises_pkey",
            "unique",
            "PRIMARY KEY",
        ),
        (
            "ALTER TABLE enterprises ALTER created_date TYPE timestamp",
            "time zone",
            "SOURCE_TIMEZONE",
        ),
    ],
)
def test_a_table_that_cannot_be_moved(
    source: str, statement: str, found: str, remedy: str
) -> None:
    """The table's line shows each fault of the source that migrate would refuse."""
    SourceDatabase(source).run(statement)

    assert_only(examine(), "table and columns", found, remedy)


@pytest.mark.usefixtures("proxy")
def test_hidden_rows(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row-level security has a separate line; the columns are still found."""
    database = SourceDatabase(source)
    with new_role(database) as role:
        database.run(
            "ALTER TABLE enterprises ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY visible ON enterprises USING (id > 0)",
            f"GRANT SELECT ON enterprises TO {role}",
        )
        monkeypatch.setenv("DATABASE_URL", database.as_user(role).url)
        diagnosis = examine()

    assert_only(diagnosis, "row-level security", "hides rows", "BYPASSRLS")
    assert line(diagnosis, "table and columns").status == "ok"


@pytest.mark.usefixtures("proxy")
def test_a_lock_that_is_held(source: str) -> None:
    """A session that blocks reading of the table is named, with the way to end it."""
    with closing(psycopg2.connect(source)) as other:
        other.cursor().execute("LOCK TABLE enterprises")
        diagnosis = examine()
        pid = other.info.backend_pid

    assert_only(diagnosis, "locks", f"session {pid}", f"pg_terminate_backend({pid})")
    assert line(diagnosis, "table and columns").status == "ok"


def greeting(seconds: float) -> Fault:
    """Answer with a clock that is *seconds* behind this machine's."""
    then = format_datetime(datetime.now(UTC) - timedelta(seconds=seconds), usegmt=True)
    return lambda _: Answer(200, (("date", then),), b"healthy")


def is_greeting(request: Request) -> bool:
    """Return whether a request is a greeting and not an operation."""
    return request.method == "GET"


@pytest.mark.parametrize(
    ("seconds", "status"), [(0, "ok"), (60, "warn"), (-60, "warn"), (900, "fail")]
)
def test_a_clock_that_is_off(proxy: FaultProxy, seconds: float, status: str) -> None:
    """AWS refuses signatures that are five minutes off; leases need equal clocks."""
    proxy.add(greeting(seconds), when=is_greeting)

    diagnosis = examine()
    found = line(diagnosis, "clock")

    assert found.status == status
    assert ("clock" in found.remedy) is (status != "ok")
    assert (diagnosis.status == "unfit") is (status == "fail")
    assert line(diagnosis, "DynamoDB table").status == "ok"


@pytest.fixture
def as_aws(
    proxy: FaultProxy, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """Direct boto3 to the stores as AWS endpoints, by variables; yield STS's proxy."""
    monkeypatch.delenv("DYNAMODB_ENDPOINT")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", proxy.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    with FaultProxy(moto_endpoint) as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        yield sts


@pytest.mark.usefixtures("as_aws")
def test_the_caller_is_told() -> None:
    """With AWS endpoints the line names the account of the credentials."""
    diagnosis = examine()

    assert troubles(diagnosis, "fail") == []
    assert "account 123456789012" in line(diagnosis, "credentials").found


def test_credentials_that_are_refused(
    as_aws: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused, partial and missing ones fail their line; a silent STS is a warning."""
    as_aws.add(
        lambda _: Answer(403, (("content-type", "text/xml"),), STS_REFUSAL), times=1
    )
    refused = examine()
    as_aws.add(lambda _: None)
    silent = examine()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    half = examine()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    missing = line(examine(), "credentials")

    assert_only(refused, "credentials", "InvalidClientTokenId", "AWS_ACCESS_KEY_ID")
    assert line(silent, "credentials").status == "warn"
    assert troubles(silent, "fail") == []
    assert_only(half, "credentials", "Only one of AWS_ACCESS_KEY_ID", "Set both")
    assert line(half, "region").found == "not checked: see credentials"
    assert (missing.status, missing.found) == ("fail", "There are no AWS credentials.")
    assert CANARY not in f"{refused}{silent}{half}"


@pytest.mark.usefixtures("as_aws")
def test_a_missing_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region AWS cannot be queried, and the region's line reports it."""
    monkeypatch.delenv("AWS_REGION")

    diagnosis = examine()

    assert_only(diagnosis, "region", "AWS_REGION is not set", "AWS_REGION=eu-west-1")
    assert line(diagnosis, "DynamoDB table").found == "not checked: see region"
    assert line(diagnosis, "PostgreSQL").status == "ok"


@pytest.mark.usefixtures("proxy")
def test_an_endpoint_that_is_wrong(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed port and clear text off loopback both fail the endpoint's line."""
    monkeypatch.setenv("DYNAMODB_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    closed = examine()
    monkeypatch.setenv("DYNAMODB_ENDPOINT", "http://10.0.0.1:8000")
    clear = examine()

    assert_only(closed, "endpoint", str(closed_port), "DYNAMODB_ENDPOINT")
    assert line(closed, "clock").found == "no answer came: see endpoint"
    assert line(closed, "lease").found == "not checked: see DynamoDB table"
    assert_only(clear, "endpoint", "in clear", "https://")


def test_a_table_that_is_missing_or_keyed_otherwise(
    proxy: FaultProxy, table: EnterpriseTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong name, wrong keys and a table being deleted have different remedies."""
    with monkeypatch.context() as patch:
        patch.setenv("DYNAMODB_ENTERPRISE_TABLE", f"{table.name}-not")
        missing = examine()
    proxy.add(
        described({"TableStatus": "DELETING"}), operation="DescribeTable", times=1
    )
    going = examine()
    keys = [{"AttributeName": "id", "KeyType": "HASH"}]
    types = [{"AttributeName": "id", "AttributeType": "S"}]
    proxy.clear()
    wrong = described({"KeySchema": keys, "AttributeDefinitions": types})
    proxy.add(wrong, operation="DescribeTable")
    other = examine()

    assert_only(missing, "DynamoDB table", "ResourceNotFound", "create-table")
    assert_only(going, "DynamoDB table", "DELETING", "ACTIVE")
    assert_only(other, "DynamoDB table", "The keys are id HASH S", "create-table")


def described(more: dict[str, Any]) -> Fault:
    """Change the description of the table."""
    return change(lambda answer: {"Table": answer["Table"] | more})


def backups(status: str) -> Fault:
    """Answer whether point-in-time recovery is on."""
    finding = {"PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": status}}
    answer = {
        "ContinuousBackupsDescription": {"ContinuousBackupsStatus": "ENABLED"} | finding
    }

    def play(_: Exchange) -> Answer:
        return Answer(200, (), b"").with_json(answer)

    return play


@pytest.mark.parametrize(
    ("fault", "status", "found"),
    [
        (backups("ENABLED"), "ok", "on"),
        (backups("DISABLED"), "warn", "off"),
        (error("AccessDeniedException"), "skipped", "is not permitted"),
        (error("UnknownOperationException"), "skipped", "does not support it"),
    ],
)
def test_backups(proxy: FaultProxy, fault: Fault, status: str, found: str) -> None:
    """A table that cannot be restored is a warning, with the command to enable it."""
    proxy.add(fault, operation="DescribeContinuousBackups")

    diagnosis = examine()
    finding = line(diagnosis, "point-in-time recovery")

    assert (finding.status, diagnosis.status) == (status, "fit")
    assert found in finding.found
    assert ("update-continuous-backups" in finding.remedy) is (status == "warn")


def test_few_write_units_are_warned_of(proxy: FaultProxy) -> None:
    """A provisioned table with little capacity is a warning, not a failure."""
    few = {
        "BillingModeSummary": {"BillingMode": "PROVISIONED"},
        "ProvisionedThroughput": {"WriteCapacityUnits": 5, "ReadCapacityUnits": 7},
    }
    proxy.add(described(few), operation="DescribeTable")

    finding = line(examine(), "throughput")

    assert finding.status == "warn"
    assert "provisioned: 5 writes and 7 reads per second" in finding.found
    assert "enterprises plan" in finding.remedy


def test_each_permission_that_is_missing(proxy: FaultProxy) -> None:
    """Each denied action fails only its line, which names the policy to attach."""
    for action, operation in ACTIONS.items():
        proxy.clear()
        # Spare the later requests of the lease.
        proxy.add(error("AccessDeniedException"), operation=operation, times=1)

        diagnosis = examine()

        name = f"permission {action}"
        assert_only(
            diagnosis, name, f"dynamodb:{action} is not", "iam-policy --for migrate"
        )


def test_describing_that_is_denied(proxy: FaultProxy) -> None:
    """Without DescribeTable the table's line fails, and the rest is skipped."""
    proxy.add(error("AccessDeniedException"), operation="DescribeTable")

    diagnosis = examine()

    assert_only(diagnosis, "DynamoDB table", "AccessDenied", "Grant the action")
    assert line(diagnosis, "permission Scan").status == "skipped"


def test_a_throttle_is_no_denial(proxy: FaultProxy) -> None:
    """If the store is busy, the line reports it and nothing fails."""
    proxy.add(error("ThrottlingException"), operation="UpdateItem")

    diagnosis = examine()

    assert troubles(diagnosis, "warn") == ["permission UpdateItem"]
    assert diagnosis.status == "fit"


def begin_run(table: EnterpriseTable, run_id: str, status: str = "running") -> None:
    """Record a run that has this table as its target."""
    state = State.open(load_settings())
    target = [table.name, table.region, load_settings().dynamodb_endpoint]
    state.start_run(run_id, {"target": target})
    if status != "running":
        state.finish_run(run_id, status, {})


@pytest.mark.usefixtures("proxy")
def test_a_run_that_has_died(table: EnterpriseTable) -> None:
    """A running state without a lease means dead, unless a later run was proven."""
    begin_run(table, "nightly")
    dead = examine()
    lease = Lease(table, "nightly@host:1", 30)
    lease.acquire()
    alive = examine()
    lease.release()
    put(
        table,
        {
            "PK": "MIGRATION#enterprises",
            "SK": LEASE,
            "owner": "nightly@host:1",
            "expires": int(time.time()) - 100,
        },
    )
    ran_out = examine()
    begin_run(table, "after", "proven")
    made_up = examine()

    assert_only(dead, "runs", "nightly", "enterprises migrate --resume nightly")
    assert line(alive, "runs").found == "nightly is under way"
    assert line(alive, "lease").status == "warn"
    assert "held by nightly@host:1" in line(alive, "lease").found
    assert_only(ran_out, "runs", "nightly", "--resume nightly")
    assert "which has died" in line(ran_out, "lease").found
    assert line(made_up, "runs").status == "ok"


@pytest.mark.usefixtures("proxy")
def test_a_real_run_is_seen_from_its_beginning_to_its_end() -> None:
    """The state of a real run is reported while it runs, is dead and is resumed."""
    with open_run(MigrateOptions(), RunContext()) as begun:
        alive = examine()
    dead = examine()
    resumed = pipeline.migrate(MigrateOptions(resume=begun.run_id))
    after = examine()

    assert line(alive, "runs").found == f"{begun.run_id} is under way"
    assert_only(dead, "runs", begun.run_id, f"migrate --resume {begun.run_id}")
    assert (resumed.status, after.status) == ("proven", "fit")
    assert line(after, "runs").found == "none is dead"


class PrefectApi(BaseHTTPRequestHandler):
    """Answers like Prefect which flow runs are running."""

    runs: list[dict[str, Any]] = []  # noqa: RUF012
    asked: list[tuple[str, Any]] = []  # noqa: RUF012

    def do_POST(self) -> None:
        """Answer, and record the request."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append((self.path, json.loads(body)))
        answer = json.dumps(self.runs).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def prefect_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[PrefectApi]]:
    """Run the API, and name it in the environment."""
    PrefectApi.runs, PrefectApi.asked = [], []
    with HTTPServer(("127.0.0.1", 0), PrefectApi) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/api"
        monkeypatch.setenv("PREFECT_API_URL", address)
        yield PrefectApi
        server.shutdown()
        thread.join()


def flow_run(name: str, seconds: float) -> dict[str, Any]:
    """Return a flow run as Prefect's API represents it."""
    begun = datetime.now(UTC) - timedelta(seconds=seconds)
    return {"id": f"id-of-{name}", "name": name, "start_time": begun.isoformat()}


@pytest.mark.usefixtures("proxy")
def test_a_flow_run_that_has_died(
    prefect_api: type[PrefectApi], table: EnterpriseTable
) -> None:
    """A run in Prefect without a held lease is dead, unless it has just begun."""
    none = line(examine(), "Prefect")
    prefect_api.runs = [flow_run("young", 5)]
    young = line(examine(), "Prefect")
    prefect_api.runs.append(flow_run("old", 3_600))
    dead = examine()
    lease = Lease(table, "nightly@host:1", 30)
    lease.acquire()
    alive = line(examine(), "Prefect")
    lease.release()

    assert (none.status, young.status, alive.status) == ("ok", "ok", "ok")
    assert_only(dead, "Prefect", "old (id-of-old)", "prefect flow-run delete id-of-old")
    path, asked = prefect_api.asked[0]
    assert path == "/api/flow_runs/filter"
    assert asked["flow_runs"]["state"]["type"]["any_"] == ["RUNNING"]


@pytest.mark.usefixtures("proxy")
def test_a_prefect_that_is_down(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreachable API is a warning, because runs do not need it."""
    url = f"http://ana:{CANARY}@127.0.0.1:{closed_port}/api"
    monkeypatch.setenv("PREFECT_API_URL", url)

    finding = line(examine(), "Prefect")

    assert finding.status == "warn"
    assert f"at 127.0.0.1:{closed_port} did not answer" in finding.found
    assert "PREFECT_API_URL" in finding.remedy


@pytest.mark.usefixtures("proxy")
def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little disk space for state and reports fails the last line."""
    monkeypatch.setattr(runs, "LEAST_BYTES", 1 << 60)

    assert_only(examine(), "disk", "GB free", "Make room")


@pytest.mark.usefixtures("proxy")
def test_a_state_that_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is no database fails the line of the runs; an empty file is fine."""
    monkeypatch.setenv("STATE_URL", f"sqlite:///{tmp_path}/empty.db")
    (tmp_path / "empty.db").touch()
    empty = line(examine(), "runs")
    (tmp_path / "state.db").write_text("not a database, " * 100)
    monkeypatch.setenv("STATE_URL", f"sqlite:///{tmp_path}/state.db")

    assert_only(examine(), "runs", "cannot be opened", "STATE_URL")
    assert (empty.found, (tmp_path / "empty.db").stat().st_size) == ("none is dead", 0)


def test_a_store_that_never_answers(proxy: FaultProxy) -> None:
    """A check that hangs fails only its line; the others are still reported."""
    proxy.add(black_hole(), operation="DescribeTable")

    diagnosis = examine(seconds=3)

    assert_only(diagnosis, "DynamoDB table", "no answer within 3 s", "network")
    assert line(diagnosis, "disk").status == "ok"


@pytest.mark.usefixtures("proxy")
def test_a_fault_of_the_program_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is reported without its traceback and without its text."""

    def split(_: str) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(source, "split_table_name", split)
    diagnosis = examine()

    assert_only(diagnosis, "settings", "RuntimeError", "report it")
    assert CANARY not in str(diagnosis)
    assert len(diagnosis.findings) == len(checks_for("migrate"))
