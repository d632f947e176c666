"""The embedded default: both stores on this machine, filled with the sample.

It reads neither the environment nor ``.env``, so it can never touch a real table.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path

import psycopg2

from flows.errors import MigrationError
from flows.settings import Settings, using
from flows.settings.libpq import describe_database
from flows.settings.project import find_dotenv, rooted
from flows.stores.dynamodb.schema import create_table
from flows.stores.dynamodb.table import open_table
from flows.stores.embedded import (
    EmbeddedStore,
    embedded_dynamodb,
    embedded_postgres,
    require_installed,
)

RUNS = Path("data/runs/demo")
# The rows of each sample that cannot become valid items; data/README.md lists them.
SAMPLE_QUARANTINED, MAPPED_QUARANTINED = 7, 25

COPY_SAMPLE = "COPY public.{table} FROM STDIN (FORMAT csv, HEADER)"
RESTART_IDS = """
SELECT setval('public.{table}_id_seq', (SELECT max(id) FROM public.{table}))
"""


@dataclass(frozen=True)
class Sample:
    """A sample in ``data/``: its tables' files in the order of their references."""

    contents: str
    schema: str
    files: tuple[tuple[str, str], ...]
    mapping: str | None = None

    @property
    def mapping_file(self) -> Path | None:
        """Return the mapping file that moves the tables; None for the built-in one."""
        return (_data() / self.mapping).absolute() if self.mapping else None


SAMPLE = Sample(
    contents="5,000 sample rows",
    schema="schema.sql",
    files=(("enterprises", "sample/enterprises.csv"),),
)
MAPPED_SAMPLE = Sample(
    contents="1,000 enterprises and 4,000 products",
    schema="mapped/schema.sql",
    files=(
        ("enterprises", "sample/enterprises_mapped.csv"),
        ("products", "sample/products.csv"),
    ),
    mapping="mapped/mapping.toml",
)


@dataclass(frozen=True)
class NotebookStores:
    """The stores that a notebook works on; rehearsals change only embedded ones."""

    settings: Settings
    embedded: bool

    def __repr__(self) -> str:
        facts = (f"{title}: {name}{rest}" for title, name, rest in self._facts)
        return "\n".join((self._kind, *facts))

    def _repr_html_(self) -> str:
        """Show the stores in a notebook, their names in bold."""
        facts = (
            f"{title}: <b>{escape(name)}</b>{escape(rest)}"
            for title, name, rest in self._facts
        )
        return f"<p>{'<br>'.join((f'<b>{self._kind}</b>', *facts))}</p>"

    @property
    def _kind(self) -> str:
        if self.embedded:
            return "EMBEDDED STORES on this machine, with the SAMPLE, not your data"
        return "YOUR STORES"

    @property
    def _facts(self) -> list[tuple[str, str, str]]:
        """Return a title, a name and a description of each store and the settings."""
        settings, file = self.settings, str(find_dotenv() or "no .env")
        neither = ", where no store is named" if self.embedded else ""
        return [
            ("Source", settings.source_table, f" in {_describe_source(settings)}"),
            (
                "Target",
                settings.dynamodb_enterprise_table,
                f" in {_describe_target(settings)}",
            ),
            ("Settings", file, f" and the environment{neither}"),
        ]


@dataclass(frozen=True)
class EmbeddedStores:
    """Both stores, filled and in use, and the settings that name them."""

    settings: Settings
    postgres: EmbeddedStore
    dynamodb: EmbeddedStore

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which other commands use these stores."""
        mapping = self.settings.mapping_file
        return {
            "DATABASE_URL": self.postgres.url,
            "DYNAMODB_ENDPOINT": self.dynamodb.url,
            "AWS_REGION": "us-east-1",
            "RUNS_DIR": str(self.settings.runs_dir),
            "STATE_URL": self.settings.state_url.get_secret_value(),
            **({} if mapping is None else {"MAPPING_FILE": str(mapping)}),
        }


@contextmanager
def embedded_stores(
    *,
    keep: bool = False,
    mapped: bool = False,
    meanwhile: Callable[[], object] = dict,
    started: Callable[[str], object] = str,
) -> Iterator[EmbeddedStores]:
    """Start PostgreSQL and DynamoDB, fill the source, and use both in the block.

    With *keep* they keep running after the block. With *mapped* the source has the
    second sample, and the settings name its mapping file. *meanwhile* is called during
    the start, and *started* with the description of each store that is ready.

    Raises:
        SettingsError: a store is not installed or does not start.
    """
    # First, so that nothing slow starts if a store is not installed.
    require_installed()
    sample = MAPPED_SAMPLE if mapped else SAMPLE
    with ExitStack() as stack:
        with ThreadPoolExecutor(3) as pool:
            other = pool.submit(meanwhile)

            def start_dynamodb() -> EmbeddedStore:
                store = stack.enter_context(embedded_dynamodb(keep=keep))
                started("DynamoDB (moto's server)")
                return store

            second = pool.submit(start_dynamodb)
            postgres = stack.enter_context(embedded_postgres(keep=keep))
            fill_source(postgres.url, sample)
            started(f"PostgreSQL, with {sample.contents}")
            dynamodb = second.result()
            other.result()
        settings = Settings.isolated(
            database_url=postgres.url,
            dynamodb_endpoint=dynamodb.url,
            aws_region="us-east-1",
            runs_dir=RUNS,
            state_url=f"sqlite:///{RUNS}/state.db",
            mapping_file=sample.mapping_file,
        )
        create_table(open_table(settings))
        stack.enter_context(using(settings))
        yield EmbeddedStores(settings, postgres, dynamodb)


def fill_source(url: str, sample: Sample = SAMPLE) -> None:
    """Create the tables of a sample's schema, and fill them."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute((_data() / sample.schema).read_text("utf-8"))
        for table, file in sample.files:
            # As bytes: text mode would change a line end inside a name.
            with (_data() / file).open("rb") as rows:
                cursor.copy_expert(COPY_SAMPLE.format(table=table), rows)
            cursor.execute(RESTART_IDS.format(table=table))
        connection.commit()


def _describe_source(settings: Settings) -> str:
    try:
        return describe_database(settings.source_arguments())
    except MigrationError as error:
        return f"no database: {error.message}"


def _describe_target(settings: Settings) -> str:
    try:
        table = open_table(settings)
    except MigrationError as error:
        return f"no DynamoDB: {error.message}"
    return f"DynamoDB, region {table.region}, {table.endpoint}"


def use_own_prefect() -> None:
    """Keep the demo's runs out of the user's Prefect, and Prefect's server quiet."""
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"):
        os.environ.pop(name, None)
    home = rooted(RUNS / "prefect").absolute()
    home.mkdir(parents=True, exist_ok=True)
    # Prefect creates its database there readable for all users.
    home.chmod(0o700)
    os.environ["PREFECT_HOME"] = str(home)


def _data() -> Path:
    """Return the folder of schema and sample: in the wheel, or in a checkout."""
    packaged = Path(__file__).parents[1] / "sample_data"
    return packaged if packaged.exists() else Path(__file__).parents[2] / "data"
