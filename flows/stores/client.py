"""The boto3 client of the target table, made of the settings."""

from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config

from flows.errors import SettingsError
from flows.settings import Settings
from flows.stores.answers import require_intact

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CONNECT_SECONDS = 3
READ_SECONDS = 10
REQUEST_SECONDS = CONNECT_SECONDS + READ_SECONDS
DUMMIES = {"aws_access_key_id": "dummy", "aws_secret_access_key": "dummy"}


def make_client(settings: Settings) -> "DynamoDBClient":
    """Make the client; nothing is sent yet.

    Raises:
        SettingsError: the region or a half of the access key is missing.
    """
    insecure = (settings.dynamodb_endpoint or "").startswith("http://")
    dummies = insecure and (
        not settings.local_endpoint
        or not (settings.aws_access_key_id or settings.aws_profile)
    )
    core = botocore.session.get_session()
    core.register_component("data_loader", _loader())
    session = boto3.Session(
        region_name=settings.aws_region,
        botocore_session=core,
        **(DUMMIES if dummies else _credentials(settings)),
    )
    region = session.region_name or ("us-east-1" if insecure else None)
    if region is None:
        message = "AWS_REGION is not set: there is no telling which table is meant."
        raise SettingsError(message, "Set AWS_REGION, e.g. AWS_REGION=eu-west-1.")
    client = session.client(
        "dynamodb",
        region_name=region,
        endpoint_url=settings.dynamodb_endpoint,
        # One try, no more: see the docstring of ``dynamodb``.
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=32,
        ),
    )
    client.meta.events.register("before-parse.dynamodb", require_intact)
    return client


@cache
def _loader() -> Any:
    """Return what reads botocore's description of DynamoDB, once in a process."""
    return botocore.session.get_session().get_component("data_loader")


def _credentials(settings: Settings) -> dict[str, str | None]:
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    if bool(settings.aws_access_key_id) is not bool(secret):
        message = "Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set."
        raise SettingsError(message, "Set both, or AWS_PROFILE, or neither.")
    return {
        "aws_access_key_id": settings.aws_access_key_id,
        "aws_secret_access_key": secret.get_secret_value() if secret else None,
        "aws_session_token": token.get_secret_value() if token else None,
        "profile_name": settings.aws_profile,
    }
