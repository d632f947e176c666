"""Alerts: what somebody should look at, in the log and as a POST to a webhook."""

import json
import logging
from urllib.request import Request, urlopen

from flows.settings import load_settings

logger = logging.getLogger(__name__)

POST_SECONDS = 10


def send_alert(message: str, **facts: str | None) -> None:
    """Log an alert, and post it to ``ALERT_WEBHOOK_URL`` where that is set.

    The body is JSON: *message* as ``text``, as chats want it, and the *facts* beside.
    Whatever fails here changes no outcome, and the URL, a secret, is never told.
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
    # Settings have seen to it that it is http or https.
    with urlopen(Request(url, body, headers), timeout=POST_SECONDS):  # noqa: S310
        pass
