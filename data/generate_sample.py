r"""Write a sample of the enterprises table as CSV.

``COPY public.enterprises FROM STDIN (FORMAT csv, HEADER)`` loads it exactly: NULL is an
unquoted empty field, and names that are empty or have blank edges are quoted. The same
rows and seed give the same bytes on every Python from 3.11 on, so the random numbers
come from ``random()`` and ``randrange()`` alone, and no set is ever iterated.

    python data/generate_sample.py --output data/sample/enterprises.csv
    python data/generate_sample.py --rows 1000000 --clean | \
        psql -c "COPY public.enterprises FROM STDIN (FORMAT csv, HEADER)"
    python data/generate_sample.py --mapped data/sample
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from unicodedata import normalize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")

ROWS = 5_000
SEED = 42
QUARANTINED = 7
# Enterprises of the second sample, and the least that have all of its bad rows.
MAPPED_ROWS, MAPPED_LEAST = 1_000, 12

HEADER = "id,name,created_date,updated_date\n"
NULL = ""
NAMES = Path(__file__).with_name("names.json")

BAD_FIELDS: tuple[dict[str, Any], ...] = (
    {"name": "   "},
    {"created": "infinity"},
    {"name": "\u3000\u3000\u3000"},
    {"updated": "-infinity"},
    {"name": ""},
    {"created": "12000-01-01 00:00:00+00"},
    {"created": "0044-03-15 00:00:00+00 BC"},
)

# Every 50th name and every 400th pair of dates is an odd one.
ODD_NAME_EVERY, ODD_NAME_AT = 50, 31
ODD_DATES_EVERY, ODD_DATES_AT = 400, 211

# Shares of all names: repeated as they are, repeated in NFD, dressed with blanks etc.
REPEATED, TWINNED, DRESSED = 0.02, 0.01, 0.06
# Shares of all rows: without a creation date, without an update date, never updated.
NOT_CREATED, NOT_UPDATED, UNTOUCHED = 0.002, 0.01, 0.08
# Share of all dates: with a notable fraction.
NOTED = 0.4
# Shares of all ids: those after no gap, and those after no gap or a small one.
ADJACENT, NEAR = 0.9, 0.999

ODD_DATES = (
    ("0001-01-01 00:00:00+00", "0001-01-01 05:30:00.000001+05:30"),
    ("1969-12-31 23:59:59.999999+00", "1970-01-01 00:00:00.000+00"),
    ("9999-12-31 23:59:59.999999+00", "9999-12-31 23:59:59.999999+00"),
    ("0044-03-15 12:00:00+00", "0987-06-05 04:03:02.1+00"),
    # The limits of nanoseconds in 64 bits.
    ("1677-09-21 00:12:43.145224+00", "2262-04-11 23:47:16.854776+00"),
    ("1999-12-31 12:59:59.9995-11:00", "2000-01-01 00:00:00.000499+00"),
    # A leap second, 24:00, and both ends of daylight saving time.
    ("2016-12-31 23:59:60+00", "2017-01-01 00:00:00.001+00"),
    ("2000-02-28 24:00:00+00", "2038-01-19 03:14:08+00"),
    ("2024-03-31 02:30:00+01:00", "2024-10-27 02:30:00.5+02:00"),
    ("9999-12-31 23:59:59.999999+00", NULL),
    (NULL, "0001-01-01 00:00:00+00"),
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = int(datetime(1995, 1, 1, tzinfo=UTC).timestamp())
LAST = int(datetime(2026, 10, 1, tzinfo=UTC).timestamp())
LAST_UPDATE = int(datetime(2026, 10, 31, tzinfo=UTC).timestamp())

FRACTIONS = ("", ".000", ".5", ".25", ".001", ".999", ".9995", ".999999", ".000001")
OFFSETS = (
    *(("+00", 0), ("+00", 0), ("+00", 0), ("Z", 0), ("+00:00", 0), ("+01:00", 60)),
    *(("+02", 120), ("+03:00", 180), ("+05:30", 330), ("+05:45", 345), ("+08", 480)),
    *(("+09:00", 540), ("+12:45", 765), ("+14:00", 840), ("-03:00", -180)),
    *(("-03:30", -210), ("-05", -300), ("-08:00", -480), ("-11:00", -660)),
)

_QUOTED = re.compile(r'^$|^\s|\s$|[",\r\n]')


class Row(NamedTuple):
    """One row as text, where an empty date is NULL."""

    id: int
    name: str
    created: str
    updated: str


class Names:
    """Company names in some fifty languages, with repeats, twins and oddities."""

    def __init__(self, rng: Random) -> None:
        """Read the words, and repeat each language by its weight."""
        words: dict[str, Any] = json.loads(NAMES.read_text(encoding="utf-8"))
        self._rng = rng
        self._odd: list[str] = [
            name for kind in words["oddities"].values() for name in kind
        ]
        self._dresses: list[str] = words["dresses"]
        self._languages = [x for x in words["languages"] for _ in range(x["weight"])]
        self._recent = deque([self._compose()], maxlen=500)

    def draw(self, index: int) -> str:
        """Return the name of the row at *index*."""
        chance = self._rng.random()
        if index % ODD_NAME_EVERY == ODD_NAME_AT:
            return self._odd[index // ODD_NAME_EVERY % len(self._odd)]
        if chance < REPEATED:
            return pick(self._rng, self._recent)
        if chance < REPEATED + TWINNED:
            return self._twin()
        name = self._compose()
        if chance < REPEATED + TWINNED + DRESSED:
            name = pick(self._rng, self._dresses).format(name, name)
        self._recent.append(name)
        return name

    def _compose(self) -> str:
        language = pick(self._rng, self._languages)
        pattern: str = pick(self._rng, language["patterns"])
        stem, other = pick_two(self._rng, language["stems"])
        return pattern.format(
            stem=stem,
            other=other,
            trade=pick(self._rng, language["trades"]),
            form=pick(self._rng, language["forms"]),
        )

    def _twin(self) -> str:
        """Return the latest name that can be decomposed, in its other form, NFD."""
        twins = ((name, normalize("NFD", name)) for name in reversed(self._recent))
        return next((twin for name, twin in twins if twin != name), self._recent[-1])


def pick(rng: Random, choices: Sequence[T]) -> T:
    """Draw one of *choices*, each as likely as the others."""
    return choices[int(rng.random() * len(choices))]


def pick_two(rng: Random, choices: Sequence[T]) -> tuple[T, T]:
    """Draw two of *choices* at different positions."""
    first = int(rng.random() * len(choices))
    step = 1 + int(rng.random() * (len(choices) - 1))
    return choices[first], choices[(first + step) % len(choices)]


def draw_gap(rng: Random) -> int:
    """Return the gap to the next id: mostly 1, more after deletions and rollbacks."""
    chance = rng.random()
    if chance < ADJACENT:
        return 1
    return rng.randrange(2, 30) if chance < NEAR else rng.randrange(500, 5_000)


def draw_dates(rng: Random, index: int) -> tuple[str, str]:
    """Return when the row at *index* was created and, not before that, updated."""
    created_at = FIRST + int(rng.random() * (LAST - FIRST))
    life = 1 + int(rng.random() ** 3 * (LAST_UPDATE - created_at))
    created = write_stamp(rng, created_at)
    updated = write_stamp(rng, created_at + life)
    chance = rng.random()
    if index % ODD_DATES_EVERY == ODD_DATES_AT:
        return ODD_DATES[index // ODD_DATES_EVERY % len(ODD_DATES)]
    if chance < NOT_CREATED:
        return NULL, updated
    if chance < NOT_CREATED + NOT_UPDATED:
        return created, NULL
    untouched = chance < NOT_CREATED + NOT_UPDATED + UNTOUCHED
    return created, created if untouched else updated


def write_stamp(rng: Random, seconds: int) -> str:
    """Write a Unix time as a timestamp with a random offset and fraction."""
    offset, minutes = pick(rng, OFFSETS)
    local = (EPOCH + timedelta(seconds=seconds, minutes=minutes)).isoformat(" ")[:19]
    if rng.random() < NOTED:
        return local + pick(rng, FRACTIONS) + offset
    return f"{local}.{int(rng.random() * 1_000_000):06d}{offset}"


def place_bad_rows(
    count: int, seed: int, fields: Sequence[dict[str, Any]] = BAD_FIELDS
) -> dict[int, dict[str, Any]]:
    """Spread bad fields over *count* rows, one in each of as many parts of them."""
    rng = Random(seed + 1)
    parts = len(fields)
    width = count // parts
    starts = (count * part // parts for part in range(parts))
    places = [start + rng.randrange(width) for start in starts]
    return dict(zip(places, fields, strict=True))


def generate_rows(count: int, seed: int, *, clean: bool) -> Iterator[Row]:
    """Yield *count* rows with rising ids, including the bad ones unless *clean*.

    Args:
        count: How many rows; at least `QUARANTINED` unless *clean*.
        seed: The same seed gives the same rows; *clean* changes only the bad ones.
        clean: Whether ordinary rows replace the bad ones.

    """
    rng = Random(seed)
    names = Names(rng)
    bad = {} if clean else place_bad_rows(count, seed)
    row_id = 0
    for index in range(count):
        row_id += draw_gap(rng)
        row = Row(row_id, names.draw(index), *draw_dates(rng, index))
        yield row._replace(**bad[index]) if index in bad else row


def quote(name: str) -> str:
    """Write *name* as a CSV field, in quotes if a reader could mistake it."""
    return '"' + name.replace('"', '""') + '"' if _QUOTED.search(name) else name


def generate_lines(count: int, seed: int, *, clean: bool) -> Iterator[bytes]:
    """Yield the header and *count* records of CSV in UTF-8, each with its line end."""
    yield HEADER.encode()
    for row in generate_rows(count, seed, clean=clean):
        record = f"{row.id},{quote(row.name)},{row.created},{row.updated}\n"
        yield record.encode()


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong argument ends with a message and status 2."""
    parser = argparse.ArgumentParser(description="Write enterprises as CSV.")
    parser.add_argument(
        "--rows",
        type=int,
        help=f"enterprises; default: {ROWS}, or {MAPPED_ROWS} with --mapped",
    )
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--clean", action="store_true", help="leave out the bad rows")
    files = parser.add_mutually_exclusive_group()
    files.add_argument("--output", default="-", metavar="FILE", help="default: stdout")
    files.add_argument(
        "--mapped",
        type=Path,
        metavar="FOLDER",
        help="write the second sample instead: enterprises with further columns, and"
        " four times as many products",
    )
    options = parser.parse_args(arguments)
    if options.rows is None:
        options.rows = MAPPED_ROWS if options.mapped else ROWS
    least = MAPPED_LEAST if options.mapped else QUARANTINED
    least = 0 if options.clean else least
    if options.rows < least:
        parser.error(f"--rows must be at least {least}, and is {options.rows}")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the sample that the command line asks for."""
    options = parse_arguments(arguments)
    if options.mapped:
        # Beside this script; it uses the names and dates of this module.
        from mapped_sample import write_mapped_sample

        write_mapped_sample(
            options.mapped, options.rows, options.seed, clean=options.clean
        )
        return
    lines = generate_lines(options.rows, options.seed, clean=options.clean)
    if options.output != "-":
        with Path(options.output).open("wb") as file:
            file.writelines(lines)
        return
    try:
        sys.stdout.buffer.writelines(lines)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The reader, e.g. `head`, closed the pipe: the flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
