"""The report of a run: one object, shown as text, HTML, JSON and Markdown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, Literal

from flows.errors import Incomplete, MigrationError, Unproven
from flows.models import (
    LEFT_BEHIND,
    Difference,
    Ledger,
    Report,
    SourceTable,
    add_counts,
    describe_coverage,
    describe_left_behind,
    is_usual,
)
from flows.reconciliation.report import ReconciliationReport
from flows.reports.charts import Drawing, draw_rate
from flows.reports.circumstances import Circumstances
from flows.reports.rendering import COST
from flows.reports.spot_checks import SpotCheck
from flows.reports.validation_results import (
    merge_validations,
)
from flows.run.entity_end import (
    EntityEnd,
    counts_of,
    describe_rows,
    plain_validation,
)
from flows.run.trial import Trial
from flows.stores.dynamodb.prices import cost_of

# Shown instead of the counts by class.
NOT_COMPARED = {"rows and items": "not compared"}
STEPS = ("extract", "validate", "transform", "load", "reconcile", "total")
CAPACITY = ("write_units", "read_units", "throttles", "retries")


@dataclass(frozen=True, repr=False)
class MigrationReport(Report):
    """The end of a run, with all facts that its verdict is based on."""

    details = frozenset({"Seconds", "Capacity", COST, "Plan and actual"})
    run_id: str
    # The end of each entity's part, in the order in which they were moved.
    entities: tuple[EntityEnd, ...]
    snapshot: str
    target: Mapping[str, str]
    allowed: int
    # The comparison of all entities.
    reconciliation: ReconciliationReport | None
    seconds: Mapping[str, float]
    capacity: Mapping[str, float]
    files: Mapping[str, str | None]
    warnings: tuple[str, ...] = ()
    stopped: str | None = None
    resumed: bool = False
    since: str | None = None
    replayed: str | None = None
    # The size of a trial, which is never proven.
    trial: Trial | None = None
    # DynamoDB's reasons for refusing items, with the number of items.
    refusals: Mapping[str, int] = field(default_factory=dict)
    # What loading waited for most: client CPU, source, table or a cap.
    limit: str | None = None
    # When each partition was loaded, in seconds since the epoch, and its rows.
    loading: tuple[tuple[float, float, int], ...] = ()
    # Versions and settings, none of them secret.
    environment: Mapping[str, str] = field(default_factory=dict)
    # Planned units, by the names of the capacity.
    planned: Mapping[str, float] = field(default_factory=dict)
    circumstances: Circumstances = field(default_factory=Circumstances)
    spot_checks: tuple[SpotCheck, ...] = ()

    @property
    def sources(self) -> tuple[SourceTable, ...]:
        """Return the sources of the entities."""
        return tuple(one.source for one in self.entities)

    @property
    def source_rows(self) -> int:
        """Return the number of rows of all entities."""
        return sum(one.rows for one in self.entities)

    @property
    def ledger(self) -> Ledger:
        """Return the outcomes of all rows, as the table has them at the end."""
        return sum((one.ledger for one in self.entities), Ledger())

    @property
    def loaded(self) -> Ledger:
        """Return the outcomes of all rows, as loading counted them."""
        return sum((one.loaded for one in self.entities), Ledger())

    @property
    def validation(self) -> dict[str, Any]:
        """Return the validations of all entities as one."""
        return merge_validations(one.validation for one in self.entities)

    @property
    def quarantine(self) -> dict[str, int]:
        """Return the number of quarantined rows by reason."""
        return add_counts(*(one.quarantine for one in self.entities))

    @property
    def status(self) -> Literal["proven", "unproven", "incomplete"]:
        """Return the verdict."""
        if self.stopped is not None:
            return "incomplete"
        return "unproven" if self.findings else "proven"

    @property
    def exit_code(self) -> int:
        """Return the exit code of a command that ends with this report."""
        if self.status == "proven":
            return 0
        return self._error.exit_code

    @property
    def _error(self) -> type[MigrationError]:
        return Incomplete if self.status == "incomplete" else Unproven

    @property
    def findings(self) -> list[str]:
        """Return the reasons why the run is not proven, one sentence each."""
        ledger, found = self.ledger, []
        if self.stopped is not None:
            return [self.stopped]
        if self.trial:
            compared = self.reconciliation
            equal = compared.counts["matched"] if compared else 0
            found.append(self.trial.describe(equal))
        if not self._adds_up:
            found.append(
                f"The ledger does not account for the {self.source_rows:,} rows of the"
                " source; this is a fault of the program."
            )
        if ledger.quarantined > self.allowed:
            found.append(
                f"{ledger.quarantined:,} rows are in quarantine, {self.allowed:,}"
                " allowed (--allow-quarantined)."
            )
        if ledger.failed:
            found.append(f"{ledger.failed:,} rows could not be written.")
        if self.reconciliation is None:
            found.append("Source and target were not compared.")
        elif self.reconciliation.wrong:
            counts = self.reconciliation.wrong
            found.append(f"Source and target differ: {counts}.")
        elif self.reconciliation.unproven:
            found.append(f"Nothing is proven: {self.reconciliation.unproven}.")
        return found

    @property
    def _adds_up(self) -> bool:
        ledger, loaded = self.ledger, self.loaded
        if not (ledger.balanced and loaded.balanced and ledger.unchanged >= 0):
            return False
        # A resumed run has loaded its partitions under more than one snapshot.
        whole = self.resumed or loaded.read == self.source_rows
        return whole and ledger.read == self.source_rows

    @property
    def verdict(self) -> str:
        """Return the verdict as one sentence."""
        if self.status != "proven" or self.reconciliation is None:
            return f"{self.status.capitalize()}: {' '.join(self.findings)}"
        counts = self.reconciliation.counts
        covered = describe_coverage(self.sources)
        parts = [
            f"{counts['matched']:,} of {self.source_rows:,} rows proven equal{covered}"
        ]
        if counts["newer_in_target"]:
            parts.append(f"{counts['newer_in_target']:,} newer in the target")
        if counts["explained"]:
            left = self.reconciliation.left
            parts.append(f"{counts['explained']:,} in quarantine{left}")
        if counts["deleted_in_target"]:
            parts.append(f"{counts['deleted_in_target']:,} deleted in the target")
        scope = f" of the rows stamped since {self.since} alone" if self.since else ""
        if self.replayed:
            scope = f" of the rows replayed from {self.replayed} alone"
        return f"Proven{scope}: {', '.join(parts)}, at {self.snapshot}."

    def raise_for_failures(self) -> None:
        """Raise unless the run is proven.

        Raises:
            Incomplete: the run stopped before its end.
            Unproven: the run finished and is not proven.
        """
        if self.status == "proven":
            return
        error = self._error(self.verdict, f"See {self.files.get('report')}.")
        error.report = self
        raise error

    def asdict(self) -> dict[str, Any]:
        """Return the report as plain values, in the form of ``migrate --json``."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "statement": self.verdict,
            "exit_code": self.exit_code,
            **self.circumstances.asdict(),
            "resumed": self.resumed,
            "trial": self.trial.asdict() if self.trial else None,
            "source": describe_rows(self.entities, self.snapshot),
            "target": dict(self.target),
            "ledger": asdict(self.ledger),
            "reconciliation": counts_of(self.reconciliation),
            "validation": plain_validation(self.validation),
            "seconds": {step: round(self.seconds.get(step, 0.0), 3) for step in STEPS},
            "capacity": {name: self.capacity.get(name, 0) for name in CAPACITY},
            "files": {
                name: self.files.get(name)
                for name in (
                    "report",
                    "report_json",
                    "quarantine",
                    "quarantine_parquet",
                    "id_map",
                    "validation",
                    "data_docs",
                )
            },
            "limit": self.limit,
            "planned": {name: round(count) for name, count in self.planned.items()},
            "refusals": dict(self.refusals),
            "findings": self.findings,
            "warnings": list(self.warnings),
            "excepted": self.excepted,
            "spot_checks": [check.asdict() for check in self.spot_checks],
        } | self._by_entity

    @property
    def _by_entity(self) -> dict[str, Any]:
        """Return each entity's part; nothing for the built-in mapping."""
        if len(self.entities) == 1 and is_usual(self.sources[0]):
            return {}
        parts = {one.source.entity: one.asdict() for one in self.entities}
        return {"entities": parts}

    def tables(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the parts that people read, as titled tables."""
        values = self.asdict()
        sides = list(values["validation"].values())
        compared = self.reconciliation.shown if self.reconciliation else NOT_COMPARED
        parts = [
            ("Ledger", values["ledger"]),
            ("Reconciliation", compared),
            ("Quarantine", self.quarantine),
            (LEFT_BEHIND, describe_left_behind(self.sources)),
            ("Refused by DynamoDB", self.refusals),
            ("Unusual rows", add_counts(*(side["warnings"] for side in sides))),
            ("Seconds", values["seconds"]),
            ("Capacity", values["capacity"]),
            (COST, cost_of(self.capacity, self.target.get("region", ""))),
            ("Plan and actual", self._beside_plan()),
        ]
        return [(title, dict(row)) for title, row in parts if row]

    @property
    def heading(self) -> str:
        """Return the title of the report's page."""
        return f"Run {self.name}: {self.status}"

    @property
    def subject(self) -> str:
        """Return what the report is of, for its first lines."""
        return f"run {self.run_id}{', resumed' if self.resumed else ''}"

    @property
    def excepted(self) -> list[str]:
        """Return the rows and items that are excepted from the proof, with reasons."""
        parts = []
        if self.since:
            parts.append(f"all rows that were stamped before {self.since}")
        if self.replayed:
            parts.append(f"all rows but those replayed from {self.replayed}")
        if self.reconciliation:
            parts += self.reconciliation.excepted
        else:
            parts.append("all rows: source and target were not compared")
        if self.quarantine:
            reasons = ", ".join(f"{name} {n:,}" for name, n in self.quarantine.items())
            parts.append(f"reasons of the quarantine: {reasons}")
        return parts

    @property
    def name(self) -> str:
        """Return the run's id, which heads its report."""
        return self.run_id

    @property
    def first_differences(self) -> tuple[Difference, ...]:
        """Return the first differences of the reconciliation, if there was one."""
        return self.reconciliation.first_differences if self.reconciliation else ()

    @property
    def charts(self) -> list[str]:
        """Draw what the reconciliation counted, and how fast the items were loaded."""
        charts = self.reconciliation.charts if self.reconciliation else []
        rate = draw_rate("Throughput while loading", self.loading)
        return [rate, *charts] if rate else charts

    def plot(self) -> Drawing:
        """Draw the report's charts, for a notebook."""
        return Drawing(tuple(self.charts))

    def _beside_plan(self) -> dict[str, float]:
        """Return the planned units of each kind, and those that the run consumed."""
        return {
            f"{name} {side}": round(counts.get(name, 0))
            for name in self.planned
            for side, counts in (("planned", self.planned), ("actual", self.capacity))
        }

    def __str__(self) -> str:
        return f"{self.verdict}\n{super().__str__()}"

    def _repr_html_(self) -> str:
        return f"<p><b>{escape(self.verdict)}</b></p>{super()._repr_html_()}"
