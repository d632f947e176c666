"""The prices of DynamoDB as AWS publishes them, as far as they were checked.

Only regions whose prices were looked up are in the table. For any other region, or if a
price has changed since, prices are given by hand (``plan --price``).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from flows.errors import SettingsError

MILLION = 1_000_000
CENT = 0.01
AS_OF = "2024-11-01"
SOURCE = "https://aws.amazon.com/dynamodb/pricing/, table class Standard, without taxes"


@dataclass(frozen=True)
class Prices:
    """Prices in dollars; None if a price is unknown.

    On demand, per million write or read request units; provisioned, per write or read
    capacity unit and hour.
    """

    million_writes: float | None = None
    million_reads: float | None = None
    write_hour: float | None = None
    read_hour: float | None = None

    def asdict(self) -> dict[str, Any]:
        """Return the prices by name."""
        return asdict(self)


PRICES = {
    "us-east-1": Prices(
        million_writes=0.625,
        million_reads=0.125,
        write_hour=0.00065,
        read_hour=0.00013,
    ),
}
NAMES = tuple(field.name.replace("_", "-") for field in fields(Prices))


def find_prices(region: str, given: Iterable[str] = ()) -> tuple[Prices, str]:
    """Return a region's prices, and the origin of each of them.

    *given* prices, such as ``million-writes=0.7``, override the table.

    Raises:
        SettingsError: a given price cannot be parsed.
    """
    own = dict(_read(pair) for pair in given)
    known = PRICES.get(region)
    prices = replace(known or Prices(), **own)
    if known is None:
        regions = ", ".join(PRICES)
        origin = f"No prices for {region} are known, only for {regions}: give --price."
    else:
        origin = f"{region}, as of {AS_OF}: {SOURCE}."
    if own:
        origin = f"Given: {', '.join(sorted(own))}. {origin}"
    return prices, origin


def cost_of(capacity: Mapping[str, float], region: str) -> dict[str, str]:
    """Return the cost of consumed units on demand, in dollars; empty if unknown."""
    known = PRICES.get(region)
    if known is None or known.million_writes is None or known.million_reads is None:
        return {}
    writes = capacity.get("write_units", 0.0) * known.million_writes / MILLION
    reads = capacity.get("read_units", 0.0) * known.million_reads / MILLION
    costs = {"writes": writes, "reads": reads, "total": writes + reads}
    return {name: format_dollars(cost) for name, cost in costs.items()}


def format_dollars(dollars: float) -> str:
    """Format an amount to the cent; show less than a cent as "< 0.01"."""
    return "< 0.01" if 0 < dollars < CENT else f"{dollars:,.2f}"


def _read(pair: str) -> tuple[str, float]:
    name, _, text = pair.partition("=")
    try:
        dollars = float(text)
    except ValueError:
        dollars = -1.0
    if name not in NAMES or not 0 <= dollars < float("inf"):
        message = f"--price {pair} is not a price."
        raise SettingsError(message, f"Write NAME=DOLLARS, NAME of {', '.join(NAMES)}.")
    return name.replace("-", "_"), dollars
