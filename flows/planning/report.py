"""The report of a plan: the units of the table, the time and the cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, Self

from flows.models import (
    LEFT_BEHIND,
    Report,
    SourceTable,
    describe_columns_left,
    describe_left_behind,
)
from flows.planning.estimate import Measured, Units
from flows.stores.dynamodb.capacity_units import TABLE
from flows.stores.dynamodb.prices import Prices, format_dollars
from flows.stores.dynamodb.throughput import QUOTA, Throughput

HOUR, MILLION = 3_600, 1_000_000
HOLDS, MISSING, NO_ENTERPRISES = "holds enterprises", "missing", "no enterprises"


@dataclass(frozen=True)
class Sampled:
    """The figures of a sample that stand for all rows: the items' bytes, and shares.

    ``valid`` is the valid share of the rows that fit, ``there`` the number of items
    that the table has already. ``units`` are those of putting and reading the items,
    ``written`` those that a load would consume in each place, per unit of putting them
    into the table.
    """

    rows: int
    items: tuple[int, ...]
    valid: float
    written: Mapping[str, float]
    there: int
    units: Units

    def __add__(self, other: Self) -> "Sampled":
        return Sampled(
            self.rows + other.rows,
            self.items + other.items,
            # Their shares are already applied to what was measured.
            1.0,
            _weighted(self, other),
            self.there + other.there,
            self.units + other.units,
        )


def _weighted(one: Sampled, other: Sampled) -> dict[str, float]:
    """Return the shares that a load would write of both samples together."""
    whole = [sample.units.by_place.get(TABLE, 0.0) for sample in (one, other)]
    places = {**one.written, **other.written}
    return {
        place: sum(
            sample.written.get(place, 0.0) * units
            for sample, units in zip((one, other), whole, strict=True)
        )
        / (sum(whole) or 1.0)
        for place in places
    }


@dataclass(frozen=True, repr=False)
class MigrationPlan(Report):
    """The units that loading and comparing would consume of the table as it is now."""

    sources: tuple[SourceTable, ...]
    target: dict[str, str]
    measured: Measured
    sampled: Sampled
    throughput: Throughput
    state: str
    load: Units
    reconcile: Units
    prices: Prices
    origin: str
    # What was measured of each source.
    parts: tuple[Measured, ...] = ()
    status: str = "planned"

    @property
    def quarantined(self) -> int:
        """Return how many rows would be put in quarantine."""
        return round(self.measured.rows - self.measured.items)

    @property
    def is_estimated(self) -> bool:
        """Return whether only a sample of the rows was validated."""
        return self.sampled.rows < self.measured.rows

    def asdict(self) -> dict[str, Any]:
        """Return the plan as plain values, in the form of ``plan --json``."""
        sizes = self.sampled.items
        throughput = asdict(self.throughput)
        return {
            "status": self.status,
            "source": {
                "table": ", ".join(dict.fromkeys(one.name for one in self.sources)),
                "rows": self.measured.rows,
                "counted": self.measured.counted,
                "quarantined": self.quarantined,
                "columns_not_migrated": describe_columns_left(self.sources),
                "referring_tables": [
                    name for one in self.sources for name in one.tables_left_behind
                ],
            },
            "target": {**self.target, "state": self.state, "bytes": throughput["size"]},
            "item": {
                "sampled_rows": self.sampled.rows,
                "bytes_mean": round(sum(sizes) / (len(sizes) or 1), 1),
                "bytes_largest": max(sizes, default=0),
            },
            "load": self._step(self.load),
            "reconcile": self._step(self.reconcile),
            "migrate": self._step(self.load, self.reconcile),
            "capacity": {
                "mode": throughput["mode"],
                "basis": throughput["basis"],
                "writes_a_second": throughput["writes"],
                "reads_a_second": throughput["reads"],
                "index_writes_a_second": throughput["indexes"],
                "quota_a_second": QUOTA,
            },
            "prices": {**self.prices.asdict(), "origin": self.origin},
        } | self._by_entity

    @property
    def _by_entity(self) -> dict[str, Any]:
        """Return the rows of each entity, if there are several."""
        if len(self.sources) == 1:
            return {}
        pairs = zip(self.sources, self.parts, strict=True)
        return {
            "entities": {
                source.entity: {
                    "table": source.name,
                    "rows": part.rows,
                    "quarantined": round(part.rows - part.items),
                    "bytes": round(part.size),
                }
                for source, part in pairs
            }
        }

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the parts that people read, as titled tables."""
        values = self.asdict()
        indexes = values["capacity"].pop("index_writes_a_second")
        values["capacity"] |= _in_indexes("writes_a_second in indexes", indexes)
        for name in ("columns_not_migrated", "referring_tables"):
            del values["source"][name]
        if self.is_estimated:
            count = values["source"].pop("quarantined")
            values["source"]["quarantined (estimated)"] = count
        steps = [(name, values[name]) for name in ("load", "reconcile", "migrate")]
        parts = [
            ("Source", values["source"]),
            (LEFT_BEHIND, describe_left_behind(self.sources)),
            ("Target", values["target"]),
            ("Item", values["item"]),
            *((name.capitalize(), _flat(step)) for name, step in steps),
            ("Capacity", values["capacity"]),
            ("Prices", {k: v for k, v in values["prices"].items() if v is not None}),
        ]
        return [(title, row) for title, row in parts if row]

    @property
    def verdict(self) -> str:
        """Return what a migrate would do, as one sentence."""
        how = "fill a table without enterprises"
        if self.state == HOLDS:
            how = "read each item and write what differs"
        return (
            f"A migrate would {how}, then compare. Seconds are those of the store; the"
            " client may take longer."
        )

    def _step(self, *parts: Units) -> dict[str, Any]:
        table, prices = self.throughput, self.prices
        units = sum(parts, Units())
        rates = {"present": table, "quota": table.at_quota}
        return {
            "write_units": round(units.writes),
            "index_write_units": {k: round(n) for k, n in units.in_indexes.items()},
            "read_units": round(units.reads),
            # The parts run in sequence; each takes as long as its slowest resource.
            "seconds": {
                name: round(sum(_seconds(part, rate) for part in parts), 1)
                for name, rate in rates.items()
            },
            "on_demand_dollars": _dollars(
                (units.writes / MILLION, prices.million_writes),
                (units.reads / MILLION, prices.million_reads),
            ),
            "provisioned": _provisioned(units, table, prices),
        }


def _seconds(units: Units, table: Throughput) -> float:
    """Return the seconds of the slowest resource: table, global indexes, or reads."""
    own, indexes = _by_throughput(units, table)
    seconds = [n / table.indexes[name] for name, n in indexes.items()]
    return max(own / table.writes, units.reads / table.reads, *seconds)


def _by_throughput(units: Units, table: Throughput) -> tuple[float, dict[str, float]]:
    """Return the write units of the table, and those of each global index.

    A local index shares the table's throughput.
    """
    indexes = {name: units.by_place.get(name, 0.0) for name in table.indexes}
    return units.writes - sum(indexes.values()), indexes


def _dollars(*parts: tuple[float, float | None]) -> float | None:
    """Add up counts at their prices; None if one of the prices is not known."""
    costs = [count * price for count, price in parts if price is not None]
    return round(sum(costs), 6) if len(costs) == len(parts) else None


def _provisioned(units: Units, table: Throughput, prices: Prices) -> dict[str, Any]:
    """Return the cost of provisioned capacity: the table's, or enough for one hour.

    Global indexes have separate write capacity. Hours are billed whole.
    """
    if table.mode != "provisioned":
        table = _for_an_hour(units, table)
    writes, reads = table.writes + sum(table.indexes.values()), table.reads
    hours = max(1, ceil(_seconds(units, table) / HOUR))
    return {
        "write_capacity": writes,
        "read_capacity": reads,
        "hours": hours,
        "dollars": _dollars(
            (writes * hours, prices.write_hour), (reads * hours, prices.read_hour)
        ),
    }


def _for_an_hour(units: Units, table: Throughput) -> Throughput:
    """Return the least capacity that takes the units within an hour."""
    own, indexes = _by_throughput(units, table)
    needed = {name: _hourly(n) for name, n in indexes.items()}
    reads = _hourly(units.reads)
    return replace(table, writes=_hourly(own), reads=reads, indexes=needed)


def _hourly(units: float) -> float:
    return min(QUOTA, max(1.0, ceil(units / HOUR)))


def _flat(step: dict[str, Any]) -> dict[str, Any]:
    """Return a step as one row for people."""
    provisioned = step["provisioned"]
    return {
        "write units": step["write_units"],
        **_in_indexes("write units in indexes", step["index_write_units"]),
        "read units": step["read_units"],
        "seconds at present": step["seconds"]["present"],
        "seconds at the quota": step["seconds"]["quota"],
        "dollars on demand": _told(step["on_demand_dollars"]),
        f"dollars provisioned ({provisioned['hours']} h)": _told(
            provisioned["dollars"]
        ),
    }


def _in_indexes(title: str, values: Mapping[str, float]) -> dict[str, str]:
    """Return a number of each index under one title; empty without indexes."""
    texts = [f"{name} {value:,.0f}" for name, value in values.items()]
    return {title: ", ".join(texts)} if texts else {}


def _told(dollars: float | None) -> str:
    return "not known" if dollars is None else format_dollars(dollars)
