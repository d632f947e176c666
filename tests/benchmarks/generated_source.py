"""The measured source: generated rows, all of them valid."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2

from flows.demo.stores import COPY_SAMPLE

DATA = Path(__file__).parents[2] / "data"


def fill(url: str, rows: int) -> None:
    """Recreate the source's table with that many rows."""
    command = [sys.executable, str(DATA / "generate_sample.py"), "--clean"]
    with (
        subprocess.Popen(
            [*command, "--rows", str(rows)], stdout=subprocess.PIPE
        ) as made,
        closing(psycopg2.connect(url)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("DROP TABLE IF EXISTS public.enterprises")
        cursor.execute((DATA / "schema.sql").read_text("utf-8"))
        cursor.copy_expert(COPY_SAMPLE.format(table="enterprises"), made.stdout)
        # The server would do so by itself after a while.
        cursor.execute("ANALYZE public.enterprises")
