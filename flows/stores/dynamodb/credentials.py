"""AWS credentials whose errors name their source and a remedy.

botocore obtains most of them when the first request is signed, and refreshes them
before they expire: from AWS, a file or a program, each of which fails differently.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import botocore.session
from botocore.configprovider import (
    ChainProvider,
    ConstantProvider,
    InstanceVarProvider,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigParseError,
    HTTPClientError,
    LoginError,
    MissingDependencyException,
    PartialCredentialsError,
    ProfileNotFound,
    RefreshWithMFAUnsupportedError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from flows.errors import MigrationError, SettingsError, TargetError, Unreachable
from flows.stores.dynamodb.faults import REMEDIES, CredentialsExpired

EXPLICIT = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
EXPORT = (
    'Export a session: eval "$(aws configure export-credentials --profile {profile}'
    ' --format env)"'
)
_OTHER = "The AWS credentials of {source} cannot be obtained: {reason}."
# Whether each part of a key is sent in a header.
HEADERS = {"access_key": True, "secret_key": False, "token": True}
LOGGED_OUT = (SSOError, TokenRetrievalError, LoginError)
_KINDS: dict[tuple[type[Exception], ...], tuple[str, str]] = {
    (SSOError, TokenRetrievalError): (
        "AWS IAM Identity Center (SSO) has no session for {source}.",
        "Log in: aws sso login --profile {profile}",
    ),
    (LoginError,): (
        "There is no session for {source}.",
        "Log in: aws login --profile {profile}",
    ),
    (MissingDependencyException,): (_OTHER, EXPORT),
    (RefreshWithMFAUnsupportedError,): (
        "AWS requires an MFA code for {source}, and this program cannot ask for one.",
        EXPORT,
    ),
    (ProfileNotFound,): (
        "The AWS configuration has no profile {profile}.",
        "Set AWS_PROFILE to one of ~/.aws/config or ~/.aws/credentials, or unset it.",
    ),
    (ConfigParseError,): ("{reason}.", "Correct this file."),
    (PartialCredentialsError,): (
        "Half of the access key is missing in {source}: {reason}.",
        "Set aws_access_key_id and aws_secret_access_key there.",
    ),
}
_CHECK = "Check the AWS configuration with: aws sts get-caller-identity{option}"
_PASSING = {"InternalError", "InternalFailure", "ServiceUnavailable"}
# STS has other names for some of DynamoDB's error codes.
STS_REMEDIES = REMEDIES | {
    "AccessDenied": "Name the caller in the trust policy of the role, and allow"
    " sts:AssumeRole in the policy of the caller.",
    "ExpiredToken": REMEDIES["ExpiredTokenException"],
    "InvalidClientTokenId": REMEDIES["UnrecognizedClientException"],
    "SignatureDoesNotMatch": REMEDIES["InvalidSignatureException"],
}


class NamedCredentials:
    """Credentials of botocore whose errors name their source."""

    def __init__(self, credentials: Any, session: "Session") -> None:
        self._credentials = credentials
        self._session = session
        self._checked: Any = None

    def get_frozen_credentials(self) -> Any:
        """Return the key of the next request, refreshed if it expires.

        Raises:
            SettingsError: the configuration does not lead to credentials.
            TargetError: AWS refuses to issue credentials.
            Unreachable: the source of the credentials gave no answer.
        """
        with self._session.explaining(self.method):
            frozen = self._credentials.get_frozen_credentials()
        if frozen != self._checked:
            require_characters(frozen, self._session.describe_source(self.method))
            self._checked = frozen
        return frozen

    def get_deferred_property(self, name: str) -> Any:
        """Return a function that returns a property of the next request's key."""
        return lambda: getattr(self.get_frozen_credentials(), name, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)


class Session(botocore.session.Session):
    """A session of botocore with credentials that name their source."""

    _credentials: Any

    def __init__(self) -> None:
        super().__init__()
        # botocore treats an empty variable as the name of a profile.
        named = map(os.environ.get, ("AWS_DEFAULT_PROFILE", "AWS_PROFILE"))
        default = ConstantProvider(next(filter(None, named), None))
        chain = ChainProvider([InstanceVarProvider("profile", self), default])
        self.get_component("config_store").set_config_provider("profile", chain)
        # These modules also log the traceback of each error that they raise.
        for name in ("botocore.credentials", "botocore.tokens"):
            logging.getLogger(name).setLevel(logging.ERROR)

    def get_credentials(self) -> Any:
        """Return the credentials, or None if there are none.

        Raises:
            SettingsError: the configuration does not lead to credentials.
        """
        if not isinstance(self._credentials, NamedCredentials):
            with self.explaining():
                self._never_ask_for_mfa()
                found = super().get_credentials()
            if found is not None:
                self._credentials = NamedCredentials(found, self)
        return self._credentials

    def get_scoped_config(self) -> Any:
        """Return the configuration of the profile.

        Raises:
            SettingsError: the profile does not exist, or the file cannot be parsed.
        """
        with self.explaining():
            return super().get_scoped_config()

    def describe_source(self, method: str = "") -> str:
        """Return a readable name of the source of the credentials."""
        if method == "explicit":
            return EXPLICIT
        how = f" ({method})" if method else ""
        return f"profile {self.profile or 'default'}{how}"

    @contextmanager
    def explaining(self, method: str = "") -> Iterator[None]:
        """Translate any error of obtaining credentials into ours."""
        try:
            yield
        except MigrationError:
            raise
        # A provider may raise any error, of files, of programs or of their output.
        except Exception as error:  # noqa: BLE001
            raise self._make_credentials_error(error, method) from None

    def _make_credentials_error(self, error: Exception, method: str) -> MigrationError:
        source = self.describe_source(method)
        if isinstance(error, ClientError):
            return _make_answer_error(error, source)
        if isinstance(error, (NoConnectionError, HTTPClientError)):
            where = error.kwargs.get("endpoint_url", "AWS")
            reason = f"no answer came from {where}"
            message = _OTHER.format(source=source, reason=reason)
            return Unreachable(message, "Check the network.")
        profile = self.profile or "default"
        option = f" --profile {profile}" if self.profile else ""
        if isinstance(error, LOGGED_OUT):
            profile = self._find_login(profile)
        known = (text for kinds, text in _KINDS.items() if isinstance(error, kinds))
        values = {"source": source, "reason": _reason(error), "profile": profile}
        message, remedy = next(known, (_OTHER, _CHECK))
        return SettingsError(
            message.format(**values), remedy.format(**values, option=option)
        )

    def _find_login(self, profile: str) -> str:
        """Return the profile that logs in: the last in the chain of source profiles."""
        profiles = self.full_config.get("profiles", {})
        chain = [profile]
        while (source := profiles.get(chain[-1], {}).get("source_profile", "")) and (
            source not in chain
        ):
            chain.append(source)
        return chain[-1]

    def _never_ask_for_mfa(self) -> None:
        """Refuse a role that requires an MFA code.

        Each worker would ask for a code, and AWS accepts each code only once.
        """

        def refuse(_: str) -> NoReturn:
            raise RefreshWithMFAUnsupportedError

        providers: Any = self.get_component("credential_provider")
        providers.get_provider("assume-role")._prompter = refuse  # noqa: SLF001


def require_characters(frozen: Any, source: str) -> None:
    """Refuse a key or a token that no header can hold, or that AWS never issues.

    Raises:
        SettingsError: a part has a blank, a line break or a character outside ASCII.
    """
    # The secret is in no header; stores other than AWS accept any.
    for name, in_header in HEADERS.items():
        value = str(getattr(frozen, name) or "")
        if not value.isprintable() or " " in value:
            reason = "a blank or a line break"
        elif in_header and not value.isascii():
            reason = "a character outside ASCII"
        else:
            continue
        kind = "session token" if name == "token" else name.replace("_", " ")
        message = f"The {kind} of {source} has {reason}."
        remedy = "Set it again, e.g. without the CR of a file with CRLF line ends."
        raise SettingsError(message, remedy)


def _make_answer_error(error: ClientError, source: str) -> MigrationError:
    """Return the error for an answer of STS or of IAM Identity Center."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    asked = error.operation_name
    if "Throttl" in code or "TooManyRequests" in code or code in _PASSING:
        message = f"AWS cannot answer {asked} for {source} now ({code})."
        return Unreachable(message, "Run again later.")
    message = f"AWS refuses {asked} for {source} ({code or status})."
    remedy = STS_REMEDIES.get(code, "Check the profile in the AWS configuration.")
    expired = code.startswith("ExpiredToken")
    return (CredentialsExpired if expired else TargetError)(message, remedy)


def _reason(error: Exception) -> str:
    """Return the text of an error, unless a program may have written it."""
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}: {error.filename}"
    if isinstance(error, RuntimeError):
        return "the credentials that it provides have expired"
    # The output of a program may contain a secret.
    printed = getattr(error, "kwargs", {}).get("provider") == "custom-process"
    if printed or not isinstance(error, BotoCoreError):
        return f"its program or file provides none ({type(error).__name__})"
    return " ".join(str(error).split()).rstrip(".")
