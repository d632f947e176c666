"""The rule for names of enterprises."""

import re

# Invisible characters: white space, controls, and default-ignorable characters. The
# validation takes the same characters for blank; a test compares the two.
_INVISIBLE = (
    "\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f-\u1160\u1680\u17b4-\u17b5\u180b-\u180f"
    "\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d159"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_VISIBLE = re.compile(f"[^{_INVISIBLE}]")


def require_visible(name: str) -> str:
    """Return a name unchanged, neither trimmed nor normalised.

    Raises:
        ValueError: the name is invisible, so a migration would quarantine it.
    """
    if _VISIBLE.search(name) is None:
        message = "at least one visible character is needed"
        raise ValueError(message)
    return name
