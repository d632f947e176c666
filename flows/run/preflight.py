"""Source and target, opened and checked before the first write, with their state."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812

from flows.disk_space import require_writable
from flows.errors import Refused, SettingsError
from flows.models import Index, PartitionSpec, SourceTable
from flows.reconciliation.expected_items import ExpectedItems
from flows.run.context import RunContext
from flows.run.schema_drift import (
    mapped_columns,
    read_columns,
    require_same_mapping,
    require_same_types,
)
from flows.settings import Settings
from flows.state.database import require_changeable
from flows.state.runs import State, fingerprint
from flows.stores.dynamodb.indexes import read_indexes, require_fitting, written_types
from flows.stores.dynamodb.schema import (
    account_of,
    describe_active,
    origin_item,
    require_origin,
    require_table,
)
from flows.stores.dynamodb.table import EnterpriseTable, open_table
from flows.stores.postgres.schema import describe_source
from flows.stores.postgres.snapshots import hold_table, read_watermark
from flows.stores.postgres.watch import Watch, open_watched

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stores:
    """Source and target, opened and checked, and the state beside them."""

    context: RunContext
    connection: Connection
    source: SourceTable
    table: EnterpriseTable
    state: State
    watermark: str
    # Terminates the session of the source when others have waited for it too long.
    watch: Watch
    # Identifies the table: its region and name may be the same in another account.
    account: str = ""
    # The size of the table in bytes, as DynamoDB reports it: up to six hours old.
    size: int = 0

    @property
    def settings(self) -> Settings:
        """Return the settings with which the stores were opened."""
        return self.context.settings

    @property
    def expected_items(self) -> ExpectedItems:
        """Return how reconciliation derives an item from a row."""
        settings = self.settings
        return ExpectedItems(
            self.source, settings.id_namespace, settings.item_provenance
        )

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
        return migration_identity(self.settings, self.source, self.table, self.account)

    @property
    def columns(self) -> dict[str, Any]:
        """Return the source's columns, and the roles of those that are moved."""
        types = read_columns(self.connection, self.settings)
        return {"types": types, "mapped": mapped_columns(self.source)}

    @property
    def migration(self) -> str:
        """Return the fingerprint of the migration, by which its runs are found."""
        return fingerprint(self.identity)

    def spec(self, run_id: str, snapshot: str) -> PartitionSpec:
        """Return what all partitions of a run between these stores have in common."""
        return PartitionSpec(
            run_id=run_id,
            number=0,
            source=self.source,
            snapshot=snapshot,
            session=self.watch.session,
            lineage=self.migration,
            indexes=self.table.indexes,
        )


def migration_identity(
    settings: Settings, source: SourceTable, table: EnterpriseTable, account: str
) -> dict[str, Any]:
    """Return what makes two runs with these settings the same migration.

    The *account* is that of the table.
    """
    arguments = settings.source_arguments()
    database = {key: arguments.get(key) for key in ("host", "port", "dbname")}
    left_out = {"columns_not_migrated", "referring_tables"}
    columns = {k: v for k, v in vars(source).items() if k not in left_out}
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
    accept_schema: bool = True,
    session: str = "",
    writing: bool = True,
    held: bool = True,
) -> Iterator[Stores]:
    """Open both stores and check all that can be known before the first write.

    The order is settings, source, columns, target table, origin. Unless
    *accept_schema*, the columns must be those of the last run. With *writing*, the
    table's indexes must accept what a run writes. *session* names the sessions of the
    source. With *held*, the source table is locked against rewriting, which every
    reader of its rows needs.

    Raises:
        Refused: a check failed; nothing was written.
    """
    context = context or RunContext()
    settings, table = context.settings, context.open_table()
    state = State.open(settings)
    opening = open_watched(settings, session, context.deadline, context.stop)
    with opening as (connection, watch):
        # In a separate transaction, before the snapshot: a transaction that is not in
        # the snapshot is then either seen here or begins after this moment.
        watermark = read_watermark(connection)
        connection.rollback()
        if held:
            hold_table(connection, settings)
        if not accept_schema:
            require_same_types(connection, settings, state)
        source = describe_source(connection, settings)
        if not accept_schema:
            require_same_mapping(source, settings, state)
        if settings.item_provenance and source.id_kind != "integer":
            message = f"ITEM_PROVENANCE needs integer ids; {source.id_column} has none."
            raise SettingsError(message, "Set ITEM_PROVENANCE=false.")
        described = require_table(table)
        size = int(described.get("TableSizeBytes") or 0)
        table.indexes = read_indexes(described)
        if writing:
            types = written_types(provenance=settings.item_provenance)
            require_fitting(table, table.indexes, types)
        require_origin(table, origin_item(settings, source))
        yield Stores(
            context=context,
            connection=connection,
            source=source,
            table=table,
            state=state,
            watermark=watermark,
            watch=watch,
            account=account_of(described),
            size=size,
        )


def read_target_indexes(settings: Settings) -> tuple[Index, ...]:
    """Return the indexes of the table; none if it cannot be described.

    Raises:
        TargetError: the indexes would refuse every item.
    """
    try:
        table = open_table(settings)
        indexes = read_indexes(describe_active(table))
    except Refused as error:
        logger.warning("items are not checked against indexes: %s", error.message)
        return ()
    types = written_types(provenance=settings.item_provenance)
    require_fitting(table, indexes, types)
    return indexes
