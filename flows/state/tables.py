"""The tables of the state."""

import sqlalchemy as sa

from flows.models import ENTITY_TYPE

# An application in the same database may have tables with the names without prefix.
PREFIX = "enterprise_migration_"
# The status of a repair's run, and of a trial's from its start: neither can be resumed,
# and neither proves anything.
REPAIR = "repair"
TRIAL = "trial"
ONE_SHOT = (REPAIR, TRIAL)

metadata = sa.MetaData()

# One row: the version of the tables.
versions = sa.Table(
    f"{PREFIX}version",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)

runs = sa.Table(
    f"{PREFIX}run",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("identity", sa.JSON, nullable=False),
    sa.Column("since", sa.Text),
    sa.Column("watermark", sa.Text),
    sa.Column("report", sa.JSON),
    # The plain mapping of the run; NULL for the built-in one.
    sa.Column("mapping", sa.JSON(none_as_null=True)),
)
# The numbers are unique in a run, whatever the entity.
partitions = sa.Table(
    f"{PREFIX}partition",
    metadata,
    sa.Column("run_id", sa.ForeignKey(runs.c.run_id), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("lower", sa.Text),
    sa.Column("upper", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("ledger", sa.JSON),
    sa.Column("quarantine", sa.JSON),
    sa.Column("entity", sa.String(64), nullable=False, server_default=ENTITY_TYPE),
    # Whether it is a key range of the plan; false for rows that are moved again.
    sa.Column("planned", sa.Boolean, nullable=False, server_default=sa.true()),
)
# The sources as a run saw them: mapped and other columns, and the profile at the end.
sources = sa.Table(
    f"{PREFIX}source",
    metadata,
    sa.Column("run_id", sa.ForeignKey(runs.c.run_id), primary_key=True),
    sa.Column("source", sa.String(64), primary_key=True, index=True),
    sa.Column("columns", sa.JSON, nullable=False),
    sa.Column("profile", sa.JSON),
)
# Runs that moved only quarantined rows, again.
replays = sa.Table(
    f"{PREFIX}replay",
    metadata,
    sa.Column("run_id", sa.ForeignKey(runs.c.run_id), primary_key=True),
    sa.Column("replayed", sa.Text, nullable=False),
)
# Nothing is ever deleted: items of a replaced attempt may be in the target too.
manifests = sa.Table(
    f"{PREFIX}manifest",
    metadata,
    sa.Column("serial", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.ForeignKey(runs.c.run_id), nullable=False, index=True),
    # The number of the partition; 0 for a run's deletions, and for what was there.
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    # One letter per row, as in manifest.CODES; absent until the partition is done.
    sa.Column("outcomes", sa.LargeBinary),
)
# The results of each reconciliation of a migration: only counts, no value of a row.
reconciliations = sa.Table(
    f"{PREFIX}reconciliation",
    metadata,
    sa.Column("serial", sa.Integer, primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False, index=True),
    sa.Column("name", sa.String(80), nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("snapshot", sa.Text, nullable=False),
    sa.Column("mode", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("source_rows", sa.Integer, nullable=False),
    sa.Column("target_items", sa.Integer, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
)
