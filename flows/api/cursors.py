"""Cursors: where a page ended, signed so that nobody can forge another position.

A forged start key would start a read where the client has no access.
"""

import base64
import hmac
import json

from flows.api.store import Position
from flows.errors import MigrationError

_MAC_BYTES = 16
# A key of DynamoDB has at most 2,048 bytes, which JSON may escape.
_LONGEST = 20_000


class BadCursor(MigrationError):
    """Raised when a cursor was not made by this service for this store."""


class Cursors:
    """Makes cursors and reads them; *store* is the store that they are for.

    A cursor continues only the order, *sort*, in which its page was read.
    """

    def __init__(self, key: bytes, store: str) -> None:
        self._key = key
        self._store = store.encode()

    def seal(self, position: Position, sort: str | None = None) -> str:
        """Return the cursor of a position."""
        content = json.dumps(position).encode()
        token = base64.urlsafe_b64encode(self._mac(content, sort) + content)
        return token.decode().rstrip("=")

    def open(self, cursor: str, sort: str | None = None) -> Position:
        """Return the position of a cursor.

        Raises:
            BadCursor: the cursor was changed, or made with another key, for another
                store or for another order.
        """
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            token = base64.b64decode(padded[:_LONGEST], b"-_", validate=True)
        except ValueError:
            token = b""
        mac, content = token[:_MAC_BYTES], token[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(content, sort)):
            message = "The cursor was not issued by this service for this sort."
            raise BadCursor(message, "Start again without a cursor.")
        position: Position = json.loads(content)
        return position

    def _mac(self, content: bytes, sort: str | None) -> bytes:
        text = b"\x00".join([self._store, (sort or "").encode(), content])
        return hmac.digest(self._key, text, "sha256")[:_MAC_BYTES]
