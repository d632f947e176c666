"""Source and target, opened and checked before the first write, with their state."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.disk_space import require_writable
from flows.errors import Refused, SettingsError
from flows.mapping import load_mapping
from flows.mapping.model import ENTERPRISE, Mapping
from flows.models import Index, Item, PartitionSpec, SourceTable, is_usual
from flows.reconciliation.expected_items import ExpectedItems
from flows.run.context import RunContext
from flows.run.schema_drift import (
    key_of_source,
    mapped_columns,
    read_columns,
    require_same_mapping,
    require_same_types,
)
from flows.settings import Settings
from flows.state.database import require_changeable
from flows.state.runs import State, fingerprint
from flows.stores.dynamodb.indexes import read_indexes, require_fitting, written_types
from flows.stores.dynamodb.origin import origin_item, require_origin
from flows.stores.dynamodb.schema import account_of, describe_active, require_table
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from flows.stores.postgres.schema import describe_sources, tables_of
from flows.stores.postgres.snapshots import hold_tables, read_watermark
from flows.stores.postgres.watch import Watch, open_watched

logger = logging.getLogger(__name__)

# What identifies the root of a mapping, apart from the database.
OF_A_MIGRATION = (
    "schema",
    "table",
    "id_column",
    "name_column",
    "created_column",
    "updated_column",
    "id_kind",
    "created_zoneless",
    "updated_zoneless",
    "timezone",
)


@dataclass(frozen=True)
class Acceptance:
    """What a run accepts: changed columns, another mapping, and only some entities."""

    schema: bool = True
    mapping: bool = False
    # The entities to open; without any, all of the mapping.
    entities: tuple[str, ...] = ()

    @property
    def columns(self) -> bool:
        """Return whether other columns than those of the last run are accepted."""
        return self.schema or self.mapping


@dataclass(frozen=True)
class Stores:
    """Source and target, opened and checked, and the state beside them."""

    context: RunContext
    connection: Connection
    # The entities that are moved, and all entities of the mapping, each in its order.
    sources: tuple[SourceTable, ...]
    mapped: tuple[SourceTable, ...]
    table: EnterpriseTable
    state: State
    watermark: str
    # Terminates the session of the source when others have waited for it too long.
    watch: Watch
    # None for the built-in mapping.
    mapping: Mapping | None = None
    # Identifies the table: its region and name may be the same in another account.
    account: str = ""
    # The size of the table in bytes, as DynamoDB reports it: up to six hours old.
    size: int = 0

    @property
    def settings(self) -> Settings:
        """Return the settings with which the stores were opened."""
        return self.context.settings

    @property
    def source(self) -> SourceTable:
        """Return the first entity's source, the only one of ``of``."""
        return self.sources[0]

    def of(self, source: SourceTable) -> Self:
        """Return the stores with one source alone."""
        return replace(self, sources=(source,))

    def expected_items(self, source: SourceTable) -> ExpectedItems:
        """Return how reconciliation derives an item from a row."""
        settings = self.settings
        return ExpectedItems(source, settings.id_namespace, settings.item_provenance)

    @property
    def target(self) -> dict[str, str]:
        """Return the table's name, region and endpoint."""
        table = self.table
        return {
            "table": table.name,
            "region": table.region,
            "endpoint": table.endpoint,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """Return what makes two runs the same migration."""
        root = root_of(self.mapped)
        return migration_identity(self.settings, root, self.table, self.account)

    @property
    def plain_mapping(self) -> dict[str, Any] | None:
        """Return the mapping as plain values, as ``plain`` does."""
        return plain(self.mapping, self.mapped)

    @property
    def origin(self) -> Item:
        """Return the item that records the origin of the table's items."""
        item: Item = origin_item(self.settings, self.mapped, self.plain_mapping)
        return item

    def columns(self, source: SourceTable) -> dict[str, Any]:
        """Return a source's columns, and the roles of those that are moved."""
        types = read_columns(self.connection, (source.schema, source.table))
        return {"types": types, "mapped": mapped_columns(source)}

    def source_key(self, source: SourceTable) -> str:
        """Return the digest that identifies the runs of a source."""
        return key_of_source(self.settings, source)

    @property
    def migration(self) -> str:
        """Return the fingerprint of the migration, by which its runs are found."""
        return fingerprint(self.identity)

    def spec(self, source: SourceTable, run_id: str, snapshot: str) -> PartitionSpec:
        """Return what all partitions of an entity in a run have in common."""
        return PartitionSpec(
            run_id=run_id,
            number=0,
            source=source,
            snapshot=snapshot,
            session=self.watch.session,
            lineage=self.migration,
            indexes=self.table.indexes,
        )


def plain(
    mapping: Mapping | None, sources: tuple[SourceTable, ...]
) -> dict[str, Any] | None:
    """Return a mapping as plain values without defaults, given its *sources*.

    None stands for the built-in mapping, and for one that does the same.
    """
    if mapping is None or (len(sources) == 1 and is_usual(sources[0])):
        return None
    return mapping.model_dump(mode="json", exclude_defaults=True, exclude={"path"})


def root_of(sources: tuple[SourceTable, ...]) -> SourceTable:
    """Return the source that identifies the migration: enterprises, or the first."""
    return next((one for one in sources if one.entity == ENTERPRISE), sources[0])


def migration_identity(
    settings: Settings, source: SourceTable, table: EnterpriseTable, account: str
) -> dict[str, Any]:
    """Return what makes two runs with these settings the same migration.

    *source* is the root of the mapping, whose other columns do not count. The *account*
    is that of the table.
    """
    arguments = settings.source_arguments()
    database = {key: arguments.get(key) for key in ("host", "port", "dbname")}
    columns = {name: getattr(source, name) for name in OF_A_MIGRATION}
    return {
        "source": database | columns,
        "namespace": str(settings.id_namespace),
        "provenance": settings.item_provenance,
        "target": [table.name, table.region, table.endpoint],
        "account": account,
    }


def require_places(settings: Settings) -> None:
    """Refuse a folder of reports or a state that cannot be written.

    Raises:
        SettingsError: the folder or the state cannot be written.
        Incomplete: the state's disk is full.
    """
    require_writable(settings.runs_dir)
    require_changeable(settings.state_url.get_secret_value())


@contextmanager
def open_stores(
    context: RunContext | None = None,
    *,
    accepting: Acceptance = Acceptance(),
    session: str = "",
    writing: bool = True,
    held: bool = True,
) -> Iterator[Stores]:
    """Open both stores and check all that can be known before the first write.

    The order is settings, mapping, source, columns, target table, origin. Unless it is
    *accepting* another schema, the columns must be those of the last run. With
    *writing*, the table's indexes must accept what a run writes. *session* names the
    sessions of the source. With *held*, the source tables are locked against rewriting,
    which every reader of their rows needs.

    Raises:
        Refused: a check failed; nothing was written.
    """
    context = context or RunContext()
    settings = context.settings
    mapping = load_mapping(settings)
    tables, table = tables_of(settings, mapping), context.open_table()
    _require_entities(accepting.entities, tables)
    state = State.open(settings)
    opening = open_watched(settings, session, context.deadline, context.stop)
    with opening as (connection, watch):
        # In a separate transaction, before the snapshot: a transaction that is not in
        # the snapshot is then either seen here or begins after this moment.
        watermark = read_watermark(connection)
        connection.rollback()
        if held:
            hold_tables(connection, list(tables.values()))
        if not accepting.schema:
            for entity, name in tables.items():
                require_same_types(connection, settings, state, name, entity)
        mapped = describe_sources(connection, settings, mapping)
        _require_usable(mapped, settings, None if accepting.columns else state)
        described = require_table(table)
        size = int(described.get("TableSizeBytes") or 0)
        table.indexes = read_indexes(described)
        if writing:
            types = written_types(mapped, provenance=settings.item_provenance)
            require_fitting(table, table.indexes, types)
        wanted = accepting.entities or tuple(tables)
        stores = Stores(
            context=context,
            connection=connection,
            sources=tuple(one for one in mapped if one.entity in wanted),
            mapped=mapped,
            table=table,
            state=state,
            watermark=watermark,
            watch=watch,
            mapping=mapping,
            account=account_of(described),
            size=size,
        )
        require_origin(table, stores.origin, accept_mapping=accepting.mapping)
        yield stores


def _require_entities(
    wanted: tuple[str, ...], tables: dict[str, tuple[str, str]]
) -> None:
    for entity in wanted:
        if entity not in tables:
            message = f"--entity {entity}: the mapping has no such entity."
            raise SettingsError(message, f"Name one of: {', '.join(tables)}.")


def _require_usable(
    sources: tuple[SourceTable, ...], settings: Settings, state: State | None
) -> None:
    """Refuse sources whose ids or columns a run cannot use.

    With *state*, the columns must be those of the last run.
    """
    for source in sources:
        if state is not None:
            require_same_mapping(source, settings, state)
        if settings.item_provenance and source.id_kind != "integer":
            message = f"ITEM_PROVENANCE needs integer ids; {source.id_column} has none."
            raise SettingsError(message, "Set ITEM_PROVENANCE=false.")


def read_target_indexes(
    settings: Settings, sources: tuple[SourceTable, ...]
) -> tuple[Index, ...]:
    """Return the indexes of the table; none if it cannot be described.

    Raises:
        TargetError: the indexes would refuse every item of one of the *sources*.
    """
    try:
        table = open_table(settings)
        indexes = read_indexes(describe_active(table))
    except Refused as error:
        logger.warning("items are not checked against indexes: %s", error.message)
        return ()
    types = written_types(sources, provenance=settings.item_provenance)
    require_fitting(table, indexes, types)
    return indexes
