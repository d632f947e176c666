"""Every setting of the program, and the rules for their values."""

import re
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from flows.errors import SettingsError
from flows.settings.checks import (
    as_utf8,
    check_endpoint,
    check_origins,
    check_webhook,
    checked,
    strip_url,
)
from flows.settings.env_file import EnvFile
from flows.settings.libpq import parse_postgres_url, read_service, with_tls
from flows.settings.project import rooted, rooted_url

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# One of these arguments names a source.
SOURCES = frozenset({"service", "host", "dbname"})
# uuid5(NAMESPACE_URL, "urn:enterprises"); part of the id contract.
ID_NAMESPACE = UUID("f1bf414b-7026-5797-bdf7-4a76844e36fc")

# As CreateTable accepts it; requests for other names are refused without a reason.
_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")


class Settings(BaseSettings):
    """Every setting of the program, by the name of its environment variable."""

    model_config = SettingsConfigDict(
        env_file=".env",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    storage_mode: Literal["postgres", "dynamodb"] = Field(
        default="postgres",
        description="Store that the HTTP service reads: `postgres` or `dynamodb`.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="Source database, `postgresql://user:password@host:5432/name`;"
        " or set libpq's `PG*` variables.",
    )
    pghost: str | None = Field(
        default=None, description="Source host or socket folder, without DATABASE_URL."
    )
    pgport: int | None = Field(default=None, description="Source port.")
    pgdatabase: str | None = Field(default=None, description="Source database name.")
    pguser: str | None = Field(default=None, description="Source user.")
    pgpassword: SecretStr | None = Field(default=None, description="Source password.")
    pgsslmode: str | None = Field(
        default=None,
        description="TLS mode for the source; `verify-full` off loopback unless set.",
    )
    pgsslrootcert: str | None = Field(
        default=None,
        description="File of the source's certificate authority, if not the system's.",
    )
    pgservice: str | None = Field(
        default=None, description="Service of libpq's `pg_service.conf`."
    )
    source_table: str = Field(
        default="public.enterprises",
        description="Source table with its schema.",
    )
    source_id_column: str | None = Field(
        default=None, description="Id column, if not `id` or `enterprise_id`."
    )
    source_name_column: str | None = Field(
        default=None, description="Name column, if not `enterprise_name` or `name`."
    )
    source_created_column: str | None = Field(
        default=None,
        description="Creation time, if not `created_date`, `created_at` or"
        " `creation_date`.",
    )
    source_updated_column: str | None = Field(
        default=None,
        description="Last change, if not `updated_date`, `updated_at` or"
        " `last_update_date`.",
    )
    source_timezone: str | None = Field(
        default=None,
        description="Time zone of timestamps stored without one, e.g. `Europe/Paris`.",
    )
    mapping_file: Path | None = Field(
        default=None,
        description="Mapping file (TOML) of the tables and columns to move; without it,"
        " four columns of SOURCE_TABLE.",
    )
    lock_wait_seconds: int = Field(
        default=5,
        ge=2,
        le=300,
        description="How long a run waits for a lock on the source, and other sessions"
        " for its lock, in seconds.",
    )
    aws_region: str | None = Field(default=None, description="Region of the table.")
    aws_access_key_id: str | None = Field(
        default=None,
        description="Access key; without it, boto3's credential chain is used.",
    )
    aws_secret_access_key: SecretStr | None = Field(
        default=None, description="Secret of the access key."
    )
    aws_session_token: SecretStr | None = Field(
        default=None, description="Session token of temporary credentials."
    )
    aws_profile: str | None = Field(
        default=None, description="Profile of the AWS configuration files."
    )
    dynamodb_enterprise_table: str = Field(
        default="EnterpriseConfig", description="Target table."
    )
    dynamodb_endpoint: str | None = Field(
        default=None,
        description="Endpoint of a local DynamoDB, e.g. `http://localhost:8000`.",
    )
    allow_insecure_endpoint: bool = Field(
        default=False,
        description="Accept an `http://` endpoint off loopback, with dummy"
        " credentials only.",
    )
    port: int = Field(
        default=4000, ge=1, le=65535, description="Port of the HTTP service."
    )
    api_token: SecretStr | None = Field(
        default=None,
        description="Token that the HTTP service requires, as `Authorization: Bearer`.",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Serve without a token also off loopback.",
    )
    api_cursor_key: SecretStr | None = Field(
        default=None,
        description="Secret that signs page cursors; required for several workers.",
    )
    cors_origins: str | None = Field(
        default=None,
        description="Web origins that may call the HTTP service, separated by commas.",
    )
    dynamodb_consistent_reads: bool = Field(
        default=False,
        description="Use strongly consistent reads in the HTTP service, at twice the"
        " cost.",
    )
    state_url: SecretStr = Field(
        default=SecretStr("sqlite:///data/runs/state.db"),
        description="Database of runs and their partitions (SQLAlchemy URL).",
    )
    runs_dir: Path = Field(
        default=Path("data/runs"), description="Folder of the runs' reports."
    )
    alert_webhook_url: SecretStr | None = Field(
        default=None,
        description="URL to which Prefect's flows post an alert when a run needs"
        " attention.",
    )
    item_provenance: bool = Field(
        default=False,
        description="Add `migrated_from_pg` and `original_pg_id` to each item.",
    )
    id_namespace: UUID = Field(
        default=ID_NAMESPACE, description="Namespace of the version 5 ids."
    )
    senders: int = Field(
        default=8,
        ge=1,
        le=32,
        description="Concurrent requests per worker.",
    )
    dask_scheduler_address: str | None = Field(
        default=None,
        description="Scheduler of the workers of `--runner dask`, e.g."
        " `tcp://10.0.0.5:8786`.",
    )
    lease_seconds: int = Field(
        default=30,
        ge=15,
        # A dead run keeps all others out for this long.
        le=3_600,
        description="How long a run's lease outlives its last heartbeat, in seconds.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object, info: Any) -> object:
        # An empty STORAGE_MODE is a mistake, not a wish for the default.
        if value == "" and info.field_name != "storage_mode":
            return cls.model_fields[info.field_name].get_default()
        return as_utf8(value) if isinstance(value, str) else value

    @field_validator("runs_dir", "mapping_file", mode="before")
    @classmethod
    def _path_is_no_url(cls, value: object, info: Any) -> object:
        if isinstance(value, str) and "://" in value:
            kind = "folder" if info.field_name == "runs_dir" else "file"
            message = f"it must be a {kind} on this machine, not a URL"
            raise ValueError(message)
        return value

    @field_validator("runs_dir", "mapping_file")
    @classmethod
    def _path_is_of_the_project(cls, value: Path | None) -> Path | None:
        return rooted(value) if value is not None else None

    @field_validator("state_url")
    @classmethod
    def _file_is_of_the_project(cls, value: SecretStr) -> SecretStr:
        return SecretStr(rooted_url(value.get_secret_value()))

    @field_validator("dynamodb_enterprise_table")
    @classmethod
    def _table_has_a_name(cls, value: str) -> str:
        if not _TABLE.fullmatch(value):
            message = "it must have 3 to 255 characters of a-z, A-Z, 0-9, -, . and _"
            raise ValueError(message)
        return value

    _bare_url = field_validator("database_url", "state_url", mode="before")(strip_url)
    _endpoint = field_validator("dynamodb_endpoint")(check_endpoint)
    _webhook = field_validator("alert_webhook_url")(check_webhook)
    _origins = field_validator("cors_origins")(check_origins)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings for pydantic; the first one wins."""
        file = getattr(dotenv_settings, "env_file", None)
        return init_settings, env_settings, EnvFile(settings_cls, env_file=file)

    @classmethod
    def isolated(cls, **values: object) -> Self:
        """Create settings from values and defaults, without reading the environment."""
        return checked(_Isolated, values)  # type: ignore[return-value]

    @property
    def from_environment(self) -> bool:
        """Return whether a command would load these settings, too."""
        return True

    @property
    def local_endpoint(self) -> bool:
        """Return whether the DynamoDB endpoint is on this machine."""
        endpoint = self.dynamodb_endpoint
        return endpoint is not None and urlsplit(endpoint).hostname in LOOPBACK

    def require_safe_endpoint(self) -> None:
        """Refuse an endpoint that would send real credentials or data in clear text.

        Raises:
            SettingsError: the endpoint is ``http://`` off loopback and is not allowed.
        """
        endpoint = self.dynamodb_endpoint or ""
        if not endpoint.startswith("http://") or self.local_endpoint:
            return
        if not self.allow_insecure_endpoint:
            message = f"DYNAMODB_ENDPOINT {endpoint} would send the data in clear text."
            raise SettingsError(
                message,
                "Use https://, or --allow-insecure-endpoint with dummy credentials.",
            )

    def source_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of ``psycopg2.connect`` for the source.

        Raises:
            SettingsError: no source is set, or its URL cannot be read. The message
                contains no part of the password.
        """
        named: dict[str, Any] = {}
        if self.database_url is not None:
            url = self.database_url.get_secret_value()
            named = parse_postgres_url(url, "DATABASE_URL")
        arguments = self._libpq_arguments() | named
        if self.database_url is None and not arguments.keys() & SOURCES:
            message = "DATABASE_URL is not set: there is no source to read."
            raise SettingsError(
                message,
                "Set DATABASE_URL=postgresql://user:password@host:5432/database, or"
                " PGHOST and PGDATABASE, in the environment or in .env.",
            )
        # As in libpq, the variables supply what URL and service omit.
        service = (read_service(arguments) or {}).keys() - named.keys()
        arguments = {k: v for k, v in arguments.items() if k not in service}
        return with_tls(arguments)

    def _libpq_arguments(self) -> dict[str, Any]:
        named = {
            "service": self.pgservice,
            "host": self.pghost,
            "port": self.pgport,
            "dbname": self.pgdatabase,
            "user": self.pguser,
            "sslmode": self.pgsslmode,
            "sslrootcert": self.pgsslrootcert,
        }
        arguments: dict[str, Any] = {k: v for k, v in named.items() if v is not None}
        if self.pgpassword is not None:
            arguments["password"] = self.pgpassword.get_secret_value()
        return arguments


class _Isolated(Settings):
    @property
    def from_environment(self) -> bool:
        return False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
