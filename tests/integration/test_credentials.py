"""A profile that is not logged in: every command reports it before it writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.doctor.checks import examine
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.prefect_server import newest_run

CONFIG = """
[sso-session corp]
sso_start_url = https://corp.example/start
sso_region = eu-west-1
[profile ops]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = loader
"""
REMEDY = "Log in: aws sso login --profile ops"
COMMANDS = {
    "create-table": ["create-table"],
    "cutover declare": ["cutover", "declare", "--yes"],
    "cutover revoke": ["cutover", "revoke", "--yes"],
    "dry run": ["migrate", "--dry-run"],
    "migrate": ["migrate", "--no-prefect", "--workers", "2"],
    "plan": ["plan"],
    "reconcile": ["reconcile"],
    "repair": ["reconcile", "--repair"],
    "serve": ["serve", "--set", "STORAGE_MODE=dynamodb"],
    "validate": ["validate", "--target"],
}

pytestmark = [
    pytest.mark.xdist_group("prefect"),
    pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True),
    pytest.mark.usefixtures("source"),
]


@pytest.fixture
def logged_out(
    table: EnterpriseTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> EnterpriseTable:
    """Name a profile that is not logged in; return the existing table."""
    path = tmp_path / "aws-config"
    path.write_text(CONFIG, "utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.setenv("AWS_PROFILE", "ops")
    monkeypatch.setenv("HOME", str(tmp_path))
    return table


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.usefixtures("logged_out")
def test_every_command_says_how_to_log_in(
    arguments: list[str],
    items: Callable[[], dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is refused with the profile and the command, and nothing is written."""
    result = CliRunner().invoke(app, [*arguments, "--json"])

    said = json.loads(result.stdout)
    assert (result.exit_code, said["status"]) == (2, "refused")
    assert "profile ops" in said["error"]["message"]
    assert said["error"]["remedy"] == REMEDY
    assert "Traceback" not in result.output + caplog.text
    assert items() == {}


@pytest.mark.usefixtures("logged_out")
def test_a_flow_says_how_to_log_in(
    api: httpx.Client, items: Callable[[], dict[str, Any]]
) -> None:
    """A Prefect flow is refused in the same way, and the flow run shows the cause."""
    result = CliRunner().invoke(app, ["migrate", "--prefect", "--json"])

    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["remedy"] == REMEDY
    state = newest_run(api)["state"]
    assert (state["type"], items()) == ("FAILED", {})
    assert REMEDY in state["message"]


@pytest.mark.usefixtures("logged_out")
def test_the_doctor_says_how_to_log_in() -> None:
    """The credentials check fails, even if the store is on this machine."""
    findings = {finding.check: finding for finding in examine().findings}

    found = findings["credentials"]
    assert (found.status, found.remedy) == ("fail", REMEDY)
    assert "profile ops" in found.found
