"""Alerts: logged, posted if configured, and never a cause of failure."""

import logging

import pytest

from flows.prefect_alerts import send_alert
from tests.support.webhook import running_webhook

SECRET = "/kanarienvogel"


def test_an_alert_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Without a webhook an alert must only be logged, as an error."""
    send_alert("The run has failed.")

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "The run has failed." in record.getMessage()


def test_an_alert_is_posted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The webhook must get the message in the form of a chat, and the facts."""
    with running_webhook() as hook:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", hook.url)
        send_alert("The run has failed.", event="failed", page=None)

    text = "The run has failed."
    assert hook.posted == [{"text": text, "event": "failed", "page": None}]


@pytest.mark.parametrize("status", [None, 302, 404, 500])
def test_a_webhook_that_fails_is_told_and_borne(
    status: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing may be raised, and the URL, which is a secret, must not be logged."""
    caplog.set_level(logging.DEBUG)
    with running_webhook(status or 200, SECRET) as hook:
        url = hook.url if status else f"http://127.0.0.1:1{SECRET}"
        monkeypatch.setenv("ALERT_WEBHOOK_URL", url)
        send_alert("The run has failed.")

    assert "the alert was not posted" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", ["ftp://x/kanarienvogel", "kanarienvogel", "https:///"])
def test_a_webhook_that_is_no_url_is_told_without_it(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid URL must be logged without its value, and raise nothing."""
    monkeypatch.setenv("ALERT_WEBHOOK_URL", url)

    send_alert("The run has failed.")

    assert "the alert was not posted: SettingsError" in caplog.text
    assert "kanarienvogel" not in caplog.text
