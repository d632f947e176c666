"""Tables for notebooks: long values are cut, and whole at the pointer."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The number of characters that a cell shows.
LONGEST: Final = 80
# Control, invisible and bidirectional characters, and lone surrogates. Joiners and
# variation selectors are visible as part of a word or an emoji.
HIDDEN: Final = (
    r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    r"\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
# A cell as pandas writes it: its text contains no markup.
_CELL: Final = re.compile(r"<(t[dh])([^>]*)>([^<]*)</t[dh]>")
_LEFT: Final = ' style="text-align: left"'
# MathJax must not typeset a name that has dollars in it.
_TABLE: Final = '<table class="dataframe tex2jax_ignore mathjax_ignore">'


def reveal(text: str) -> str:
    r"""Replace each hidden character by its escape, such as ``\u202e``."""
    return re.sub(HIDDEN, lambda found: ascii(found[0])[1:-1], text)


def make_table(rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows with the same keys as an HTML table with a header.

    Numbers are to the right, with separators.
    """
    lines = [dict(row) for row in rows]
    names = lines[0] if lines else {}
    head = "".join(
        _cell(name.replace("_", " "), "th", "" if _is_number(value) else _LEFT)
        for name, value in names.items()
    )
    body = "".join(
        f"<tr>{''.join(map(_value_cell, line.values()))}</tr>" for line in lines
    )
    return f"{_TABLE}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cut_cells(table: str) -> str:
    """Cut the long cells of a table that pandas has rendered and escaped."""

    def cut(cell: re.Match[str]) -> str:
        tag, attributes, text = cell.groups()
        # pandas writes two blanks in a row like this.
        text = text.replace("&nbsp;&nbsp;", "  ")
        return _cell(html.unescape(text), tag, attributes)

    return _CELL.sub(cut, table)


def _value_cell(value: object) -> str:
    if isinstance(value, float):
        return _cell(f"{value:,.3f}".rstrip("0").rstrip("."), "td")
    if _is_number(value):
        return _cell(f"{value:,}", "td")
    return _cell("" if value is None else str(value), "td", _LEFT)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(text: str, tag: str, attributes: str = "") -> str:
    whole = reveal(text)
    if len(whole) > LONGEST:
        attributes += f' title="{html.escape(whole)}"'
        whole = f"{whole[: LONGEST - 1]}…"
    return f"<{tag}{attributes}>{html.escape(whole)}</{tag}>"
