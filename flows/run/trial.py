"""A trial of a migration: a few rows are moved and compared as those of a run are.

A trial is never a proof, and no other run depends on it. ``undo_trial`` removes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import CutoverDeclared, SettingsError
from flows.extract import (
    COUNT_ROWS,
    ExtractionPlan,
    check_text_ids,
    find_duplicate_keys,
)
from flows.models import Item, Key, MigrateOptions, SourceTable
from flows.planning.plan import estimate_rows
from flows.run.deletions import OurItem, is_as_left
from flows.run.keys import keys_of_rows
from flows.run.next_commands import make_command
from flows.run.preflight import Stores
from flows.stores.dynamodb.lease import require_no_cutover
from flows.stores.dynamodb.table import READ_KEYS
from flows.stores.postgres.conditions import ID_TYPES, meets
from flows.stores.postgres.session import translating_errors

# Above it, counting takes longer than the trial: PostgreSQL's estimate is reported.
COUNTED_ROWS = 1_000_000
# Options that move other rows than a trial, or that depend on proven runs.
NOT_OF_A_TRIAL = ("resume", "since", "replay", "propagate_deletes", "after_cutover")

FIND_FIRST = sql.SQL("""
SELECT {id}::text FROM {table} AS source WHERE {meets}
ORDER BY source.{id} {order} LIMIT {rows}
""")
# One look-up in the key's index for each value, whatever the number of rows.
FIND_NEXT = sql.SQL("""
SELECT (SELECT {id}::text FROM {table} AS source WHERE source.{id} >= wanted.value
        AND {meets} ORDER BY source.{id} LIMIT 1)
FROM unnest({values}) AS wanted (value)
""")


@dataclass(frozen=True)
class Trial:
    """The size of a trial: its rows, and those of the source."""

    rows: int
    of: int

    @property
    def estimated(self) -> bool:
        """Return whether the rows of the source may be PostgreSQL's estimate."""
        return self.of > COUNTED_ROWS

    def asdict(self) -> dict[str, int | bool]:
        """Return the size as plain values."""
        return {"rows": self.rows, "of": self.of, "estimated": self.estimated}

    def describe(self, equal: int) -> str:
        """Return why a trial with this number of equal rows proves nothing."""
        about = "about " if self.estimated else ""
        return (
            f"This is a trial of {self.rows:,} of {about}{self.of:,} rows, which is"
            f" never a proof: {equal:,} are equal to their items. Migrate all rows with"
            f" `{make_command('migrate')}`, or remove the items that the trial created"
            f" with `{removal_command()}`."
        )


def removal_command() -> str:
    """Return the command that removes the items of trials."""
    return make_command("migrate", "--undo-trial")


def require_alone(options: MigrateOptions) -> None:
    """Refuse options that a trial cannot have.

    Raises:
        SettingsError: one of them is set.
    """
    refuse_options(options, "--limit", NOT_OF_A_TRIAL)


def refuse_options(options: MigrateOptions, flag: str, names: Sequence[str]) -> None:
    """Refuse options that cannot be set together with a flag.

    Raises:
        SettingsError: one of them is set.
    """
    given = options.model_dump(exclude_defaults=True)
    for name in names:
        if name in given:
            other = f"--{name.replace('_', '-')}"
            message = f"{flag} cannot be given together with {other}."
            raise SettingsError(message, f"Omit {other} or {flag}.")


def require_before_cutover(stores: Stores, remedy: str) -> None:
    """Refuse a trial and its removal once the application owns the items.

    Raises:
        CutoverDeclared: the marker exists.
    """
    try:
        require_no_cutover(stores.table)
    except CutoverDeclared as error:
        remedy += ", or revoke the cutover: enterprises cutover revoke"
        raise CutoverDeclared(error.message, remedy) from None


def plan_trial(stores: Stores) -> ExtractionPlan:
    """Count the rows of the source, or estimate them; find no bounds of partitions.

    Every row is read only if the ids are texts, which may be shared.

    Raises:
        CutoverDeclared: the application owns the items.
        SourceError: a text id is not a UUID.
    """
    require_before_cutover(stores, "Omit --limit and give --after-cutover")
    connection, source = stores.connection, stores.source
    duplicates = check_text_ids(connection, source)
    keys = find_duplicate_keys(connection, source)
    estimate = estimate_rows(connection, source) or 0
    if estimate > COUNTED_ROWS:
        return ExtractionPlan(estimate, (), duplicates, duplicate_keys=keys)
    ((rows,),) = _select(connection, source, COUNT_ROWS, changed=meets(source))
    return ExtractionPlan(int(rows), (), duplicates, duplicate_keys=keys)


def pick_ids(connection: Connection, source: SourceTable, rows: int) -> tuple[str, ...]:
    """Return up to *rows* ids, evenly over the range of ids; the same ones each time.

    Old and new rows may differ, and their ids usually increase with time. The first
    rows replace those that gaps in the range leave out.
    """
    first = _ends(connection, source, "ASC", rows)
    if len(first) < rows:
        return tuple(first)
    last = _ends(connection, source, "DESC", 1)
    values = _spread(first[0], last[0], rows, source)
    kind = sql.SQL(ID_TYPES[source.id_kind])
    wanted = sql.SQL("{}::{}[]").format(sql.Literal(values), kind)
    found = _select(connection, source, FIND_NEXT, values=wanted)
    spread = dict.fromkeys(str(one) for (one,) in found if one is not None)
    return tuple(dict.fromkeys([*spread, *first]))[:rows]


def _ends(
    connection: Connection, source: SourceTable, order: str, rows: int
) -> list[str]:
    arguments = {"order": sql.SQL(order), "rows": sql.Literal(rows)}
    return [one for (one,) in _select(connection, source, FIND_FIRST, **arguments)]


def _spread(first: str, last: str, rows: int, source: SourceTable) -> list[str]:
    """Return this many values from one id to another, at the same distance."""
    integer = source.id_kind == "integer"
    low, high = (int(one) if integer else UUID(one).int for one in (first, last))
    step = max(1, rows - 1)
    values = (low + (high - low) * place // step for place in range(rows))
    return [str(value if integer else UUID(int=value)) for value in values]


def _select(
    connection: Connection,
    source: SourceTable,
    template: sql.SQL,
    **more: sql.Composable,
) -> list[tuple[Any, ...]]:
    query = template.format(
        table=sql.Identifier(source.schema, source.table),
        id=sql.Identifier(source.id_column),
        meets=meets(source),
        **more,
    )
    with translating_errors(), connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def save_present(stores: Stores, run_id: str, source_ids: Sequence[str]) -> None:
    """Save which items of a trial's rows exist before the trial writes.

    They are not the trial's, and its removal leaves them, unless an earlier trial
    created them and nobody has changed them since. Otherwise nothing would separate an
    item that a trial updated from one that it created.
    """
    keys = dict(keys_of_rows(stores, source_ids).values())
    ours = created_items(stores).left
    present = [
        identity
        for chunk in in_chunks(sorted(keys))
        for identity, item in read_items(stores, {one: keys[one] for one in chunk})
        if identity not in ours
        or not is_as_left(stores, item, ours[identity], whole=True)
    ]
    at = None if stores.source.has_keys_of_ids else [keys[one] for one in present]
    stores.state.manifests.save_ids(run_id, present, "there", at)


def created_items(stores: Stores) -> "CreatedItems":
    """Return the items of one source that the trials of the migration created."""
    created = stores.state.trials.created(
        stores.migration, stores.identity, stores.source.entity
    )
    source = stores.source
    left = {
        identity: OurItem(
            identity, known.key or source.key_of_id(identity), known, source
        )
        for identity, known in created.left.items()
    }
    return CreatedItems(left, created.rightful)


@dataclass(frozen=True)
class CreatedItems:
    """The items that trials created, by id, and the number that others sent too."""

    left: Mapping[str, OurItem]
    rightful: int


def in_chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield ids in chunks of one request each."""
    for start in range(0, len(ids), READ_KEYS):
        yield ids[start : start + READ_KEYS]


def read_items(stores: Stores, keys: Mapping[str, Key]) -> list[tuple[str, Item]]:
    """Read the items of some ids, which have these keys; return those that exist."""
    found = stores.table.read(list(keys.values()))
    return [(one, found[key]) for one, key in keys.items() if key in found]
