"""Write the second sample: enterprises with further columns, and their products.

``data/mapped/schema.sql`` has the tables, and ``data/mapped/mapping.toml`` moves them.
The rules of ``generate_sample.py`` apply, whose option ``--mapped`` calls this module.
"""

from __future__ import annotations

import json
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from generate_sample import (
    EPOCH,
    FIRST,
    LAST,
    LAST_UPDATE,
    NAMES,
    Names,
    draw_dates,
    draw_gap,
    pick,
    place_bad_rows,
    quote,
)
from mapped_values import (
    BAD_ENTERPRISES,
    BAD_PRODUCTS,
    DIMENSIONS,
    ODD_EVERY,
    ODD_NAME_AT,
    OWNERS,
    PRICES,
    RELEASES,
    SEATS,
    SETTINGS,
    STOCKS,
    TAGS,
    Column,
    write_array,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

PRODUCTS_PER_ENTERPRISE = 4

# Every 400th pair of dates of products is without one of them.
HALF_DATED_EVERY, HALF_DATED_AT = 400, 123

PLANS = (*["free"] * 10, *["pro"] * 7, *["business"] * 3)
MOST_SEATS = {"free": 5, "pro": 100, "business": 5_000}
THEMES = ("light", "dark", "system")
LOCALES = ("de-CH", "en-GB", "fr-FR", "ja-JP", "pt-BR", "sr-Latn", "zh-Hant")
FEATURES = ("sso", "audit", "export", "api")
WORDS = (
    *("b2b", "export", "family", "food", "new", "ngo", "partner", "pilot", "public"),
    *("retail", "seasonal", "trial", "vip"),
)
PEOPLE = ("ada", "bengt", "chiara", "dafydd", "esra", "hana", "ioana", "jozef", "kofi")
DOMAINS = ("example.com", "example.net", "example.org")

# Shares of all products.
ACTIVE, NO_ACTIVE, UNTOUCHED, WITH_FRACTION = 0.8, 0.03, 0.2, 0.1


class Enterprise(NamedTuple):
    """One enterprise as PostgreSQL's text; None is NULL."""

    id: str
    name: str
    plan: str | None
    seats: str | None
    settings: str | None
    tags: str | None
    owner_email: str | None
    created: str | None
    updated: str | None


class Product(NamedTuple):
    """One product as PostgreSQL's text; None is NULL."""

    id: str
    enterprise_id: str | None
    name: str
    price: str | None
    stock: str | None
    active: str | None
    dimensions: str | None
    released: str | None
    created: str | None
    updated: str | None


def choose(rng: Random, index: int, value: str, column: Column) -> str | None:
    """Return the odd value of the row, if it has one, else *value* or NULL."""
    ordinary = None if rng.random() < column.missing else value
    is_odd = index % ODD_EVERY == column.place
    return column.odd[index // ODD_EVERY % len(column.odd)] if is_odd else ordinary


def draw_settings(rng: Random) -> str:
    """Return an ordinary document of settings."""
    settings: dict[str, Any] = {
        "theme": pick(rng, THEMES),
        "locale": pick(rng, LOCALES),
    }
    chance = rng.random()
    if chance > 1 / 3:
        settings["limits"] = {"users": int(chance * 1_000), "gb": int(chance * 80) / 4}
    if chance > 2 / 3:
        settings["features"] = list(FEATURES[: 1 + int(rng.random() * len(FEATURES))])
    return json.dumps(settings)


def draw_tags(rng: Random) -> str:
    """Return one to three tags that differ."""
    first, step = int(rng.random() * len(WORDS)), 1 + int(rng.random() * 4)
    places = (first + step * number for number in range(1 + int(rng.random() * 3)))
    return write_array(WORDS[place % len(WORDS)] for place in places)


def draw_owner(rng: Random) -> str:
    """Return an address of a domain that is reserved for examples."""
    return f"{pick(rng, PEOPLE)}{int(rng.random() * 60)}@{pick(rng, DOMAINS)}"


def generate_enterprises(count: int, seed: int, *, clean: bool) -> Iterator[Enterprise]:
    """Yield *count* enterprises with rising ids, with the bad ones unless *clean*."""
    rng = Random(seed)
    names = Names(rng)
    bad = {} if clean else place_bad_rows(count, seed, BAD_ENTERPRISES)
    row_id = 0
    for index in range(count):
        row_id += draw_gap(rng)
        name, (created, updated) = names.draw(index), draw_dates(rng, index)
        row = Enterprise(
            str(row_id),
            name,
            *_draw_columns(rng, index),
            created or None,
            updated or None,
        )
        yield row._replace(**bad.get(index, {}))


def _draw_columns(rng: Random, index: int) -> Iterator[str | None]:
    """Yield plan, seats, settings, tags and owner of the row at *index*."""
    plan = pick(rng, PLANS)
    seats = str(1 + int(rng.random() * MOST_SEATS[plan]))
    yield plan
    yield choose(rng, index, seats, SEATS)
    yield choose(rng, index, draw_settings(rng), SETTINGS)
    yield choose(rng, index, draw_tags(rng), TAGS)
    yield choose(rng, index, draw_owner(rng), OWNERS)


class ProductNames:
    """Names of products: a word of one of the languages, and a number."""

    def __init__(self, rng: Random) -> None:
        """Read the words."""
        words: dict[str, Any] = json.loads(NAMES.read_text(encoding="utf-8"))
        self._rng = rng
        self._stems = [stem for one in words["languages"] for stem in one["stems"]]
        self._odd = [name for kind in words["oddities"].values() for name in kind]

    def draw(self, index: int) -> str:
        """Return the name of the product at *index*."""
        name = f"{pick(self._rng, self._stems)} {1 + int(self._rng.random() * 99)}"
        if index % ODD_EVERY == ODD_NAME_AT:
            return self._odd[index // ODD_EVERY % len(self._odd)]
        return name


def generate_products(
    enterprises: Sequence[str], count: int, seed: int, *, clean: bool
) -> Iterator[Product]:
    """Yield *count* products of *enterprises*, with the bad ones unless *clean*.

    Early enterprises have more products than late ones, and some have none.
    """
    rng = Random(seed + 2)
    names = ProductNames(rng)
    bad = {} if clean else place_bad_rows(count, seed + 3, BAD_PRODUCTS)
    row_id = 0
    for index in range(count):
        row_id += draw_gap(rng)
        owner = enterprises[int(rng.random() ** 2 * len(enterprises))]
        row = Product(
            str(row_id),
            owner,
            names.draw(index),
            *_draw_facts(rng, index),
            *draw_times(rng, index),
        )
        yield row._replace(**bad.get(index, {}))


def _draw_facts(rng: Random, index: int) -> Iterator[str | None]:
    """Yield price, stock, activity, dimensions and release of the row at *index*."""
    price = f"{int(rng.random() ** 2 * 2_000)}.{pick(rng, ('00', '50', '90', '99'))}"
    stock = str(int(rng.random() ** 2 * 3_000))
    active = "t" if rng.random() < ACTIVE else "f"
    lengths = (f"{int(rng.random() * 400) / 2:g}" for _ in range(3))
    day = EPOCH + timedelta(seconds=FIRST + int(rng.random() * (LAST - FIRST)))
    yield choose(rng, index, price, PRICES)
    yield choose(rng, index, stock, STOCKS)
    yield None if rng.random() < NO_ACTIVE else active
    yield choose(rng, index, write_array(lengths), DIMENSIONS)
    yield choose(rng, index, f"{day:%Y-%m-%d}", RELEASES)


def draw_times(rng: Random, index: int) -> tuple[str | None, str | None]:
    """Return when a product was created and updated; in some rows one is missing."""
    created_at = FIRST + int(rng.random() * (LAST - FIRST))
    life = 1 + int(rng.random() ** 3 * (LAST_UPDATE - created_at))
    created = write_utc(rng, created_at)
    updated = write_utc(rng, created_at + life)
    if rng.random() < UNTOUCHED:
        updated = created
    if index % HALF_DATED_EVERY == HALF_DATED_AT:
        is_first = index // HALF_DATED_EVERY % 2 == 0
        return (None, updated) if is_first else (created, None)
    return created, updated


def write_utc(rng: Random, seconds: int) -> str:
    """Write a Unix time as a timestamp in UTC; some have a fraction."""
    moment = (EPOCH + timedelta(seconds=seconds)).isoformat(" ")[:19]
    fraction = f".{int(rng.random() * 1_000):03d}"
    return moment + (fraction if rng.random() < WITH_FRACTION else "") + "+00"


def write_field(value: str | None) -> str:
    """Write a CSV field: NULL is empty, and an empty text is in quotes."""
    return "" if value is None else quote(value)


def write_records(
    path: Path, header: str, rows: Iterable[Sequence[str | None]]
) -> None:
    """Write a header and rows as CSV in UTF-8."""
    with path.open("wb") as file:
        file.write(f"{header}\n".encode())
        file.writelines(f"{','.join(map(write_field, row))}\n".encode() for row in rows)


def write_mapped_sample(folder: Path, count: int, seed: int, *, clean: bool) -> None:
    """Write *count* enterprises, and four times as many products, into *folder*.

    Args:
        folder: Where `enterprises_mapped.csv` and `products.csv` are written.
        count: How many enterprises; at least as many as bad ones unless *clean*.
        seed: The same seed gives the same rows; *clean* changes only the bad ones.
        clean: Whether ordinary rows replace the bad ones.

    """
    enterprises = list(generate_enterprises(count, seed, clean=clean))
    ids = [one.id for one in enterprises]
    products = count * PRODUCTS_PER_ENTERPRISE
    write_records(
        folder / "enterprises_mapped.csv",
        "id,name,plan,seats,settings,tags,owner_email,created_date,updated_date",
        enterprises,
    )
    write_records(
        folder / "products.csv",
        "id,enterprise_id,name,price,stock,active,dimensions,released,created_at,"
        "updated_at",
        generate_products(ids, products, seed, clean=clean),
    )
