"""The result of a reconciliation: findings, verdict and new differences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, Self

import pandas as pd

from flows.errors import Unproven
from flows.models import (
    CLASSES,
    DIFFERENT,
    LEFT_BEHIND,
    WITHOUT_ROW,
    Difference,
    DifferenceClass,
    Report,
    SourceTable,
    describe_columns,
    describe_columns_left,
    describe_left_behind,
)
from flows.reconciliation.drift import Days, draw_comparison, new_classes
from flows.reconciliation.verdict import (
    describe_items_left,
    describe_wrong,
    explain_unproven,
    state_verdict,
)
from flows.reports.charts import Drawing
from flows.reports.circumstances import Circumstances
from flows.reports.glossary import meaning_of
from flows.reports.rendering import COST
from flows.reports.spot_checks import SpotCheck
from flows.stores.dynamodb.prices import cost_of

FIRST_DIFFERENCES, SHOWN_DIFFERENCES = 1_000, 5
TARGET = ("table", "region", "endpoint")
# They are no differences, and are not proven equal either.
EXCEPTED = tuple(name for name in CLASSES[1:] if name not in DIFFERENT)


@dataclass(frozen=True, repr=False)
class ReconciliationReport(Report):
    """The result of a comparison: counts by class, and every difference."""

    details = frozenset({"Seconds", "Capacity", COST})
    source_rows: int
    target_items: int
    counts: Mapping[str, int]
    found: tuple[Difference, ...] = ()
    # Rows in quarantine that have an item anyway; these items are not compared.
    explained_with_item: int = 0
    sources: tuple[SourceTable, ...] = ()
    # Rows in quarantine that no proven run accepted.
    unaccepted: int = 0
    allow_empty: bool = False
    # The run that held the lease during the comparison, and since when.
    under_way: Mapping[str, str] | None = None
    other_items: Mapping[str, int] = field(default_factory=dict)
    days: Days = field(default_factory=dict)
    taken: str = ""
    sample: int | None = None
    # Whether all rows were compared: ``full``, ``sampled`` or ``partial``.
    mode: str = "full"
    repair: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] | None = None
    name: str = ""
    # Source table, target table, region and endpoint.
    where: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    capacity: Mapping[str, float] = field(default_factory=dict)
    # Classes of differences that are new since the last full reconciliation.
    new_classes: tuple[str, ...] = ()
    # The reconciliations of this source and table; the last one is this one.
    history: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)
    # Versions and settings, without secrets.
    environment: Mapping[str, str] = field(default_factory=dict)
    circumstances: Circumstances = field(default_factory=Circumstances)
    spot_checks: tuple[SpotCheck, ...] = ()
    # The reports of several entities, by entity.
    parts: Mapping[str, Self] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Return ``clean``, ``different`` or ``unproven``; a sample is ``sampled``."""
        if self.sample is not None:
            return "sampled"
        if self.wrong:
            return "different"
        return "unproven" if self.unproven else "clean"

    @property
    def exit_code(self) -> int:
        """Return the exit code of a command that ends with this report."""
        return 0 if self.status == "clean" else Unproven.exit_code

    @property
    def unproven(self) -> str:
        """Return why nothing is proven although nothing differs; empty if it is."""
        return explain_unproven(self)

    @property
    def verdict(self) -> str:
        """Return the verdict as one sentence."""
        return state_verdict(self)

    @property
    def left(self) -> str:
        """Return a clause about explained rows that have an item anyway."""
        return describe_items_left(self)

    @property
    def wrong(self) -> str:
        """Return the counts of the classes that make the two sides different."""
        return describe_wrong(self)

    @property
    def differences(self) -> pd.DataFrame:
        """Return the differences, one row per key and differing field.

        Those of several entities have a column ``entity``.
        """
        columns = ["class", "source_id", "id", "field", "source", "target"]
        rows = [
            (d.kind, d.source_id, d.id, name, sides.get("source"), sides.get("target"))
            for d in self.found
            for name, sides in (d.fields or {"": {}}).items()
        ]
        frame = pd.DataFrame(rows, columns=columns, dtype=object)
        if self.parts:
            entities = [d.entity for d in self.found for _ in d.fields or [""]]
            frame.insert(1, "entity", pd.Series(entities, dtype=object))
        return frame

    @property
    def first_differences(self) -> tuple[Difference, ...]:
        """Return the first keys that differ, for the terminal."""
        return tuple(d for d in self.found if d.kind in DIFFERENT)[:SHOWN_DIFFERENCES]

    @property
    def facts(self) -> dict[str, Any]:
        """Return the values that the state records for a reconciliation."""
        return {
            "name": self.name,
            "snapshot": self.taken,
            "mode": self.mode,
            "status": self.status,
            "verdict": self.verdict,
            "source_rows": self.source_rows,
            "target_items": self.target_items,
            "counts": dict(self.counts),
        }

    def with_history(self, history: Sequence[Mapping[str, Any]]) -> Self:
        """Return the report with the history that ends with it, and the new classes."""
        new = new_classes(history[:-1], self.counts)
        return replace(self, new_classes=new, history=tuple(history))

    @property
    def heading(self) -> str:
        """Return the title of the report's page."""
        return f"Reconciliation {self.name}: {self.status}"

    @property
    def subject(self) -> str:
        """Return what the report is of, for its first lines."""
        return f"{self.name}, {self.mode} comparison"

    @property
    def snapshot(self) -> str:
        """Return the time and LSN of the compared snapshot."""
        return self.taken

    @property
    def target(self) -> dict[str, str]:
        """Return the table's name, region and endpoint."""
        return {name: self.where.get(name, "") for name in TARGET}

    @property
    def excepted(self) -> list[str]:
        """Return the rows and items that are excepted from the proof, with reasons."""
        parts = [
            f"{self.counts[name]:,} {name.replace('_', ' ')}: {meaning_of(name)}"
            for name in EXCEPTED
            if self.counts[name]
        ]
        if self.sample is not None:
            parts.insert(0, f"all rows but {self.source_rows:,} random ones")
        return parts

    @property
    def appeared(self) -> str:
        """Return a sentence about the classes of differences that are new."""
        if self.under_way:
            return "This reconciliation is not recorded, since a run was under way."
        if len(self.history) < 2:  # noqa: PLR2004 - this and one before
            return "There is no earlier reconciliation of this source and table."
        if not self.new_classes:
            return "No class of differences is new since the previous reconciliation."
        return f"New since the previous reconciliation: {', '.join(self.new_classes)}."

    @property
    def charts(self) -> list[str]:
        """Draw the counts by day and the drift over time, without empty charts."""
        return draw_comparison(self.days, self.history)

    def plot(self) -> Drawing:
        """Draw the report's charts, for a notebook."""
        return Drawing(tuple(self.charts))

    def asdict(self) -> dict[str, Any]:
        """Return the report as plain values, with the first 1,000 differences."""
        return {
            "status": self.status,
            "statement": self.verdict,
            "exit_code": self.exit_code,
            "name": self.name,
            **self.circumstances.asdict(),
            "mode": self.mode,
            "source": {"table": self.where.get("source")},
            "target": dict(self.target),
            "snapshot": self.taken,
            "new_classes": list(self.new_classes),
            "under_way": dict(self.under_way) if self.under_way else None,
            "source_rows": self.source_rows,
            "target_items": self.target_items,
            "columns_migrated": describe_columns(self.sources),
            "columns_not_migrated": describe_columns_left(self.sources),
            "referring_tables": [n for s in self.sources for n in s.tables_left_behind],
            **self.shown_counts,
            "explained_with_item": self.explained_with_item,
            "other_items": dict(self.other_items) if self.mode == "full" else None,
            "excepted": self.excepted,
            "differences": self._listed,
            "spot_checks": [check.asdict() for check in self.spot_checks],
            "seconds": {step: round(took, 3) for step, took in self.seconds.items()},
            "capacity": dict(self.capacity),
            "files": dict(self.files or {}),
            **({"repair": dict(self.repair)} if self.repair else {}),
            **({"entities": self.entities} if self.parts else {}),
        }

    def part(self, entity: str) -> Self:
        """Return the report of one entity, of several or of this one alone.

        Raises:
            KeyError: the entity was not compared.
        """
        return self.parts[entity] if self.parts else self

    @property
    def entities(self) -> dict[str, dict[str, Any]]:
        """Return the counts and columns of each entity, for JSON."""
        return {
            name: {
                "table": next((one.name for one in part.sources), ""),
                "source_rows": part.source_rows,
                "target_items": part.target_items,
                **part.shown_counts,
                "explained_with_item": part.explained_with_item,
                "columns_migrated": describe_columns(part.sources),
                "columns_not_migrated": describe_columns_left(part.sources),
            }
            for name, part in self.parts.items()
        }

    @property
    def _listed(self) -> list[dict[str, Any]]:
        """Return the first differences; those of several entities name theirs."""
        listed = []
        for difference in self.found[:FIRST_DIFFERENCES]:
            values = difference.asdict()
            if self.parts:
                kind = values.pop("class")
                values = {"class": kind, "entity": difference.entity} | values
            listed.append(values)
        return listed

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the counts and the repair as tables."""
        rows: dict[str, Any] = {
            "source rows": self.source_rows,
            "target items": self.target_items,
        }
        under_way = dict(self.under_way or {})
        origins = Counter(
            d.origin for d in self.found if d.kind == DifferenceClass.EXTRA and d.origin
        )
        parts: list[tuple[str, dict[str, Any]]] = [
            (f"Reconciliation: {self.status}", rows | self.shown),
            ("Run under way", under_way),
            ("Extra items", dict(origins)),
            ("Other kinds of item", dict(self.other_items)),
            *((f"Entity {name}", part.summary) for name, part in self.parts.items()),
            (LEFT_BEHIND, describe_left_behind(self.sources)),
            ("Repair", dict(self.repair)),
            ("Seconds", {k: round(v, 3) for k, v in self.seconds.items()}),
            ("Capacity", dict(self.capacity)),
            (COST, cost_of(self.capacity, self.where.get("region", ""))),
        ]
        return [(title, row) for title, row in parts if row]

    def __str__(self) -> str:
        return f"{self.verdict}\n{super().__str__()}"

    def _repr_html_(self) -> str:
        said = f"<b>{escape(self.verdict)}</b>"
        if self.history:
            said += f"<br>{escape(self.appeared)}"
        return f"<p>{said}</p>{super()._repr_html_()}"

    def raise_for_failures(self) -> None:
        """Raise unless source and target agree.

        Raises:
            Unproven: some keys are different, or nothing is proven equal.
        """
        if self.wrong:
            message = f"Source and target differ: {self.wrong}."
            raise Unproven(message, "See the differences in the report.")
        if self.unproven:
            message = f"Nothing is proven: {self.unproven}."
            raise Unproven(message, "See: enterprises quarantine list")

    @property
    def shown_counts(self) -> dict[str, int | None]:
        """Return the counts by class; None for a class that was not compared.

        A comparison of some rows does not look for items without a row.
        """
        unseen = () if self.mode == "full" else WITHOUT_ROW
        return {n: None if n in unseen else c for n, c in self.counts.items()}

    @property
    def summary(self) -> dict[str, int]:
        """Return the rows, the items, and the classes that occur, for display."""
        sizes = {"source rows": self.source_rows, "target items": self.target_items}
        return sizes | {name: count for name, count in self.counts.items() if count}

    @property
    def shown(self) -> dict[str, int | str]:
        """Return the counts by class, for display."""
        counts = self.shown_counts.items()
        return {n: "not compared" if count is None else count for n, count in counts}
