"""The status of a migration: who writes, how far it is, and what is proven.

It reads two items of the table and the state, and changes neither. Each may be missing.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from flows.errors import MigrationError, Refused, TargetError
from flows.mapping import load_mapping
from flows.mapping.model import ENTERPRISE
from flows.run.past_runs import next_of
from flows.settings import Settings, load_settings
from flows.state.database import shown
from flows.state.overview import Overview, Proof, RunRecord, as_iso
from flows.state.tables import REPAIR
from flows.stores.dynamodb.backoff import Backoff
from flows.stores.dynamodb.lease import CUTOVER, LEASE
from flows.stores.dynamodb.table import OWN_PARTITION, open_table
from flows.stores.dynamodb.wire import from_wire, to_wire
from flows.stores.postgres.schema import tables_of

T = TypeVar("T")

# How long the table may take to answer.
ASK_SECONDS = 5.0
NO_STATE = "no run has created it"
# The run id in the lease of ``cutover declare``.
DECLARING = "cutover"


@dataclass(frozen=True)
class HeldLease:
    """The lease in the table, which may have expired."""

    run: str
    owner: str
    since: str
    # Seconds until it expires; negative if its holder has died.
    left: float

    @property
    def held(self) -> bool:
        """Return whether its holder may still write."""
        return self.left > 0


@dataclass(frozen=True)
class Pace:
    """The speed of a run: rows per second, and what is left at that speed."""

    # Estimated from the largest partition until all are finished.
    rows: int | None = None
    rows_per_second: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class TableFacts:
    """What the table shows: the lease, and when the cutover was declared, if it was."""

    where: str
    lease: HeldLease | None
    cutover: str


@dataclass(frozen=True)
class StateFacts:
    """What the state shows: the run that matters now, and the last proofs."""

    run: RunRecord | None = None
    pace: Pace = field(default_factory=Pace)
    full: Proof | None = None
    incremental: Proof | None = None


@dataclass(frozen=True)
class MigrationStatus:
    """All facts of ``status``; None is unknown, or not there."""

    phase: str
    source: str
    target: str
    state: str
    lease: HeldLease | None
    # When the cutover was declared; empty if it is not.
    cutover: str | None
    facts: StateFacts
    # Why the table or the state cannot be read.
    unknown: dict[str, str]
    at: float = field(default_factory=time.time)

    @property
    def under_way(self) -> bool:
        """Return whether a run may be writing."""
        return self.lease is not None and self.lease.held

    @property
    def next(self) -> str | None:
        """Return the command that comes next; None while a run is under way."""
        if self.under_way or "table" in self.unknown or self.facts.run is None:
            return None
        return next_of(self.facts.run)

    @property
    def snapshot(self) -> datetime | None:
        """Return the time of the snapshot: of the run under way, else of the proof.

        A run takes its lease in the moment after its snapshot.
        """
        run, full = self.facts.run, self.facts.full
        if self.lease is not None and self.lease.held and run is not None:
            return as_moment(self.lease.since) or run.begun
        return as_moment(full.snapshot.partition(",")[0]) if full else None

    @property
    def snapshot_age(self) -> float | None:
        """Return the age of the snapshot in seconds."""
        taken = self.snapshot
        return None if taken is None else round(self.at - taken.timestamp(), 1)

    def asdict(self) -> dict[str, Any]:
        """Return the facts as plain values, in the form of ``status --json``."""
        lease, facts, taken = self.lease, self.facts, self.snapshot
        cutover = None
        if self.cutover is not None:
            declared_at = self.cutover or None
            cutover = {"declared": bool(declared_at), "declared_at": declared_at}
        return {
            "status": self.phase,
            "source": self.source,
            "target": self.target,
            "state": self.state,
            "lease": asdict(lease) | {"held": lease.held} if lease else None,
            "run": _run_as_dict(facts.run, facts.pace) if facts.run else None,
            "snapshot": {"at": as_iso(taken), "seconds": self.snapshot_age}
            if taken
            else None,
            "proofs": {
                "full": _proof_as_dict(facts.full),
                "incremental": _proof_as_dict(facts.incremental),
            },
            "cutover": cutover,
            "unknown": dict(self.unknown),
        }


def read_status() -> MigrationStatus:
    """Read the status under the current settings; change nothing.

    Raises:
        Refused: a setting is invalid, or neither the table nor the state can be read.
    """
    settings = load_settings()
    table, of_table = _try(partial(_read_table, settings))
    lease = table.lease if table else None
    state, of_state = _try(partial(_read_state, settings, lease))
    if of_table and state is None:
        if isinstance(of_table, Refused):
            raise of_table
        raise TargetError(of_table.message, of_table.remedy)
    unknown = {}
    if of_table:
        unknown["table"] = of_table.message
    if state is None:
        unknown["state"] = of_state.message if of_state else NO_STATE
    state = state or StateFacts()
    return MigrationStatus(
        phase=_phase(lease, state.run) if table else "unknown",
        source=".".join(_root_table(settings)),
        target=table.where if table else settings.dynamodb_enterprise_table,
        state=shown(settings.state_url.get_secret_value()).removeprefix(" in "),
        lease=lease,
        cutover=table.cutover if table else None,
        facts=state,
        unknown=unknown,
    )


def _try(read: Callable[[], T]) -> tuple[T | None, MigrationError | None]:
    try:
        return read(), None
    except MigrationError as error:
        return None, error


def _read_table(settings: Settings) -> TableFacts:
    """Read the lease and the marker of the cutover.

    Raises:
        MigrationError: the table gives no answer within seconds, or refuses.
    """
    table = open_table(settings)
    found = []
    for sort_key in (LEASE, CUTOVER):
        key = to_wire({"PK": OWN_PARTITION, "SK": sort_key})
        for attempt in Backoff(patience=ASK_SECONDS).attempts():
            with attempt:
                answer = table.request(
                    "GetItem",
                    ASK_SECONDS,
                    TableName=table.name,
                    Key=key,
                    ConsistentRead=True,
                )
        found.append(from_wire(answer["Item"]) if "Item" in answer else None)
    held, marker = found
    lease = None
    if held is not None:
        owner = str(held["owner"])
        lease = HeldLease(
            run=owner.partition("@")[0],
            owner=owner.partition("@")[2],
            since=str(held.get("taken_at", "")),
            left=round(int(held["expires"]) - time.time(), 1),
        )
    cutover = "" if marker is None else str(marker.get("declared_at"))
    return TableFacts(table.where, lease, cutover)


def _read_state(settings: Settings, lease: HeldLease | None) -> StateFacts | None:
    """Read the run that holds the lease, or else the last one, and the last proofs.

    Runs into other tables are left out.

    Raises:
        MigrationError: the state cannot be read.
    """
    overview = Overview.open(settings)
    if overview is None:
        return None
    with closing(overview):
        return _find_facts(overview, settings, lease)


def _root_table(settings: Settings) -> tuple[str, str]:
    """Return the table that identifies the migration: of enterprises, or the first."""
    tables = tables_of(settings, load_mapping(settings))
    return tables.get(ENTERPRISE) or next(iter(tables.values()))


def _find_facts(
    overview: Overview, settings: Settings, lease: HeldLease | None
) -> StateFacts:
    target = _target(settings)
    names = _root_table(settings)
    ours, others = [], set()
    for run_id, migration, identity in overview.identities():
        source = identity.get("source", {})
        same = (source.get("schema"), source.get("table")) == names
        if same and identity.get("target", [])[: len(target)] == target:
            ours.append(run_id)
        else:
            others.add(migration)
    if lease and lease.held:
        ours.insert(0, lease.run)
    run = overview.record(ours[0]) if ours else None
    return StateFacts(
        run=run,
        pace=_measure_pace(overview, run, lease) if run and lease else Pace(),
        full=overview.last_proof("full", others),
        incremental=overview.last_proof("partial", others),
    )


def _target(settings: Settings) -> list[str]:
    """Return what is known of the table, in the order of a run's identity."""
    table, _ = _try(partial(open_table, settings))
    if table is None:
        return [settings.dynamodb_enterprise_table]
    return [table.name, table.region, table.endpoint]


def _phase(lease: HeldLease | None, run: RunRecord | None) -> str:
    if lease is None or not lease.held:
        stopped = run is not None and run.status in {"running", "incomplete"}
        return "stopped" if stopped else "idle"
    if lease.run == DECLARING:
        return "declaring"
    if run is None:
        return "held"
    if run.mode == REPAIR:
        return "repairing"
    progress = run.progress
    if progress.partitions and not progress.begun:
        return "planning"
    return "moving" if progress.finished < progress.partitions else "proving"


def _measure_pace(overview: Overview, run: RunRecord, lease: HeldLease) -> Pace:
    """Measure the speed since the run took the lease, and estimate what is left."""
    if not lease.held:
        return Pace()
    progress, since = run.progress, as_moment(lease.since)
    outstanding = (progress.partitions - progress.finished) * progress.largest
    rows = progress.ledger.read + outstanding if progress.finished else None
    begun = since.timestamp() if since else run.begun.timestamp()
    loads = [(end, count) for end, count in overview.loads(run.run_id) if end > begun]
    if not loads:
        return Pace(rows)
    last = max(end for end, _ in loads)
    rate = sum(count for _, count in loads) / (last - begun)
    if not (rate and outstanding):
        return Pace(rows, round(rate, 1))
    left = max(0.0, outstanding / rate - (time.time() - last))
    return Pace(rows, round(rate, 1), round(left, 1))


def as_moment(text: str) -> datetime | None:
    """Return an ISO 8601 time; None if the text is no time with a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _run_as_dict(run: RunRecord, pace: Pace) -> dict[str, Any]:
    progress = run.progress
    return {
        "run_id": run.run_id,
        "mode": run.mode,
        "status": run.status,
        "begun": as_iso(run.begun),
        "partitions": {"finished": progress.finished, "all": progress.partitions},
        "rows": {"done": run.ledger.read, "about": pace.rows},
        "ledger": asdict(run.ledger),
        "rows_per_second": pace.rows_per_second,
        "seconds_left": pace.seconds_left,
    }


def _proof_as_dict(proof: Proof | None) -> dict[str, str] | None:
    if proof is None:
        return None
    facts = {"name": proof.name, "at": as_iso(proof.at), "snapshot": proof.snapshot}
    return facts | {"verdict": proof.verdict}
