"""The boto3 client of the target table, created from the settings."""

from typing import TYPE_CHECKING

from botocore.config import Config

from flows.settings import Settings
from flows.stores.dynamodb.faults import require_intact
from flows.stores.dynamodb.session import (
    CONNECT_SECONDS,
    READ_SECONDS,
    open_session,
    require_encrypted,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

REQUEST_SECONDS = CONNECT_SECONDS + READ_SECONDS


def make_client(settings: Settings) -> "DynamoDBClient":
    """Create the client; send nothing yet.

    Raises:
        SettingsError: the region or half of the access key is missing, or boto3 is
            configured with an unsafe endpoint.
    """
    session, region = open_session(settings)
    client = session.client(
        "dynamodb",
        region_name=region,
        endpoint_url=settings.dynamodb_endpoint,
        # Only one attempt: see the docstring of ``single_requests``.
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=32,
        ),
    )
    if settings.dynamodb_endpoint is None:
        require_encrypted(client)
    client.meta.events.register("before-parse.dynamodb", require_intact)
    return client
