"""Signatures, against those of botocore's own signer."""

from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st

from flows.stores.dynamodb.sigv4 import Signer

HEADERS = {
    "content-type": "application/x-amz-json-1.0",
    "x-amz-target": "DynamoDB_20120810.BatchWriteItem",
}
TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)
URLS = [
    "https://dynamodb.eu-west-1.amazonaws.com/",
    "https://dynamodb.eu-west-1.amazonaws.com:443/",
    "http://127.0.0.1:8000/",
    "http://[::1]:8000/",
    "http://LocalHost:80/",
    "http://proxy.test/a b/~x/../dynamodb/",
]


@given(
    access_key=TEXTS,
    secret=TEXTS,
    token=st.none() | TEXTS,
    body=st.binary(),
    url=st.sampled_from(URLS),
    region=st.sampled_from(["eu-west-1", "us-gov-east-1"]),
)
def test_it_signs_as_botocore_does(  # noqa: PLR0917
    access_key: str, secret: str, token: str | None, body: bytes, url: str, region: str
) -> None:
    """AWS must accept the signature for any credentials, endpoint and body."""
    credentials = Credentials(access_key, secret, token)
    request = AWSRequest("POST", url, dict(HEADERS), body)
    SigV4Auth(credentials, "dynamodb", region).add_auth(request)
    stamp = request.context["timestamp"]
    now = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

    signed = Signer(credentials, region, url).sign(HEADERS, body, now)

    assert signed["authorization"] == request.headers["Authorization"]
    assert signed["x-amz-date"] == request.headers["X-Amz-Date"]
    assert signed.get("x-amz-security-token") == token


def test_renewed_credentials_are_used_at_once() -> None:
    """A key derived from a former secret must not sign for the new one."""
    credentials = Credentials("AKIDEXAMPLE", "one")
    signer = Signer(credentials, "eu-west-1", URLS[0])
    now = datetime(2026, 1, 31, 8, tzinfo=UTC)
    before = signer.sign(HEADERS, b"{}", now)["authorization"]

    credentials.secret_key = "two"

    assert signer.sign(HEADERS, b"{}", now)["authorization"] != before


def test_nothing_is_signed_without_credentials() -> None:
    """The error must be that of botocore."""
    with pytest.raises(NoCredentialsError):
        Signer(None, "eu-west-1", URLS[0]).sign(HEADERS, b"{}")
