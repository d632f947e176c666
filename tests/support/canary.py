"""A word that is in every secret, and a search for leaks of it."""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

WORD = "kanarienvogel"
# With characters that a URL must quote, so that each part may leak separately.
PASSWORD = f"{WORD}1@{WORD}2/{WORD}3%{WORD}4"
SECRETS = {
    "AWS_ACCESS_KEY_ID": f"AKIA{WORD}",
    "AWS_SECRET_ACCESS_KEY": f"{WORD}-secret",
    "AWS_SESSION_TOKEN": f"{WORD}-token",
    # Nothing listens there, so each alert fails.
    "ALERT_WEBHOOK_URL": f"http://127.0.0.1:1/{WORD}-hook",
}
LINE_END = re.compile(rb"\n|\\n")


def with_password(url: str) -> str:
    """Return a source's URL, which names a user, with the password."""
    return url.replace("@", f":{quote(PASSWORD, safe='')}@", 1)


def files_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder, with their content."""
    for file in folder.rglob("*"):
        if file.is_file():
            yield str(file), file.read_bytes()


def leaks(parts: Iterable[tuple[str, bytes]], text: str = WORD) -> list[str]:
    """Return the places that hold a text, in any form."""
    kept = forms(text)
    # Prefect splits base64 into lines, and stores them in JSON.
    whole = ((place, LINE_END.sub(b"", content)) for place, content in parts)
    return [place for place, content in whole if any(form in content for form in kept)]


def forms(text: str) -> list[bytes]:
    """Return the stored forms of a text: as it is, or in base64 at any offset.

    Three letters become four in base64.
    """
    plain = text.encode()
    shifted = [b64encode(b" " * shift + plain) for shift in range(3)]
    ends = [(shift + len(plain)) // 3 * 4 for shift in range(3)]
    begins = [0, 4, 4]
    parts = zip(shifted, begins, ends, strict=True)
    return [plain, *(encoded[begin:end] for encoded, begin, end in parts)]
