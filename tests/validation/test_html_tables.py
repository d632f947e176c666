"""Tables of notebooks: whole values at the pointer, and no value becomes markup."""

from html.parser import HTMLParser

import pandas as pd
import pytest

from validation.html_tables import LONGEST, cut_cells, make_table, reveal

LONG = "Ångström & Söhne " * 10
HOSTILE = [
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)' x='",
    "</td></table><img src=x onerror=alert(1)>",
    "&lt;b&gt;&quot;&#34;",
    "a  b   c",
    "$x^2$ and \\(y\\)",
    "\u202eevil\u2066\u2067",
    "\x00\x1b[31m\u2028\x7f",
    "\ud800",
    "e\u0301" * 200,
]


class Cells(HTMLParser):
    """The cells of a page as a browser parses it, each with its title, and all tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.cells: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record the tag, and begin a cell."""
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        if tag == "td":
            self.cells.append(("", dict(attrs).get("title")))

    def handle_data(self, data: str) -> None:
        """Add the text to the current cell."""
        if self.cells and data.strip():
            text, title = self.cells[-1]
            self.cells[-1] = (text + data, title)


def shown(texts: list[str], *, pandas: bool) -> Cells:
    """Return texts as a table, rendered by pandas or by this program."""
    if not pandas:
        return Cells(make_table([{"name": text} for text in texts]))
    with pd.option_context("display.max_colwidth", None):
        frame = pd.DataFrame({"name": texts}, dtype=object)
        return Cells(cut_cells(frame.to_html(index=False)))


@pytest.mark.parametrize("pandas", [True, False])
def test_a_long_value_is_cut_and_whole_at_the_pointer(*, pandas: bool) -> None:
    """A cell has at most `LONGEST` characters, and its title has all of them."""
    cut, whole = shown([LONG, "x" * LONGEST], pandas=pandas).cells

    # pandas strips blanks at the end.
    assert cut == (f"{LONG[: LONGEST - 1]}…", LONG.strip() if pandas else LONG)
    assert whole == ("x" * LONGEST, None)


@pytest.mark.parametrize("pandas", [True, False])
@pytest.mark.parametrize("padding", ["", "-" * LONGEST])
def test_no_value_becomes_markup(padding: str, *, pandas: bool) -> None:
    """A hostile value is shown literally, as text or as title, in its cell."""
    texts = [padding + text for text in HOSTILE]
    page = shown(texts, pandas=pandas)

    assert page.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert page.names <= {"border", "class", "style", "title"}
    assert [title or text for text, title in page.cells] == [*map(reveal, texts)]


def test_hidden_characters_are_shown_as_escapes() -> None:
    """A character that hides or turns others is shown; visible text is unchanged."""
    assert reveal("a\u202eb\x00\n\u200b\ufeff\ud800") == (
        r"a\u202eb\x00\n\u200b\ufeff\ud800"
    )
    # Joiners are part of visible words and emoji.
    for text in ("Ångström 東京", "क्\u200dष", "👩\u200d👩\u200d👧"):
        assert reveal(text) == text


def test_numbers_have_separators_and_stand_right() -> None:
    """A number is not aligned to the left as a text is."""
    table = make_table(
        [{"rows": 5_000, "name_of": "5000", "share": 0.25, "units": 14.0}]
    )

    assert "<th>rows</th>" in table
    assert "<td>5,000</td>" in table
    assert '<td style="text-align: left">5000</td>' in table
    assert "<td>0.25</td>" in table
    assert "<td>14</td>" in table
    assert '<th style="text-align: left">name of</th>' in table


def test_mathjax_leaves_names_alone() -> None:
    """Dollars in a name must not be typeset."""
    assert "mathjax_ignore" in make_table([{"name": "$x$"}])
