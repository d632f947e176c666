"""The meaning of DynamoDB's answers.

Only codes decide: message texts differ between AWS and its emulators.
"""

import logging
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
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
    ItemRejected,
    MigrationError,
    NotApplied,
    TargetError,
    Throttled,
    Unreachable,
)
from flows.models import Attribute

logger = logging.getLogger(__name__)

# Attributes with the same value in every item: they identify no row.
CONSTANTS = frozenset({"SK", "entity_type", "migrated_from_pg"})
REASON_CHARACTERS = 300


class TableMissing(TargetError):
    """Raised when the store reports that the table does not exist."""


class CredentialsExpired(TargetError):
    """Raised when the session of temporary credentials has ended."""


class TimedOut(Ambiguous):
    """Raised when no answer came within the timeout."""


class TableExists(TargetError):
    """Raised when a table that is to be created already exists."""


CONFLICT = "TransactionConflictException"
FAULTS: dict[str, type[MigrationError]] = {
    "ConditionalCheckFailedException": ConditionFailed,
    "ExpiredTokenException": CredentialsExpired,
    # A table with a local index accepts no more items of this partition key.
    "ItemCollectionSizeLimitExceededException": ItemRejected,
    "LimitExceededException": Throttled,
    "ProvisionedThroughputExceededException": Throttled,
    # Another region writes one of the items; the answer does not name it.
    "ReplicatedWriteConflictException": Ambiguous,
    "RequestLimitExceeded": Throttled,
    "ResourceInUseException": TableExists,
    "ResourceNotFoundException": TableMissing,
    "Throttling": Throttled,
    "ThrottlingException": Throttled,
    # The application writes this item in a transaction right now.
    CONFLICT: NotApplied,
    # The first request may still be applied.
    "TransactionInProgressException": Ambiguous,
    "TooManyRequestsException": Throttled,
    "ValidationException": ItemRejected,
}
# The exception that corresponds to a reason of a cancelled transaction. Of several
# reasons the first in this order decides: permanent ones precede temporary ones.
CANCELLED = {
    "ValidationError": "ValidationException",
    "ItemCollectionSizeLimitExceeded": "ItemCollectionSizeLimitExceededException",
    "ConditionalCheckFailed": "ConditionalCheckFailedException",
    "DuplicateItem": "ConditionalCheckFailedException",
    "ThrottlingError": "ThrottlingException",
    "ProvisionedThroughputExceeded": "ProvisionedThroughputExceededException",
    "TransactionConflict": CONFLICT,
}
REMEDIES = {
    "AccessDeniedException": "Grant the action named above on this table.",
    "ExpiredTokenException": "Renew the session, then run again.",
    "InvalidSignatureException": "Check AWS_SECRET_ACCESS_KEY and the clock.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "ResourceNotFoundException": "Set DYNAMODB_ENTERPRISE_TABLE, AWS_REGION or"
    " DYNAMODB_ENDPOINT, or create the table: enterprises create-table",
    "UnrecognizedClientException": "Check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN.",
}
# No connection was made, so nothing can have been applied.
NEVER_SENT = (EndpointConnectionError, ConnectTimeoutError, ProxyConnectionError)
CHECK_NETWORK = "Check DYNAMODB_ENDPOINT, AWS_REGION, the network."
CHECK_PROXY = "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
_SERVER_ERROR = 500
_TOO_LARGE = 413


@contextmanager
def translating_answers(where: str) -> Iterator[None]:
    """Translate botocore's errors into ours; *where* names table and endpoint."""
    try:
        yield
    # ResponseParserError is not a BotoCoreError.
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        raise _translate(error, where) from None


def require_intact(response_dict: Mapping[str, Any], **_: object) -> None:
    """Refuse an answer that was cut or changed in transit, before it is parsed.

    botocore compares the checksum only to decide on a retry, which is disabled here. It
    would read a truncated list of unprocessed items as an empty one.

    Raises:
        ChecksumError: the body does not match its headers.
    """
    body, headers = response_dict["body"], response_dict["headers"]
    found = {"x-amz-crc32": str(zlib.crc32(body)), "content-length": str(len(body))}
    for name, actual in found.items():
        stated = headers.get(name, actual)
        if stated != actual:
            raise ChecksumError(
                checksum_type=name, expected_checksum=stated, actual_checksum=actual
            )


def _translate(error: Exception, where: str) -> MigrationError:
    if isinstance(error, ClientError):
        return _translate_code(error, where)
    if isinstance(error, NoCredentialsError):
        message = f"There are no AWS credentials for {where}."
        remedy = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
        return TargetError(message, remedy)
    if isinstance(error, SSLError):
        return _translate_tls(str(error), where)
    if isinstance(error, NEVER_SENT):
        message = f"DynamoDB cannot be reached: {where}."
        proxied = isinstance(error, ProxyConnectionError)
        return Unreachable(message, CHECK_PROXY if proxied else CHECK_NETWORK)
    kind = type(error).__name__
    if isinstance(error, HTTPClientError) or "Checksum" in kind or "Parse" in kind:
        late = isinstance(error, ReadTimeoutError)
        unclear = TimedOut if late else Ambiguous
        return unclear(f"DynamoDB gave no clear answer ({kind}): {where}.")
    return TargetError(f"The request to DynamoDB failed ({kind}): {where}.")


def _translate_tls(reason: str, where: str) -> MigrationError:
    """Return the error for a failed handshake: distrust, no TLS, or a cut connection.

    boto3 does not report whether the cut came before a request was sent.
    """
    if "EOF occurred" in reason:
        return Ambiguous(f"The TLS connection was cut: {where}.")
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        message = f"The TLS certificate of {where} is not trusted."
        return TargetError(message, "Check DYNAMODB_ENDPOINT, or set AWS_CA_BUNDLE.")
    message = f"TLS handshake with {where} failed: {reason}."
    return TargetError(message, "Check DYNAMODB_ENDPOINT and AWS_CA_BUNDLE.")


def _translate_code(error: ClientError, where: str) -> MigrationError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    remedy = REMEDIES.get(code, "")
    said = str(error.response.get("Error", {}).get("Message", ""))
    if code == "TransactionCanceledException":
        code, said = _why_cancelled(error)
    if code in FAULTS:
        message = f"DynamoDB answered {error.operation_name} with {code}: {where}."
        fault = FAULTS[code](message, remedy)
        if isinstance(fault, ItemRejected):
            fault.reason = f"{code}: {said}"
        return fault
    if status == _TOO_LARGE:
        return ItemRejected(f"DynamoDB answered {status}, too large: {where}.")
    if status >= _SERVER_ERROR:
        return Ambiguous(f"DynamoDB answered {code or status}: {where}.")
    message = f"DynamoDB refuses {error.operation_name} ({code or status}): {where}."
    return TargetError(message + _clock_difference(error, code), remedy)


def _why_cancelled(error: ClientError) -> tuple[str, str]:
    """Return the code and the text that decide on a cancelled transaction.

    An unknown reason is returned as it is, and is not retried.
    """
    reasons = error.response.get("CancellationReasons", [])
    texts = {str(r.get("Code")): str(r.get("Message", "")) for r in reasons}
    texts = {code: text for code, text in texts.items() if code != "None"}
    unknown = [code for code in texts if code not in CANCELLED]
    for code in (*unknown, *CANCELLED):
        if code in texts:
            return CANCELLED.get(code, code), texts[code]
    return CONFLICT, ""


def _clock_difference(error: ClientError, code: str) -> str:
    """Return this machine's clock difference, if a signature was refused for it."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if code not in {"InvalidSignatureException", "RequestTimeTooSkewed"}:
        return ""
    try:
        theirs = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return ""
    seconds = (datetime.now(UTC) - theirs).total_seconds()
    return f" This machine's clock differs from the store's by {seconds:.0f} s."


def without_values(reason: str, item: Mapping[str, Attribute]) -> str:
    """Return the store's reason on one line, or only its code if it quotes a value."""
    values = {str(v) for name, v in item.items() if name not in CONSTANTS}
    quoted = "|".join(map(re.escape, values - {""}))
    if re.search(rf"(?<!\w)(?:{quoted})(?!\w)", reason):
        reason = reason.partition(":")[0]
    return " ".join(reason.split())[:REASON_CHARACTERS]
