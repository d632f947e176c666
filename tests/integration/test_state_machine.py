"""Source, application and runs in any order: a model defines the expected table.

A Hypothesis state machine changes rows of a real PostgreSQL and items of DynamoDB
Local, runs, crashes, resumes and cuts over. After each run the whole table, the ledger,
the reconciliation and the verdict are compared with the model. It uses only two ids:
with more, the steps per id are too few to find an old bug.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID, uuid5

import numpy as np
import pandas as pd
import psycopg2
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flows import load, pipeline, prepare
from flows.errors import Ambiguous, CutoverDeclared, SourceLost, Throttled
from flows.models import (
    Decision,
    Ledger,
    MigrateOptions,
    Outcome,
    PartitionLedger,
    PartitionSpec,
    changed_by_application,
    decide,
    writes,
)
from flows.run import finish, proof
from flows.run.report import MigrationReport
from flows.settings import Settings, using
from flows.state import runs
from flows.state.database import make_engine
from flows.state.manifest import ManifestLog
from flows.stores.dynamodb import backoff, changes, faults, lease, table
from flows.stores.dynamodb.cutover_marker import declare_cutover, revoke_cutover
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from flows.stores.dynamodb.wire import from_wire, to_wire
from tests.support.runners import Each, running
from tests.support.target_table import as_puts
from validation import contract, facts
from validation.contract import Reason, Severity
from validation.report import FAILURE_COLUMNS, ValidationReport

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item: TypeAlias = dict[str, Any]

SOURCE_IDS = (1, -2)
NAMESPACE = UUID("f1bf414b-7026-5797-bdf7-4a76844e36fc")
NEVER = "infinity"
INSERT = "INSERT INTO enterprises VALUES (%s, %s, %s, %s)"
UPDATE = "UPDATE enterprises SET name = %s, updated_date = %s WHERE id = %s"
DELETE = "DELETE FROM enterprises WHERE id = %s"

RUNS = (
    "run",
    "run_with_faults",
    "run_beside_application",
    "run_with_deletes",
    "resume",
)
RULES = (
    *("insert", "update_later", "update_unstamped", "update_at_once"),
    *("update_backdated", "spoil", "delete"),
    *("edit_stamped", "edit_unstamped", "annotate", "discard"),
    *(*RUNS, "crash", "declare", "revoke"),
)
# Events that must occur in the rules; otherwise the test proves nothing.
EVENTS = (
    "created, before the cutover",
    "updated, before the cutover",
    "unchanged, before the cutover",
    "kept, since its stamp is later, before the cutover",
    "quarantined, before the cutover",
    "deleted, since its row is, before the cutover",
    "run after the cutover",
    "updated, after the cutover",
    "unchanged, after the cutover",
    "kept, since its stamp is later, after the cutover",
    "kept as the application edited it, after the cutover",
    "kept deleted, after the cutover",
    "quarantined, after the cutover",
    "an item without a row, after the cutover",
    "a crash after a write",
    "update throttled",
    "update lost",
    "update stamped",
    "update unstamped",
    "update deleted",
)

PICK = st.integers(0, 1)
ROWS = st.integers(1, 2)
FEW = st.integers(1, 3)


class Killed(Exception):
    """Simulates the death of the process: no handler of the program catches it."""


class Verdict(StrEnum):
    """The expected result of a run for one id."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    NEWER = "kept, since its stamp is later"
    EDITED = "kept as the application edited it"
    GONE = "kept deleted"
    QUARANTINED = "quarantined"
    EXTRA = "an item without a row"
    PROPAGATED = "deleted, since its row is"
    ABSENT = "neither row nor item"


WRITTEN = {Verdict.CREATED, Verdict.UPDATED}
EQUAL = WRITTEN | {Verdict.UNCHANGED}
KEPT = {Verdict.NEWER, Verdict.EDITED, Verdict.GONE}


@dataclass(frozen=True)
class Row:
    """A row of the source; its times have the format of an item."""

    name: str
    created: str
    updated: str


@dataclass
class Enterprise:
    """One id in both stores, in the state that the application and the rules left.

    *theirs* is true while the application's edit or deletion is the last change of the
    item. It becomes false if a run writes the item or finds it equal to its row.
    *known* is true once a finished partition has recorded the item as existing. Without
    it a deleted item looks like one that was never written.
    """

    source_id: int
    row: Row | None = None
    item: Item | None = None
    theirs: bool = False
    known: bool = False

    @property
    def sound(self) -> Row | None:
        """Return the row if it can be an item."""
        return self.row if self.row and self.row.updated != NEVER else None

    @property
    def key(self) -> str:
        """Return the partition key of its item."""
        return f"ENT#{uuid5(NAMESPACE, str(self.source_id))}"

    @property
    def own(self) -> Item:
        """Return the ten attributes of the row's item."""
        assert self.row is not None
        name, created, updated = self.row.name, self.row.created, self.row.updated
        return {
            "PK": self.key,
            "SK": "METADATA",
            "id": self.key.removeprefix("ENT#"),
            "enterprise_name": name,
            "name": name,
            "created_date": created,
            "createdAt": created,
            "updated_date": updated,
            "updatedAt": updated,
            "entity_type": "enterprise",
        }

    @property
    def after_update(self) -> Item:
        """Return the item with the row's values; other attributes survive."""
        return (self.item or {}) | self.own

    def verdict(self, *, declared: bool, propagate: bool = False) -> Verdict:
        """Return the expected result of a run, before or after the cutover."""
        if self.row is None:
            return self._without_row(propagate=propagate)
        if self.sound is None:
            return Verdict.QUARANTINED
        if self.item is None:
            gone = declared and self.theirs and self.known
            return Verdict.GONE if gone else Verdict.CREATED
        if self.after_update == self.item:
            return Verdict.UNCHANGED
        if self.item["updatedAt"] > self.row.updated:
            return Verdict.NEWER
        return Verdict.EDITED if declared and self.theirs else Verdict.UPDATED

    def _without_row(self, *, propagate: bool) -> Verdict:
        if self.item is None:
            return Verdict.ABSENT
        return Verdict.PROPAGATED if propagate and not self.theirs else Verdict.EXTRA

    def settle(self, verdict: Verdict) -> None:
        """Apply the result of a run."""
        if verdict in WRITTEN:
            self.item = self.after_update
        if verdict is Verdict.PROPAGATED:
            self.item, self.known = None, False
        if verdict in EQUAL | {Verdict.PROPAGATED}:
            self.theirs = False


@dataclass
class Interference:
    """Interference with the writes of a run: faults, a death, an application."""

    # The event at the write of this number, counted from 1.
    script: dict[int, str] = field(default_factory=dict)
    application: Callable[[str, str], None] = lambda _key, _what: None
    dies_before_ledger: bool = False
    hard: bool = False
    writes: int = 0
    # The keys of the last manifest, and those of finished partitions.
    sent: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    # The number of times that each rule was applied and each event occurred.
    met: Counter[str] = field(default_factory=Counter)

    def begin(self, **values: Any) -> None:
        """Set the events of the next run."""
        calm = Interference(application=self.application, met=self.met)
        vars(self).update(vars(calm) | values)

    def before(self, kind: str, key: str) -> str:
        """Act before a write is sent; return its event."""
        self.writes += 1
        what = self.script.get(self.writes, "")
        if what == "throttled":
            self.met[f"{kind} {what}"] += 1
            message = "refused for its rate"
            raise Throttled(message)
        if what in {"stamped", "unstamped", "deleted"} and kind == "update":
            self.met[f"{kind} {what}"] += 1
            self.application(key, what)
        return what

    def after(self, kind: str, what: str) -> None:
        """Act after a write is applied, before the program gets the answer."""
        if what in {"lost", "killed"}:
            self.met[f"{kind} {what}"] += 1
        if what == "lost":
            message = "no clear answer"
            raise Ambiguous(message)
        if what == "killed":
            raise _death(hard=self.hard)


INTERFERENCE = Interference()


@dataclass(frozen=True)
class Services:
    """The two real stores, used directly as their owners would."""

    source: Any
    client: "DynamoDBClient"
    settings: Settings

    def execute(self, statement: str, *values: object) -> None:
        """Run one statement on the source."""
        with self.source.cursor() as cursor:
            cursor.execute(statement, values)

    @property
    def table(self) -> str:
        """Return the table's name."""
        return self.settings.dynamodb_enterprise_table

    def items(self) -> dict[str, Item]:
        """Read every item of the table, by its keys."""
        answer = self.client.scan(TableName=self.table, ConsistentRead=True)
        items: list[Any] = [from_wire(wire) for wire in answer["Items"]]
        return {f"{item['PK']} {item['SK']}": item for item in items}

    def enterprises(self) -> dict[str, Item]:
        """Read every item except the internal ones, by partition key."""
        return {i["PK"]: i for i in self.items().values() if i["PK"][:4] == "ENT#"}

    def put(self, item: Item) -> None:
        """Put an item, as the application does."""
        self.client.put_item(TableName=self.table, Item=to_wire(item))

    def delete(self, item: Item) -> None:
        """Delete an item, as the application does."""
        key: Any = to_wire({"PK": item["PK"], "SK": item["SK"]})
        self.client.delete_item(TableName=self.table, Key=key)

    def expire_lease(self) -> None:
        """Expire the lease of a dead holder."""
        held = self.items().get(f"{table.OWN_PARTITION} {lease.LEASE}")
        if held is not None:
            self.put(held | {"expires": 1})

    def clear(self) -> None:
        """Empty both stores."""
        self.execute("DELETE FROM enterprises")
        for item in self.items().values():
            self.delete(item)


class Migration(RuleBasedStateMachine):
    """Rows, items and runs in any order, together with a model of them."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._met = INTERFERENCE.met
        self._met["example"] += 1
        INTERFERENCE.application = self._interfere
        services.clear()
        folder = services.settings.runs_dir / f"example-{self._met['example']}"
        changes = {"state_url": f"sqlite:///{folder}/state.db", "runs_dir": folder}
        arguments = services.settings.model_dump(exclude_none=True) | changes
        self._settings = Settings.isolated(**arguments)
        self._open = ExitStack()
        self._open.enter_context(using(self._settings))
        self._enterprises = [Enterprise(number) for number in SOURCE_IDS]
        self._clock = 0
        self._declared = False
        # The statuses of the runs by their ids, in the order in which they began.
        self._status: dict[str, str] = {}
        # The keys that each run has written, according to its finished partitions.
        self._written: defaultdict[str, set[str]] = defaultdict(set)
        self._changed = False
        self._ran = False

    def teardown(self) -> None:
        """Deactivate the settings of the example."""
        self._open.close()

    @initialize(after=st.sampled_from(["the cutover", "a run", "nothing"]))
    def begin(self, after: str = "a run") -> None:
        """Begin with all rows, perhaps with their items, perhaps after the cutover."""
        for _ in SOURCE_IDS:
            self.insert()
        if after != "nothing":
            self._run(MigrateOptions())
        if after == "the cutover":
            self.declare()

    # Actions of the source's owner.

    @precondition(lambda self: self._some(row=False))
    @rule(pick=PICK)
    def insert(self, pick: int = 0) -> None:
        """Insert a row."""
        one = self._pick(pick, row=False)
        stamp = self._later()
        one.row = Row(f"row {stamp}", stamp, stamp)
        values = (one.source_id, one.row.name, stamp, stamp)
        self._services.execute(INSERT, *values)
        self._done("insert")

    @precondition(lambda self: self._some(row=True))
    @rule(pick=PICK)
    def update_later(self, pick: int = 0) -> None:
        """Update a row, with a later stamp."""
        self._update(self._pick(pick, row=True), self._later())
        self._done("update_later")

    @precondition(lambda self: self._some(sound=True))
    @rule(pick=PICK)
    def update_unstamped(self, pick: int = 0) -> None:
        """Update a row, and keep its stamp."""
        one = self._pick(pick, sound=True)
        assert one.row is not None
        self._update(one, one.row.updated)
        self._done("update_unstamped")

    @precondition(lambda self: self._some(row=True, item=True))
    @rule(pick=PICK)
    def update_at_once(self, pick: int = 0) -> None:
        """Update a row in the millisecond in which its item was updated."""
        one = self._pick(pick, row=True, item=True)
        assert one.item is not None
        self._update(one, one.item["updatedAt"])
        self._done("update_at_once")

    @precondition(lambda self: self._some(row=True))
    @rule(pick=PICK)
    def update_backdated(self, pick: int = 0) -> None:
        """Update a row, and set its stamp back to its creation."""
        one = self._pick(pick, row=True)
        assert one.row is not None
        self._update(one, one.row.created)
        self._done("update_backdated")

    @precondition(lambda self: self._some(sound=True))
    @rule(pick=PICK)
    def spoil(self, pick: int = 0) -> None:
        """Give a row a time that no item can have: it belongs in quarantine."""
        self._update(self._pick(pick, sound=True), NEVER)
        self._done("spoil")

    @precondition(lambda self: self._some(row=True))
    @rule(pick=PICK)
    def delete(self, pick: int = 0) -> None:
        """Delete a row."""
        self._delete(self._pick(pick, row=True))
        self._done("delete")

    # Actions of the application.

    @precondition(lambda self: self._some(item=True))
    @rule(pick=PICK)
    def edit_stamped(self, pick: int = 0) -> None:
        """Edit an item with a later stamp."""
        self._edit(self._pick(pick, item=True), self._later())
        self._done("edit_stamped")

    @precondition(lambda self: self._some(item=True))
    @rule(pick=PICK)
    def edit_unstamped(self, pick: int = 0) -> None:
        """Edit an item, keep its stamp, and add an attribute."""
        one = self._pick(pick, item=True)
        assert one.item is not None
        self._edit(one, one.item["updatedAt"], extra=True)
        self._done("edit_unstamped")

    @precondition(lambda self: self._some(item=True))
    @rule(pick=PICK)
    def annotate(self, pick: int = 0) -> None:
        """Add an attribute to an item, and keep the migrated attributes."""
        one = self._pick(pick, item=True)
        assert one.item is not None
        one.item["contact"] = f"since {self._later()}"
        self._services.put(one.item)
        self._done("annotate")

    @precondition(lambda self: self._some(item=True))
    @rule(pick=PICK)
    def discard(self, pick: int = 0) -> None:
        """Delete an item."""
        self._discard(self._pick(pick, item=True))
        self._done("discard")

    # Actions of the operator.

    @precondition(lambda self: self._may_run())
    @rule(rows=ROWS, again=st.booleans())
    def run(self, rows: int = 2, *, again: bool = False) -> None:
        """Run, and perhaps again: a correct item must not be written again."""
        self._run(MigrateOptions(partition_rows=rows))
        if again:
            second = self._run(MigrateOptions(partition_rows=rows))
            assert second.ledger.written == 0, "a second run wrote again"
        self._done("run")

    @precondition(lambda self: self._may_run(changed=True) and self._some(row=True))
    @rule(pick=PICK, rows=ROWS, what=st.sampled_from(["lost", "throttled"]), nth=FEW)
    def run_with_faults(
        self, what: str, nth: int = 1, pick: int = 0, rows: int = 2
    ) -> None:
        """Update a row, and run while writes are refused or their answers are lost."""
        self._update(self._pick(pick, row=True), self._later())
        script = {nth: what, nth + 1: what}
        self._run(MigrateOptions(partition_rows=rows), script=script)
        self._done("run_with_faults")

    @precondition(
        lambda self: self._may_run(changed=True) and self._some(row=True, item=True)
    )
    @rule(
        pick=PICK, rows=ROWS, what=st.sampled_from(["deleted", "stamped", "unstamped"])
    )
    def run_beside_application(self, what: str, pick: int = 0, rows: int = 2) -> None:
        """Update a row, and run while the application changes the item just read.

        It does so again at the third write, so that a second attempt can fail too.
        """
        self._update(self._pick(pick, row=True, item=True), self._later())
        options = MigrateOptions(partition_rows=rows)
        self._run(options, script={1: what, 3: what})
        self._done("run_beside_application")

    @precondition(lambda self: self._may_run(changed=True) and self._some(row=True))
    @rule(
        pick=PICK,
        rows=ROWS,
        what=st.sampled_from(["calm", "lost", "throttled"]),
        nth=FEW,
    )
    def run_with_deletes(
        self, what: str = "calm", nth: int = 1, pick: int = 0, rows: int = 2
    ) -> None:
        """Delete a row, and run so that items without their rows are deleted."""
        self._delete(self._pick(pick, row=True))
        options = MigrateOptions(partition_rows=rows, propagate_deletes=2)
        self._run(options, script={nth: what})
        self._done("run_with_deletes")

    @precondition(lambda self: self._may_run(changed=True) and self._some(row=True))
    @rule(
        where=st.sampled_from(["partition", "write", "ledger"]),
        nth=FEW,
        pick=PICK,
        rows=ROWS,
        hard=st.booleans(),
        resumed=st.booleans(),
    )
    def crash(
        self,
        where: str,
        nth: int = 1,
        pick: int = 0,
        rows: int = 2,
        *,
        hard: bool = False,
        resumed: bool = False,
    ) -> None:
        """Update a row, run or resume, and end between partitions, writes or ledgers.

        *hard* is the death of a process: nothing is cleaned up, the lease expires.
        """
        self._update(self._pick(pick, row=True), self._later())
        resumed = resumed and bool(self._unproven)
        options = MigrateOptions(
            partition_rows=rows, resume=self._unproven[-1] if resumed else None
        )
        self._attempt(
            options,
            each=_ending(nth - 1, hard=hard) if where == "partition" else map,
            script={nth: "killed"} if where == "write" else {},
            dies_before_ledger=where == "ledger",
            hard=hard,
        )
        self._services.expire_lease()
        self._done("crash")

    @precondition(lambda self: self._unproven and self._may_write())
    @rule(pick=PICK)
    def resume(self, pick: int = 0) -> None:
        """Resume the last run, or an earlier one."""
        run_id = self._unproven[-1 - pick % len(self._unproven)]
        last = run_id == list(self._status)[-1]
        self._run(MigrateOptions(resume="last" if last else run_id))
        self._done("resume")

    @precondition(lambda self: not self._declared and self._ran)
    @rule()
    def declare(self) -> None:
        """Declare the cutover; a run without --after-cutover must be refused."""
        table = open_table(self._settings)
        declare_cutover(table, Lease(table, "cutover", 30))
        before = self._services.items()
        with pytest.raises(CutoverDeclared):
            pipeline.migrate(MigrateOptions(allow_empty=True))
        assert self._services.items() == before, "a refused run wrote"
        self._declared, self._ran = True, False
        self._done("declare")

    @precondition(lambda self: self._declared and self._ran)
    @rule()
    def revoke(self) -> None:
        """Revoke the cutover."""
        assert revoke_cutover(open_table(self._settings))
        self._declared, self._ran = False, False
        self._done("revoke")

    # Assertions.

    def _run(self, options: MigrateOptions, **interference: Any) -> MigrationReport:
        """Run to the end, and compare everything with the model."""
        report = self._attempt(options, **interference)
        assert report is not None, "the run did not come to its end"
        assert report.stopped is None, report.stopped
        return report

    def _attempt(
        self, options: MigrateOptions, each: Each = map, **interference: Any
    ) -> MigrationReport | None:
        """Run, perhaps not to the end; return None if there is no report."""
        run_id = options.resume or f"run-{len(self._status) + 1}"
        if run_id == "last":
            run_id = list(self._status)[-1]
        changes: dict[str, Any] = {"allow_empty": True}
        changes["after_cutover"] = self._declared
        changes["run_id"] = None if options.resume else run_id
        INTERFERENCE.begin(**interference)
        self._changed, self._ran = False, True
        try:
            report = pipeline.migrate(
                options.model_copy(update=changes), runner=running(each)
            )
        except Killed:
            report = None
        finished = INTERFERENCE.finished
        INTERFERENCE.begin()
        self._status[run_id] = report.status if report else "incomplete"
        if report is None or report.stopped is not None:
            self._changed = True
            self._require_part_done(run_id, finished)
            assert report is None or report.ledger.balanced
        else:
            self._require_done(run_id, report, options)
            self._met["run after the cutover"] += self._declared
        return report

    def _require_done(
        self, run_id: str, report: MigrationReport, options: MigrateOptions
    ) -> None:
        """Assert that table, ledger, reconciliation and verdict follow the rules."""
        verdicts: Counter[Verdict] = Counter()
        written = 0
        for one in self._enterprises:
            propagate = options.propagate_deletes > 0
            verdict = one.verdict(declared=self._declared, propagate=propagate)
            self._settle(run_id, one, verdict, finished=True)
            verdicts[verdict] += 1
            written += verdict in EQUAL and one.key in self._written[run_id]
            phase = "after" if self._declared else "before"
            self._met[f"{verdict}, {phase} the cutover"] += 1
        wanted = {e.key: e.item for e in self._enterprises if e.item is not None}
        wrong = f"the table is not as the rules demand: {dict(verdicts)}"
        assert self._services.enterprises() == wanted, wrong
        _require_counts(report, verdicts, written)
        open_ends = verdicts[Verdict.QUARANTINED] + verdicts[Verdict.EXTRA]
        # If there are rows, at least one has to be equal to its item.
        equal = any(verdicts[v] for v in EQUAL) or not any(verdicts[v] for v in KEPT)
        status = "unproven" if open_ends or not equal else "proven"
        assert report.status == status, report.findings

    def _require_part_done(self, run_id: str, finished: set[str]) -> None:
        """Assert that each item is unchanged or as the run must leave it."""
        found = self._services.enterprises()
        for one in self._enterprises:
            verdict = one.verdict(declared=self._declared)
            after = replace(one)
            after.settle(verdict)
            actual = found.pop(one.key, None)
            assert actual in (one.item, after.item), "a crash left what no rule allows"
            if one.key in finished:
                assert actual == after.item, "a finished partition was not finished"
            if actual != one.item:
                self._met["a crash after a write"] += 1
            if actual != one.item or one.key in finished:
                self._settle(run_id, one, verdict, finished=one.key in finished)
        assert not found, "a crash left an item of no row"

    def _settle(
        self, run_id: str, one: Enterprise, verdict: Verdict, *, finished: bool
    ) -> None:
        one.settle(verdict)
        if finished:
            one.known |= one.row is not None and verdict in EQUAL | KEPT
            self._written[run_id] |= {one.key} if verdict in WRITTEN else set()

    # Helpers of the rules.

    def _some(self, **has: bool) -> bool:
        return any(self._eligible(**has))

    def _eligible(self, **has: bool) -> list[Enterprise]:
        return [
            one
            for one in self._enterprises
            if all((getattr(one, k) is not None) is v for k, v in has.items())
        ]

    def _pick(self, pick: int, **has: bool) -> Enterprise:
        eligible = self._eligible(**has)
        return eligible[pick % len(eligible)]

    @property
    def _unproven(self) -> list[str]:
        return [key for key, status in self._status.items() if status != "proven"]

    def _may_run(self, *, changed: bool = False) -> bool:
        # A run tests nothing new if nothing has changed, and after the cutover it
        # needs the manifests of an earlier proven run.
        return (changed or self._changed) and self._may_write()

    def _may_write(self) -> bool:
        return not self._declared or "proven" in self._status.values()

    def _later(self) -> str:
        self._clock += 1
        return f"2024-01-01T00:{self._clock // 60:02}:{self._clock % 60:02}.000Z"

    def _update(self, one: Enterprise, stamp: str) -> None:
        assert one.row is not None
        one.row = Row(f"row {self._later()}", one.row.created, stamp)
        self._services.execute(UPDATE, one.row.name, stamp, one.source_id)

    def _delete(self, one: Enterprise) -> None:
        one.row = None
        self._services.execute(DELETE, one.source_id)

    def _edit(self, one: Enterprise, stamp: str, *, extra: bool = False) -> None:
        assert one.item is not None
        name = f"item {self._later()}"
        changes = {"enterprise_name": name, "name": name}
        changes |= {"updated_date": stamp, "updatedAt": stamp}
        one.item |= changes | ({"contact": f"of {name}"} if extra else {})
        one.theirs = True
        self._services.put(one.item)

    def _discard(self, one: Enterprise) -> None:
        assert one.item is not None
        self._services.delete(one.item)
        one.item, one.theirs = None, True

    def _interfere(self, key: str, what: str) -> None:
        (one,) = (e for e in self._enterprises if e.key == key)
        if one.item is None:
            return
        if what == "deleted":
            self._discard(one)
        else:
            stamp = self._later() if what == "stamped" else one.item["updatedAt"]
            self._edit(one, stamp, extra=True)

    def _done(self, name: str) -> None:
        self._met[name] += 1
        self._changed |= name not in RUNS


def _require_counts(
    report: MigrationReport, verdicts: Counter[Verdict], written: int
) -> None:
    """Assert that the ledger and the reconciliation have the expected counts."""
    kept, equal = (sum(verdicts[v] for v in these) for these in (KEPT, EQUAL))
    wanted = Ledger(
        read=equal + kept + verdicts[Verdict.QUARANTINED],
        written=written,
        unchanged=equal - written,
        kept_newer=kept,
        quarantined=verdicts[Verdict.QUARANTINED],
    )
    assert report.ledger.balanced, "the ledger does not balance"
    assert report.ledger == wanted, "the ledger is not as the rules demand"
    assert report.source_rows == wanted.read
    assert report.resumed or report.loaded == wanted, "the loader counted otherwise"
    assert report.reconciliation is not None
    counts = {
        "matched": equal,
        "newer_in_target": kept - verdicts[Verdict.GONE],
        "deleted_in_target": verdicts[Verdict.GONE],
        "explained": verdicts[Verdict.QUARANTINED],
        "extra": verdicts[Verdict.EXTRA],
    }
    nothing = dict.fromkeys(report.reconciliation.counts, 0)
    wrong = "the reconciliation does not say what is so"
    assert report.reconciliation.counts == nothing | counts, wrong


def _death(*, hard: bool) -> Exception:
    return Killed() if hard else SourceLost("the connection was lost")


def _ending(after: int, *, hard: bool) -> Each:
    """Return a runner that ends after that many partitions."""

    def each(
        function: Callable[[PartitionSpec], PartitionLedger],
        specs: Sequence[PartitionSpec],
    ) -> Iterable[PartitionLedger]:
        for spec in specs[:after]:
            yield function(spec)
        raise _death(hard=hard)

    return each


@pytest.fixture
def services(
    database_url: str, dynamodb_local: str, table_name: str, tmp_path: Path
) -> Iterator[Services]:
    """Create an empty source and an empty table."""
    settings = Settings.isolated(
        database_url=database_url,
        dynamodb_endpoint=dynamodb_local,
        dynamodb_enterprise_table=table_name,
        aws_region="eu-west-1",
        runs_dir=tmp_path,
    )
    table = open_table(settings)
    create_table(table)
    with closing(psycopg2.connect(database_url)) as source:
        source.autocommit = True
        made = Services(source, table.client, settings)
        made.execute(
            "CREATE TABLE public.enterprises (id bigint PRIMARY KEY, name text,"
            " created_date timestamptz, updated_date timestamptz)"
        )
        yield made


@pytest.fixture(autouse=True)
def interference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patch the writes of a run so that the machine's steps can interfere."""
    INTERFERENCE.begin()
    INTERFERENCE.met.clear()
    for name in ("put_batch", "create", "update", "delete"):
        write = getattr(EnterpriseTable, name)
        monkeypatch.setattr(EnterpriseTable, name, _interfered(name, write))
    save, finish = ManifestLog.save, runs.State.finish_partition
    release = Lease.release

    def save_and_note(there: ManifestLog, spec: Any, items: pd.DataFrame) -> None:
        save(there, spec, items)
        INTERFERENCE.sent = set(items["PK"])

    def finish_unless_dead(*arguments: Any) -> None:
        if INTERFERENCE.dies_before_ledger:
            raise _death(hard=INTERFERENCE.hard)
        finish(*arguments)
        INTERFERENCE.finished |= INTERFERENCE.sent

    def release_unless_dead(held: Lease) -> None:
        if not INTERFERENCE.hard:
            release(held)

    monkeypatch.setattr(ManifestLog, "save", save_and_note)
    monkeypatch.setattr(runs.State, "finish_partition", finish_unless_dead)
    monkeypatch.setattr(Lease, "release", release_unless_dead)


def _key_of(put: bytes) -> str:
    key: str = json.loads(put)["PutRequest"]["Item"]["PK"]["S"]
    return key


def _interfered(kind: str, write: Callable[..., Any]) -> Callable[..., Any]:
    def written(table: EnterpriseTable, first: Any, *arguments: Any) -> Any:
        key = _key_of(first[0]) if kind == "put_batch" else first["PK"]
        if not key.startswith("ENT#"):
            return write(table, first, *arguments)
        what = INTERFERENCE.before(kind, key)
        answer = write(table, first, *arguments)
        INTERFERENCE.after(kind, what)
        return answer

    return written


@pytest.fixture(autouse=True)
def quick(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Replace the parts that take most of the time of a run with two rows.

    Great Expectations takes seconds to import: here the same facts decide, without the
    suites (``test_facts`` and ``test_validate`` compare the two). All runs share one
    client and one engine, which does not wait for the disk. There are no pauses between
    retries, and no files are written.
    """
    rows = _validation(contract.SOURCE_SUITE, facts.source_facts)
    items = _validation(contract.ITEM_SUITE, facts.item_facts)
    monkeypatch.setattr(prepare, "validate_enterprises", rows)
    monkeypatch.setattr(prepare, "validate_items", items)
    monkeypatch.setattr(proof, "validate_items", items)
    monkeypatch.setattr(backoff.Backoff, "wait", lambda *_: None)
    monkeypatch.setattr(finish, "write_migration", lambda *_: None)
    monkeypatch.setattr(finish, "write_differences", lambda *_: {})

    def client(_: Settings) -> "DynamoDBClient":
        # Opening the table registers the handler again each time.
        events = services.client.meta.events
        events.unregister("before-parse.dynamodb", faults.require_intact)
        return services.client

    monkeypatch.setattr(table, "make_client", client)
    engines: dict[str, sa.Engine] = {}

    def engine(url: str) -> sa.Engine:
        if url not in engines:
            engines[url] = make_engine(url)
            sa.event.listen(engines[url], "connect", _make_hasty)
        return engines[url]

    monkeypatch.setattr(runs, "make_engine", engine)
    yield
    for one in engines.values():
        one.dispose()


# The facts that do not make a row invalid.
WARNED = [
    *("name_trim", "name_printable", "name_short", "name_unique", "dates_ordered"),
    *("created_date_past", "updated_date_past"),
]


def _make_hasty(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")


def _validation(
    suite: str, find: Callable[[pd.DataFrame], pd.DataFrame]
) -> Callable[[pd.DataFrame], ValidationReport]:
    def validate(frame: pd.DataFrame, **_: object) -> ValidationReport:
        known = find(frame).drop(columns=WARNED, errors="ignore")
        broken = np.flatnonzero(~known.all(axis=1))
        failures = pd.DataFrame(
            {
                "row": frame.index[broken],
                "source_id": frame.get("source_id", pd.Series(dtype=object))[broken],
                "column": "any",
                "reason": next(iter(Reason)).value,
                "severity": Severity.CRITICAL.value,
            },
            columns=list(FAILURE_COLUMNS),
        )
        return ValidationReport(suite, len(frame), failures)

    return validate


def explore(services: Services, examples: int) -> None:
    """Run the machine deterministically."""
    profile = hypothesis(
        max_examples=examples,
        stateful_step_count=20,
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        # To analyze a failure, add Phase.shrink, which takes longer.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    machine: Any = partial(Migration, services)
    run_state_machine_as_test(machine, settings=profile)


@pytest.mark.slow
def test_every_order_of_steps_ends_as_the_rules_demand(services: Services) -> None:
    """No order of edits, runs, crashes and cutovers may lose, revive or overwrite."""
    explore(services, 80)

    met = INTERFERENCE.met
    assert [name for name in (*RULES, *EVENTS) if not met[name]] == []


def emptied_after_the_cutover(migration: Migration) -> None:
    """The application deletes all items; a table without enterprises is not new."""
    migration.declare()
    migration.discard()
    migration.discard()
    migration.run()


def updated_after_a_crash(migration: Migration) -> None:
    """A crashed run's writes without a ledger do not belong to the application."""
    migration.crash("ledger")
    migration.declare()
    migration.update_later()
    migration.run()


def updated_before_a_resume(migration: Migration) -> None:
    """A resume sends other values than the crashed part: both belong to the run."""
    migration.crash("ledger")
    migration.declare()
    migration.update_later()
    migration.resume()


def updated_after_a_late_resume(migration: Migration) -> None:
    """An earlier run is resumed after a later one has ended: the last write decides."""
    migration.crash("ledger")
    migration.run()
    migration.update_later()
    migration.resume(1)
    migration.declare()
    migration.update_later()
    migration.run()


def backdated_before_the_cutover(migration: Migration) -> None:
    """An item that a run kept because of a backdated row still belongs to the run."""
    migration.update_later()
    migration.run()
    migration.update_backdated()
    migration.run()
    migration.declare()
    migration.update_later()
    migration.run()


def inserted_again(migration: Migration) -> None:
    """A run deleted the item, not the application: inserting it again is allowed."""
    migration.run_with_deletes()
    migration.declare()
    migration.insert()
    migration.run()


def mended_before_a_resume(migration: Migration) -> None:
    """A row leaves the quarantine if it is repaired before the run is resumed."""
    migration.spoil(1)
    migration.crash("partition", 3)
    migration.update_later(1)
    migration.resume()


def spoilt_before_a_resume(migration: Migration) -> None:
    """A row that the run has written counts as quarantined once it is invalid."""
    migration.update_later(1)
    migration.crash("partition", 3)
    migration.spoil()
    migration.resume()


def spoilt_after_the_cutover(migration: Migration) -> None:
    """A row that cannot be an item is quarantined, whatever the application did."""
    migration.edit_unstamped(1)
    migration.declare()
    migration.crash("partition", 3)
    migration.spoil(1)
    migration.resume()


def deleted_at_the_second_try(migration: Migration) -> None:
    """A deletion that was refused, or whose answer was lost, is retried."""
    migration.run_with_deletes("throttled")
    migration.run_with_deletes("lost")


ORDERS = (
    emptied_after_the_cutover,
    updated_after_a_crash,
    updated_before_a_resume,
    updated_after_a_late_resume,
    backdated_before_the_cutover,
    inserted_again,
    mended_before_a_resume,
    spoilt_before_a_resume,
    spoilt_after_the_cutover,
    deleted_at_the_second_try,
)


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_that_once_went_wrong(
    order: Callable[[Migration], None], services: Services
) -> None:
    """Orders that the machine found, or nearly found, must always pass."""
    migration = Migration(services)
    try:
        migration.begin()
        order(migration)
    finally:
        migration.teardown()


def overwriting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put differing items without a check of stamps and without a condition."""

    def write_carelessly(
        loading: Any, key: str, there: Item | None, _: object
    ) -> Outcome:
        item = loading._item(key)
        if decide(item, there, dict) is Decision.LEAVE_EQUAL:
            return Outcome.UNCHANGED
        loading._table.put_batch(as_puts([item]))
        return Outcome.WRITTEN

    monkeypatch.setattr(load._Loading, "_write_one", write_carelessly)


def reviving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create missing items, whatever the manifests record."""

    def forgets(known: Any, item: Any, there: Item | None) -> bool:
        return there is not None and changed_by_application(known, item, there)

    monkeypatch.setattr(writes, "changed_by_application", forgets)


def haunting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Update an item that no longer exists, which creates a ghost."""
    condition = changes.make_condition

    def or_absent(*arguments: Any) -> dict[str, Any]:
        made = condition(*arguments)
        seen = made["ConditionExpression"]
        changed = f"attribute_not_exists(PK) OR ({seen})"
        return made | {"ConditionExpression": changed}

    monkeypatch.setattr(changes, "make_condition", or_absent)


@pytest.mark.parametrize("bug", [overwriting, reviving, haunting])
def test_a_seeded_bug_is_found(
    bug: Callable[[pytest.MonkeyPatch], None],
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The machine must reach the orders in which such a bug is visible."""
    bug(monkeypatch)

    with pytest.raises(AssertionError, match="the table is not as the rules demand"):
        explore(services, 100)
