"""Words that hide what a text means stay out of docs, docstrings and messages."""

import io
import json
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Write what happened instead: reported, repaired, resumed, available, random, up to N,
# separate or independent, quarantined, also, and who it is.
WORDS = re.compile(
    r"\b(told|tells?|mend(s|ed|ing)?|go(es)? on|went on|gone on|to be had|by chance"
    r"|so many|of (its|his|their|our|your) own|put aside|likewise|whoever)\b",
    re.IGNORECASE,
)


def texts_of(path: Path) -> Iterator[str]:
    """Yield what a module says, the cells of a notebook, or a whole page."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        yield from ("".join(cell["source"]) for cell in json.loads(text)["cells"])
    elif path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        # Python 3.11 has f-strings as strings.
        parts = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)
        spoken = {tokenize.COMMENT, tokenize.STRING, parts}
        yield from (token.string for token in tokens if token.type in spoken)
    else:
        yield text


def shown() -> list[str]:
    """Return the paths of all texts, but this one."""
    names = ["*.py", "*.md", "*.ipynb", "*.html", "*.yaml", ".env.example"]
    listed = subprocess.run(
        ["git", "ls-files", *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.split() if name != "tests/test_words.py"]


def test_no_text_has_one_of_the_words() -> None:
    """Each of them has a plain term that a reader need not decode."""
    found = [
        (name, match[0])
        for name in shown()
        for text in texts_of(ROOT / name)
        for match in WORDS.finditer(text)
    ]

    assert found == []
