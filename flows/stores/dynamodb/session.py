"""The AWS session of the settings: its region, its credentials, and their owner."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    UnknownRegionError,
)

from flows.errors import SettingsError, TargetError, Unreachable
from flows.settings import LOOPBACK, Settings
from flows.stores.dynamodb.credentials import STS_REMEDIES, Session

CONNECT_SECONDS = 3
READ_SECONDS = 10
DUMMIES = {"aws_access_key_id": "dummy", "aws_secret_access_key": "dummy"}
NO_CREDENTIALS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."


@dataclass(frozen=True)
class Caller:
    """The owner of the credentials, as AWS reports it."""

    account: str
    arn: str


@contextmanager
def checking_settings() -> Iterator[None]:
    """Translate boto3's errors about unusable settings into ours."""
    try:
        yield
    except (BotoCoreError, ValueError) as error:
        message = f"The AWS settings cannot be used: {error}"
        remedy = "Check AWS_PROFILE, AWS_REGION and DYNAMODB_ENDPOINT."
        raise SettingsError(message, remedy) from None


def open_session(settings: Settings) -> tuple[boto3.Session, str]:
    """Open the session of the settings, return it and its region; send nothing.

    Raises:
        SettingsError: the region or half of the access key is missing.
    """
    session = make_session(settings)
    insecure = (settings.dynamodb_endpoint or "").startswith("http://")
    region = session.region_name or ("us-east-1" if insecure else None)
    if region is None:
        message = "AWS_REGION is not set, so the table cannot be determined."
        raise SettingsError(message, "Set AWS_REGION, e.g. AWS_REGION=eu-west-1.")
    return session, region


def make_session(settings: Settings) -> boto3.Session:
    """Create the session, with dummy credentials if real ones would be in clear text.

    Raises:
        SettingsError: half of the access key is missing.
    """
    # botocore logs session tokens and items at DEBUG, so its level is INFO at least.
    logger = logging.getLogger("botocore")
    logger.setLevel(max(logger.getEffectiveLevel(), logging.INFO))
    insecure = (settings.dynamodb_endpoint or "").startswith("http://")
    dummies = insecure and (
        not settings.local_endpoint
        or not (settings.aws_access_key_id or settings.aws_profile)
    )
    core = Session()
    core.register_component("data_loader", _loader())
    return boto3.Session(
        region_name=settings.aws_region,
        botocore_session=core,
        **(DUMMIES if dummies else _credentials(settings)),
    )


def require_encrypted(client: Any) -> None:
    """Refuse an unencrypted endpoint that comes from the configuration of boto3.

    Raises:
        SettingsError: the endpoint is ``http://`` off loopback.
    """
    endpoint = urlsplit(client.meta.endpoint_url)
    if endpoint.scheme == "http" and endpoint.hostname not in LOOPBACK:
        message = f"Credentials would go to {endpoint.geturl()} in clear text."
        raise SettingsError(
            message,
            "Unset AWS_ENDPOINT_URL and similar variables, also in the AWS"
            " configuration; to use your own store, set DYNAMODB_ENDPOINT.",
        )


def has_account(settings: Settings) -> bool:
    """Return whether the endpoint belongs to AWS, and so to an account."""
    endpoint = settings.dynamodb_endpoint
    return endpoint is None or not (
        settings.local_endpoint or endpoint.startswith("http://")
    )


def who_am_i(settings: Settings) -> Caller:
    """Ask AWS STS for the owner of the credentials; this needs no permission.

    Raises:
        SettingsError: the region or half of the access key is missing.
        TargetError: there are no credentials, or AWS refuses them.
        Unreachable: STS gave no answer.
    """
    with checking_settings():
        session, region = open_session(settings)
        limits = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        client = session.client("sts", region_name=region, config=limits)
        require_encrypted(client)
    try:
        answer = client.get_caller_identity()
    except NoCredentialsError:
        message = "There are no AWS credentials."
        raise TargetError(message, NO_CREDENTIALS) from None
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        message = f"AWS refuses the credentials ({code})."
        remedy = STS_REMEDIES.get(code, "Check the credentials.")
        raise TargetError(message, remedy) from None
    except BotoCoreError as error:
        message = f"AWS STS gave no answer ({type(error).__name__})."
        raise Unreachable(message, "Check AWS_REGION and the network.") from None
    finally:
        client.close()
    return Caller(answer["Account"], answer["Arn"])


def table_arn(settings: Settings, account: str) -> str:
    """Return the ARN of the configured table in an account, which may be ``*``.

    Raises:
        SettingsError: the region is missing.
    """
    with checking_settings():
        session, region = open_session(settings)
    try:
        partition = session.get_partition_for_region(region)
    except UnknownRegionError:
        partition = "aws"
    name = settings.dynamodb_enterprise_table
    return f"arn:{partition}:dynamodb:{region}:{account}:table/{name}"


@cache
def _loader() -> Any:
    """Return the loader of botocore's service descriptions, one per process."""
    return Session().get_component("data_loader")


def _credentials(settings: Settings) -> dict[str, str | None]:
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    if bool(settings.aws_access_key_id) is not bool(secret):
        message = "Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set."
        raise SettingsError(message, "Set both, or AWS_PROFILE, or neither.")
    return {
        "aws_access_key_id": settings.aws_access_key_id,
        "aws_secret_access_key": secret.get_secret_value() if secret else None,
        # A token without a key is left over from another session.
        "aws_session_token": token.get_secret_value() if token and secret else None,
        "profile_name": settings.aws_profile,
    }
