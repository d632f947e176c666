"""Checks of the values of settings, and errors for invalid ones."""

import os
import re
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from flows.errors import SettingsError
from flows.settings.project import find_dotenv

T = TypeVar("T", bound=BaseModel)

_ORIGIN = re.compile(r"https?://[^/?#\s]+")
# Python's form of bytes that it cannot decode.
_SURROGATES = re.compile(r"[\ud800-\udfff]")


def checked(cls: type[T], values: dict[str, Any]) -> T:
    """Create settings from values, and check each.

    Raises:
        SettingsError: a setting has an invalid value.
    """
    try:
        return cls(**values)
    except UnicodeDecodeError:
        message = f"The file {find_dotenv()} is not UTF-8."
        raise SettingsError(message, "Save it as UTF-8.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    reason = first["msg"].removeprefix("Value error, ")
    message = f"{name.upper()} is not valid: {reason}."
    raise SettingsError(message, _remedy(name, cls.model_fields[name]))


def as_utf8(text: str) -> str:
    """Return as UTF-8 a text that Python decoded differently, or only in part.

    Raises:
        ValueError: the bytes of the text are not UTF-8.
    """
    if not _SURROGATES.search(text):
        return text
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        message = "it contains bytes that are not UTF-8"
        raise ValueError(message) from None


def _remedy(name: str, field: FieldInfo) -> str:
    return f"Set {name.upper()} in the environment or in .env. {field.description}"


def strip_url(value: object) -> object:
    """Return a URL without the blanks and quotes around it.

    A file with CRLF leaves a CR, and ``docker --env-file`` leaves the quotes.
    """
    if not isinstance(value, str):
        return value
    bare = value.strip()
    quoted = bare[:1] in {"'", '"'} and bare[:1] == bare[-1:]
    return bare[1:-1].strip() if quoted else bare


def check_endpoint(value: str | None) -> str | None:
    """Return an endpoint's URL with its scheme in lower case.

    Raises:
        ValueError: the value is not an HTTP(S) URL, or contains a password.
    """
    if value is None:
        return None
    parts = urlsplit(value)
    named = parts.hostname and parts.port != 0
    if parts.scheme not in {"http", "https"} or not named:
        message = "it must begin with http:// or https:// and name a host"
        raise ValueError(message)
    if parts.password is not None:
        message = "it must not contain a password, since it is shown"
        raise ValueError(message)
    return parts.geturl().rstrip("/")


def check_webhook(value: SecretStr | None) -> SecretStr | None:
    """Return the URL of a webhook.

    Raises:
        ValueError: the value is not an HTTP(S) URL.
    """
    parts = urlsplit(value.get_secret_value()) if value else None
    if parts and not (parts.scheme in {"http", "https"} and parts.hostname):
        message = "it must begin with http:// or https:// and name a host"
        raise ValueError(message)
    return value


def check_origins(value: str | None) -> str | None:
    """Return web origins, separated by commas.

    Raises:
        ValueError: one of the values is not an origin.
    """
    for origin in (value or "*").split(","):
        if origin.strip() != "*" and not _ORIGIN.fullmatch(origin.strip()):
            message = "each must have the form https://host, https://host:port or *"
            raise ValueError(message)
    return value
