"""Alerts on runs that need attention, in the log and as a POST to a webhook."""

import json
import logging
from urllib.request import Request, urlopen

from flows.settings import load_settings

logger = logging.getLogger(__name__)

POST_SECONDS = 10


def send_alert(message: str, **facts: str | None) -> None:
    """Log an alert, and post it to ``ALERT_WEBHOOK_URL`` if that is set.

    The body is JSON: *message* as ``text``, as chats expect it, and the *facts*.
    A failure here changes no outcome. The URL is a secret and is never logged.
    """
    logger.error("alert: %s", message)
    try:
        url = load_settings().alert_webhook_url
        if url is not None:
            _post(url.get_secret_value(), {"text": message, **facts})
    except Exception as error:  # noqa: BLE001
        code = getattr(error, "code", "")
        logger.warning("the alert was not posted: %s %s", type(error).__name__, code)


def _post(url: str, values: dict[str, str | None]) -> None:
    body = json.dumps(values).encode()
    headers = {"Content-Type": "application/json"}
    # The settings accept only http and https.
    with urlopen(Request(url, body, headers), timeout=POST_SECONDS):  # noqa: S310
        pass
