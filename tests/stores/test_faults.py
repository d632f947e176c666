"""The meaning of answers, and the waits, without a store."""

import pickle
from ssl import SSLEOFError
from typing import Any, NoReturn

import botocore.session
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from flows.errors import (
    Ambiguous,
    ConditionFailed,
    Incomplete,
    ItemRejected,
    MigrationError,
    NotApplied,
    StoreFault,
    TargetError,
    Throttled,
    Unreachable,
)
from flows.stores.dynamodb.backoff import (
    QUIET_SECONDS,
    UNREACHABLE_SECONDS,
    Backoff,
    sleep_unless_stopped,
)
from flows.stores.dynamodb.faults import (
    FAULTS,
    TableMissing,
    TimedOut,
    translating_answers,
)
from tests.support.clock import TestClock

WHERE = "table Enterprises, region eu-west-1, endpoint https://example"


@pytest.fixture
def clock() -> TestClock:
    """Return the clock of the waits."""
    return TestClock(1_000_000.0)


def wait(backoff: Backoff, clock: TestClock) -> float:
    """Wait for the next try; return the duration."""
    begun = clock.now
    backoff.wait()
    return clock.now - begun


def client_error(code: str, status: int = 400) -> ClientError:
    """Create the error that botocore raises for an answer."""
    answer: Any = {
        "Error": {"Code": code, "Message": "canary-text"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "PutItem")


def translate(error: Exception) -> MigrationError:
    """Return the translation of an error of botocore."""
    with pytest.raises(MigrationError) as caught, translating_answers(WHERE):
        raise error
    return caught.value


def wait_for_ever(backoff: Backoff, fault: StoreFault | None = None) -> NoReturn:
    """Wait again and again."""
    while True:
        backoff.wait(fault)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ConditionalCheckFailedException", 400, ConditionFailed),
        ("ValidationException", 400, ItemRejected),
        ("413", 413, ItemRejected),
        ("ProvisionedThroughputExceededException", 400, Throttled),
        ("ThrottlingException", 400, Throttled),
        ("Throttling", 400, Throttled),
        ("RequestLimitExceeded", 400, Throttled),
        ("LimitExceededException", 400, Throttled),
        ("TransactionConflictException", 400, NotApplied),
        ("TransactionInProgressException", 400, Ambiguous),
        ("ReplicatedWriteConflictException", 400, Ambiguous),
        ("ItemCollectionSizeLimitExceededException", 400, ItemRejected),
        ("TooManyRequestsException", 400, Throttled),
        ("InternalServerError", 500, Ambiguous),
        ("ServiceUnavailable", 503, Ambiguous),
        ("502", 502, Ambiguous),
        ("AccessDeniedException", 400, TargetError),
        ("ExpiredTokenException", 400, TargetError),
        ("UnrecognizedClientException", 400, TargetError),
        ("InvalidSignatureException", 400, TargetError),
        ("RequestTimeTooSkewed", 403, TargetError),
        ("ResourceNotFoundException", 400, TableMissing),
        ("SomethingNew", 400, TargetError),
    ],
)
def test_the_code_decides(code: str, status: int, kind: type[MigrationError]) -> None:
    """Every answer must become the error that the writing rules know."""
    error = translate(client_error(code, status))

    assert isinstance(error, kind)
    assert code in error.message
    assert WHERE in error.message
    assert "canary" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301


@pytest.mark.parametrize(
    ("reasons", "kind"),
    [
        (["ConditionalCheckFailed", "None"], ConditionFailed),
        (["None", "DuplicateItem"], ConditionFailed),
        (["TransactionConflict"], NotApplied),
        (["ProvisionedThroughputExceeded"], Throttled),
        (["None", "ThrottlingError"], Throttled),
        (["ValidationError", "None"], ItemRejected),
        (["ItemCollectionSizeLimitExceeded"], ItemRejected),
        (["TransactionConflict", "ValidationError"], ItemRejected),
        (["TransactionConflict", "ConditionalCheckFailed"], ConditionFailed),
        (["ThrottlingError", "SomethingNew"], TargetError),
        (["None", "None"], NotApplied),
        ([], NotApplied),
    ],
)
def test_each_reason_of_a_cancelled_transaction_has_its_meaning(
    reasons: list[str], kind: type[MigrationError]
) -> None:
    """Of several, a permanent reason must decide: it must not be retried."""
    response: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": "cancelled"},
        "CancellationReasons": [{"Code": r, "Message": f"{r}!"} for r in reasons],
    }
    with pytest.raises(kind) as caught, translating_answers("T"):
        raise ClientError(response, "TransactWriteItems")

    assert type(caught.value) is kind
    if isinstance(caught.value, ItemRejected):
        assert caught.value.reason.endswith("!")


OPERATIONS = (
    *("DescribeTable", "CreateTable", "Scan", "GetItem", "BatchGetItem"),
    *("BatchWriteItem", "PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"),
)
# The request itself is wrong: no retry can succeed.
OF_THE_PROGRAM = {"IdempotentParameterMismatchException"}


def test_every_code_of_the_requests_is_known() -> None:
    """Each code that DynamoDB documents for the requests must be handled explicitly."""
    model = botocore.session.get_session().get_service_model("dynamodb")
    documented = {
        shape.name
        for operation in OPERATIONS
        for shape in model.operation_model(operation).error_shapes
    }

    known = {*FAULTS, "InternalServerError", "TransactionCanceledException"}
    assert documented - known == OF_THE_PROGRAM


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EndpointConnectionError(endpoint_url="e", error="x"), Unreachable),
        (ConnectTimeoutError(endpoint_url="e", error="x"), Unreachable),
        (ConnectionClosedError(endpoint_url="e", error="x"), Ambiguous),
        (ReadTimeoutError(endpoint_url="e", error="x"), TimedOut),
        (HTTPClientError(error="x"), Ambiguous),
        (SSLError(endpoint_url="e", error=OSError()), TargetError),
        (SSLError(endpoint_url="e", error=SSLEOFError("EOF occurred")), Ambiguous),
        (NoCredentialsError(), TargetError),
        (ResponseParserError("x"), Ambiguous),
        (ProxyConnectionError(proxy_url="http://u:p@x", error="x"), Unreachable),
    ],
)
def test_only_a_connection_never_made_is_surely_not_applied(
    error: Exception, kind: type[MigrationError]
) -> None:
    """Any failure after a request was sent must count as perhaps applied."""
    assert type(translate(error)) is kind


def test_an_error_that_is_not_botocores_passes() -> None:
    """A fault of the program must not be translated."""
    with pytest.raises(ZeroDivisionError), translating_answers(WHERE):
        raise ZeroDivisionError


def test_waits_are_random_below_a_growing_bound(clock: TestClock) -> None:
    """Workers that failed together must retry at random times below growing bounds."""
    bounds = [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    waits: list[float] = []
    for _ in range(50):
        backoff = Backoff(None, clock=clock)
        waits.extend(wait(backoff, clock) for _ in bounds)
    rounds = [waits[i :: len(bounds)] for i in range(len(bounds))]

    assert all(max(r) <= b for r, b in zip(rounds, bounds, strict=True))
    assert all(max(r) > b / 2 for r, b in zip(rounds, bounds, strict=True))
    assert all(min(r) < b / 2 for r, b in zip(rounds, bounds, strict=True))


def test_waits_continue_for_hours(clock: TestClock) -> None:
    """A long throttle must not break the arithmetic."""
    backoff = Backoff(None, clock=clock)
    for _ in range(5_000):
        backoff.wait(Throttled("slower"))


def test_a_success_begins_anew(clock: TestClock) -> None:
    """After a reset the waits must be short again."""
    backoff = Backoff(None, clock=clock)
    for _ in range(20):
        backoff.wait()
    waits = []
    for _ in range(200):
        backoff.reset()
        waits.append(wait(backoff, clock))

    assert max(waits) <= 0.2


def test_a_store_out_of_reach_is_given_up_after_a_minute(clock: TestClock) -> None:
    """A run must not wait forever for a store that is unavailable."""
    backoff = Backoff(None, clock=clock)
    begun = clock.now
    with pytest.raises(Incomplete, match="away"):
        wait_for_ever(backoff, Unreachable("away"))

    assert UNREACHABLE_SECONDS < clock.now - begun < UNREACHABLE_SECONDS + 10


def test_the_minute_begins_with_the_first_failure(clock: TestClock) -> None:
    """Time spent on work without a wait must not count as out of reach."""
    backoff = Backoff(None, clock=clock)
    clock.now += 10 * UNREACHABLE_SECONDS
    backoff.wait(Unreachable("away"))
    backoff.reset()
    clock.now += 10 * UNREACHABLE_SECONDS
    begun = clock.now
    backoff.wait(Unreachable("away"))

    assert clock.now - begun <= 0.2


def test_a_wait_ends_with_its_run(clock: TestClock) -> None:
    """A stopped run must not wait for the end of its sleep."""
    begun = clock.now

    def raise_if_stopped() -> None:
        if clock.now - begun >= 0.25:
            raise Incomplete("The run was stopped.")

    with pytest.raises(Incomplete, match="stopped"):
        sleep_unless_stopped(5, raise_if_stopped, clock)

    assert clock.now - begun == pytest.approx(0.3)


def test_no_wait_passes_the_deadline(clock: TestClock) -> None:
    """A wait that would end after the deadline must not begin."""
    deadline = clock.now + 30
    backoff = Backoff(deadline, clock=clock)
    with pytest.raises(Incomplete, match="deadline"):
        wait_for_ever(backoff)

    assert deadline - 5 <= clock.now <= deadline


def test_faults_that_are_far_apart_are_no_outage(clock: TestClock) -> None:
    """Short faults with minutes of work between them must not end a run."""
    backoff = Backoff(None, clock=clock)
    waits = []
    for _ in range(10):
        begun = clock.now
        backoff.wait(Unreachable("away"))
        waits.append(clock.now - begun)
        clock.now += 2 * QUIET_SECONDS

    assert max(waits) <= 0.2


def test_a_long_wait_is_logged(
    clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that a table delays for hours must log it, but rarely."""
    backoff = Backoff(clock.now + 4 * 3600, clock=clock)
    with pytest.raises(Incomplete, match="deadline"):
        wait_for_ever(backoff, Throttled("slower"))

    logged = [record.getMessage() for record in caplog.records]
    assert 6 <= len(logged) <= 9
    assert logged[0].startswith("waiting for the store for 6")
    assert all(line.endswith("slower") for line in logged)
