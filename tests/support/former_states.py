"""States as earlier versions of the program made them, as SQL for both databases."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg2

from flows.state.tables import PREFIX, metadata

SCRIPTS = Path(__file__).parents[1] / "state"
IDENTITY = {"source": {"table": "enterprises"}, "target": ["T", "eu-west-1"]}
# PostgreSQL's words, and those of SQLAlchemy for the same tables in SQLite.
IN_SQLITE = {
    "SERIAL": "INTEGER",
    "TIMESTAMP WITH TIME ZONE": "DATETIME",
    "BYTEA": "BLOB",
    "'\\x": "x'",
    "SELECT setval": "--",
}


def run_script(url: str, script: str) -> None:
    """Run SQL, written for PostgreSQL, in a state's database."""
    if not url.startswith("sqlite"):
        with closing(psycopg2.connect(url)) as server, server, server.cursor() as one:
            one.execute(script)
        return
    for word, other in IN_SQLITE.items():
        script = script.replace(word, other)
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.executescript(script)


def first_version() -> str:
    """Return the SQL of a state whose tables have no prefix yet."""
    return (SCRIPTS / "former_state.sql").read_text("utf-8")


def first_version_with_prefix() -> str:
    """Return the SQL of a state from which version 1 has given its tables a prefix."""
    names = "|".join(name.removeprefix(PREFIX) for name in metadata.tables)
    before = r'(CREATE TABLE |REFERENCES | ON |INSERT INTO "|setval\(\')'
    target = rf"\g<1>{PREFIX}\g<2>"
    return re.sub(rf"{before}({names})(?=\b|_serial)", target, first_version())


def second_version() -> str:
    """Return the SQL of a state of version 2.

    Its run ``full`` is proven, and ``again`` replays it. Its run ``stopped`` has moved
    rows again after a resume. Its run ``other`` goes into another table, in one range.
    """
    return (SCRIPTS / "state_version_2.sql").read_text("utf-8")
