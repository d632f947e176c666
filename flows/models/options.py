"""The options of a run."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MigrateOptions(BaseModel):
    """The options of one run: plain values only, without secrets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="Name of the run; derived from the time unless given.",
    )
    partition_rows: int = Field(
        default=25_000, ge=1, le=1_000_000, description="Rows per partition."
    )
    workers: int | None = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that migrate partitions; null for as many as pay off.",
    )
    runner: Literal["local", "dask"] = Field(
        default="local",
        description="Where partitions are migrated: in processes on this machine, or on"
        " the workers of DASK_SCHEDULER_ADDRESS, all of them unless `workers` is set.",
    )
    max_write_units: float | None = Field(
        default=None,
        ge=1,
        description="Write units per second that the run may consume.",
    )
    max_read_units: float | None = Field(
        default=None,
        ge=1,
        description="Read units per second that the run may consume.",
    )
    deadline: float | None = Field(
        default=None,
        gt=0,
        description="Seconds after which the run stops; it can be resumed.",
    )
    allow_quarantined: int = Field(
        default=0, ge=0, description="Quarantined rows that a proven run may have."
    )
    allow_empty: bool = Field(
        default=False, description="Accept a source table without rows."
    )
    resume: str | None = Field(
        default=None, description="Run to resume: its id, or `last`."
    )
    since: str | None = Field(
        default=None,
        description="Move only rows stamped since this time, ISO 8601 with zone, or"
        " `last`: since the last proven run.",
    )
    after_cutover: bool = Field(
        default=False,
        description="Write although the cutover is declared; items that were edited or"
        " deleted in the target since then are left alone.",
    )
    entity: tuple[str, ...] = Field(
        default=(),
        description="Move only these entities of the mapping file; by default all.",
    )
    accept_mapping: bool = Field(
        default=False,
        description="Continue although the mapping is not that of the table's items.",
    )
    accept_schema: bool = Field(
        default=False,
        description="Continue although a column is not what the last run read.",
    )
    data_docs: bool = Field(
        default=False,
        description="Write the pages of Great Expectations beside the report.",
    )
    replay: str | None = Field(
        default=None,
        description="Move only the quarantined rows of this run; `last`: all rows that"
        " are in quarantine now.",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="Move only this many rows, as a trial; it is never a proof.",
    )
    propagate_deletes: int = Field(
        default=0,
        ge=0,
        description="Delete up to this many items whose rows are gone, if no"
        " application changed them.",
    )
    operator: str | None = Field(
        default=None,
        max_length=200,
        description="Who runs it, for the report; by default the user of the process.",
    )
