"""The rows that a replay of the quarantine moves: selected by id, in partitions."""

from collections.abc import Sequence

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.errors import SettingsError
from flows.extract import count_among
from flows.models import SourceTable
from flows.state.runs import State


def ids_to_replay(
    state: State, migration: str, replayed: str, entities: Sequence[str]
) -> dict[str, list[str]]:
    """Return by entity the source ids that a run quarantined; for `last`, all now.

    Raises:
        SettingsError: there is no such run, or none of its rows is in quarantine.
    """
    if replayed == "last":
        ids = {one: sorted(state.source.explained(migration, one)) for one in entities}
        if not any(ids.values()):
            message = "quarantine replay last: this migration has no quarantined rows."
            raise SettingsError(message, "See: enterprises quarantine list")
        return ids
    if replayed not in state.past_runs(migration):
        message = f"quarantine replay {replayed}: this migration has no such run."
        raise SettingsError(message, "See: enterprises quarantine list")
    ids = {
        one: list(map(str, state.source.quarantine(replayed, one)["source_id"]))
        for one in entities
    }
    if not any(ids.values()):
        message = f"Run {replayed} has no quarantined rows."
        raise SettingsError(message, "See: enterprises quarantine list")
    return ids


def rows_gone(
    connection: Connection, source: SourceTable, ids: Sequence[str]
) -> tuple[int, tuple[str, ...]]:
    """Count the rows that are still there, and warn about those that are not."""
    there = count_among(connection, source, ids)
    gone = len(ids) - there
    warning = f"{gone} of the {len(ids)} rows to replay are no longer in the source."
    return there, (warning,) if gone else ()
