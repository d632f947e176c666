"""Credentials that cannot be obtained: their source, and the remedy."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.errors import MigrationError, SettingsError, TargetError, Unreachable
from flows.settings import Settings
from flows.stores.dynamodb.faults import CredentialsExpired
from flows.stores.dynamodb.permission_probes import describe_once
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import open_table
from tests.support.fault_proxy import Answer, FaultProxy

CONFIG = """
[profile base]
aws_access_key_id = AKIABASE
aws_secret_access_key = secret
[profile role]
role_arn = arn:aws:iam::123456789012:role/loader
source_profile = base
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/loader
source_profile = base
mfa_serial = arn:aws:iam::123456789012:mfa/me
[sso-session corp]
sso_start_url = https://corp.example/start
sso_region = eu-west-1
[profile sso]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = loader
[profile old-sso]
sso_start_url = https://corp.example/start
sso_region = eu-west-1
sso_account_id = 123456789012
sso_role_name = loader
[profile chained]
role_arn = arn:aws:iam::123456789012:role/loader
source_profile = sso
[profile loop]
role_arn = arn:aws:iam::123456789012:role/loader
source_profile = loop-end
[profile loop-end]
role_arn = arn:aws:iam::123456789012:role/loader
source_profile = loop
[profile half]
aws_access_key_id = AKIAHALF
[profile fails]
credential_process = sh -c "echo canary >&2; exit 3"
[profile no-program]
credential_process = /no/such/program
[profile no-json]
credential_process = echo canary
[profile a-list]
credential_process = echo []
[profile expired]
credential_process = echo '{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey":\
 "canary", "SessionToken": "t", "Expiration": "2024-01-01T00:00:00Z"}'
[profile web]
role_arn = arn:aws:iam::123456789012:role/loader
web_identity_token_file = /no/such/token
[profile cr]
credential_process = echo '{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey":\
 "canary", "SessionToken": "t\\r"}'
"""
REFUSAL = (
    b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
    b"<Type>Sender</Type><Code>%b</Code><Message>no</Message></Error></ErrorResponse>"
)
# Patterns of the message and of the remedy.
TROUBLES = {
    "mfa": (r"MFA code .* profile mfa", "export-credentials --profile mfa"),
    "sso": (r"SSO.* profile sso", "aws sso login --profile sso$"),
    "old-sso": (r"SSO.* profile old-sso", "aws sso login --profile old-sso"),
    "chained": (r"SSO.* profile chained", "aws sso login --profile sso$"),
    "loop": ("profile loop .*loop-end", "aws sts .* --profile loop"),
    "half": ("profile half.*aws_secret_access_key", "Set aws_access_key_id"),
    "fails": ("profile fails .*its program", "--profile fails"),
    "no-program": ("profile no-program .*/no/such/program", "--profile no-program"),
    "no-json": ("profile no-json .*its program", "--profile no-json"),
    "a-list": ("profile a-list .*its program", "--profile a-list"),
    "expired": ("profile expired .*have expired", "--profile expired"),
    "web": ("profile web .*/no/such/token", "--profile web"),
    "cr": ("session token of profile cr .*line break", "Set it again"),
    "nobody": ("no profile nobody", "Set AWS_PROFILE"),
}


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configure profiles that are not logged in."""
    path = tmp_path / "aws-config"
    path.write_text(CONFIG, "utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("HOME", str(tmp_path))
    return path


@pytest.fixture
def sts(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Put a proxy between the program and AWS STS."""
    with FaultProxy(moto_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", proxy.url)
        yield proxy


def trouble_of(closed_port: int, **values: object) -> MigrationError:
    """Return the error of the first request, by boto3 and by the program's client."""
    endpoint = f"http://127.0.0.1:{closed_port}"
    settings = Settings.isolated(
        aws_region="eu-west-1", dynamodb_endpoint=endpoint, **values
    )
    with pytest.raises(MigrationError) as found:
        open_table(settings).is_taken()
    with pytest.raises(MigrationError) as same:
        describe_once(open_table(settings))
    assert str(found.value) == str(same.value)
    return found.value


@pytest.mark.parametrize("profile", TROUBLES)
def test_a_profile_without_credentials_is_named(
    profile: str, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The error must name profile and remedy; no traceback or secret may be logged."""
    error = trouble_of(closed_port, aws_profile=profile)

    message, remedy = TROUBLES[profile]
    assert isinstance(error, SettingsError)
    assert re.search(message, error.message)
    assert re.search(remedy, error.remedy)
    assert "canary" not in str(error) + caplog.text
    assert [record for record in caplog.records if record.exc_info] == []


def test_a_configuration_that_cannot_be_parsed_is_named(
    config: Path, closed_port: int
) -> None:
    """The remedy must be to correct the file, not a setting."""
    config.write_text("[profile sso\nregion", "utf-8")

    error = trouble_of(closed_port, aws_profile="sso")

    assert str(config) in error.message
    assert error.remedy == "Correct this file."


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aws_access_key_id", "access key"),
        ("aws_secret_access_key", "secret key"),
        ("aws_session_token", "session token"),
    ],
)
@pytest.mark.parametrize("value", ["abc\r", "ab\nc", "abc "])
def test_a_key_with_a_blank_or_a_line_break_is_refused(
    name: str, kind: str, value: str, closed_port: int
) -> None:
    """The error must name which of the three it is and its source, not its value."""
    values = {"aws_access_key_id": "abc", "aws_secret_access_key": "secret"}

    error = trouble_of(closed_port, **values | {name: value})

    assert isinstance(error, SettingsError)
    assert f"The {kind} of AWS_ACCESS_KEY_ID and" in error.message
    assert value not in str(error)


def test_a_key_that_no_header_holds_is_refused(closed_port: int) -> None:
    """A key with letters outside ASCII must be refused, and not quoted."""
    values = {
        "aws_access_key_id": "\u043a\u043b\u044e\u0447",
        "aws_secret_access_key": "x",
    }

    error = trouble_of(closed_port, **values)

    assert "access key of AWS_ACCESS_KEY_ID" in error.message
    assert str(error).isascii()


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_an_empty_profile_is_none(
    name: str, moto_endpoint: str, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty variable must have the effect of an unset one."""
    monkeypatch.setenv(name, "")

    assert create_table(open_table(at(moto_endpoint, table_name)))


def test_the_setting_wins_over_the_variable(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile of `.env` or `--set` must override those of the environment."""
    monkeypatch.setenv("AWS_DEFAULT_PROFILE", "nobody")

    assert "profile mfa" in trouble_of(closed_port, aws_profile="mfa").message


def test_a_token_without_a_key_is_left_over(
    moto_endpoint: str, table_name: str
) -> None:
    """The token of another session must not prevent the use of a profile."""
    settings = at(moto_endpoint, table_name, aws_profile="base", aws_session_token="x")

    assert create_table(open_table(settings))


def test_a_role_is_assumed(
    sts: FaultProxy, moto_endpoint: str, table_name: str
) -> None:
    """Credentials from AWS must work for boto3 and for the program's requests."""
    table = open_table(at(moto_endpoint, table_name, aws_profile="role"))

    assert create_table(table)
    assert not table.is_taken()
    assert len(sts.calls) == 1


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        ("AccessDenied", TargetError, "trust policy"),
        ("ExpiredToken", CredentialsExpired, "Renew the session"),
        ("InvalidClientTokenId", TargetError, "AWS_ACCESS_KEY_ID"),
        ("Throttling", Unreachable, "Run again later"),
    ],
)
def test_a_role_that_aws_refuses_is_named(
    sts: FaultProxy, table_name: str, code: str, kind: type[MigrationError], remedy: str
) -> None:
    """The error must name STS and the profile: DynamoDB got no request."""
    body = REFUSAL % code.encode()
    sts.add(lambda _: Answer(403, (("content-type", "text/xml"),), body))
    table = open_table(at(sts.url, table_name, aws_profile="role"))

    with pytest.raises(kind, match=rf"AssumeRole for profile role .*{code}") as found:
        describe_once(table)

    assert type(found.value) is kind
    assert remedy in found.value.remedy


def test_aws_that_does_not_answer_is_waited_for(
    closed_port: int,
    moto_endpoint: str,
    table_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without credentials no request was sent, so a retry must be possible."""
    nobody = f"http://127.0.0.1:{closed_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", nobody)
    table = open_table(at(moto_endpoint, table_name, aws_profile="role"))

    with pytest.raises(Unreachable, match=f"no answer came from {nobody}"):
        describe_once(table)


def at(endpoint: str, table_name: str, **values: object) -> Settings:
    """Return the settings of a table behind the endpoint."""
    return Settings.isolated(
        aws_region="eu-west-1",
        dynamodb_endpoint=endpoint,
        dynamodb_enterprise_table=table_name,
        **values,
    )
