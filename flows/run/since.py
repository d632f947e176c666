"""The time since which an incremental run moves rows."""

from datetime import UTC, datetime

from flows.errors import SettingsError
from flows.run.preflight import Stores


def read_since(text: str | None, stores: Stores) -> str | None:
    """Return the time of ``--since`` in UTC, or that of the last proven run.

    Raises:
        SettingsError: the text is not a time with a zone, or no run is proven yet.
    """
    if text == "last":
        # The earliest one: another run may have moved only some of the entities.
        return min(
            stores.state.last_watermark(stores.migration, stores.source_key(source))
            for source in stores.sources
        )
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        message = f"--since {text!r} is not a time with a zone."
        raise SettingsError(message, "Write 2026-01-31T08:00:00Z, or last.")
    return moment.astimezone(UTC).isoformat()
