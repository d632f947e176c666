"""PostgreSQL as the source: it is accepted, or refused with the cause."""

import pickle
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from flows.errors import SettingsError, SourceError, SourceLost
from flows.settings import Settings
from flows.stores.postgres.schema import CANDIDATES
from flows.stores.postgres.session import open_source
from flows.stores.postgres.snapshots import export_snapshot, read_watermark
from tests.support.source_database import (
    EMPTY,
    TABLE,
    SourceDatabase,
    await_refusal,
    demanding_password,
    new_database,
    new_role,
)
from tests.support.standby import running_standby

CANARY = "Tr0ub4dorX"
COLUMNS = {
    "id": "id bigint PRIMARY KEY",
    "name": "name text",
    "created": "created_date timestamptz",
    "updated": "updated_date timestamptz",
}
RULES = """
INSERT INTO public.enterprises VALUES (1, 'mine'), (2, 'hidden');
ALTER TABLE public.enterprises ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON public.enterprises USING (name = 'mine');
"""
# Possible settings of a role or a database, and the required ones of every session.
UNUSUAL = {
    "timezone": "'Asia/Kolkata'",
    "datestyle": "German, DMY",
    "search_path": "decoy",
    "row_security": "on",
    "client_encoding": "'LATIN1'",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "'serializable'",
    "statement_timeout": "'1s'",
    "transaction_timeout": "'1s'",
    "lock_timeout": "'1s'",
    "idle_in_transaction_session_timeout": "'1s'",
    "idle_session_timeout": "'1s'",
}
SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "search_path": "pg_catalog",
    "row_security": "off",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "transaction_isolation": "repeatable read",
    "transaction_read_only": "on",
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}

OTHER_ENCODING = "ENCODING '{}' LOCALE 'C' TEMPLATE template0"

CreateTable = Callable[..., None]


@pytest.fixture(scope="module")
def shared(postgres_server: str) -> Iterator[SourceDatabase]:
    """Create the database of these tests."""
    with new_database(postgres_server) as database:
        yield database


@pytest.fixture
def database(shared: SourceDatabase) -> Iterator[SourceDatabase]:
    """Return an empty database, as its superuser."""
    yield shared
    shared.run(EMPTY)


@pytest.fixture
def create_table(database: SourceDatabase) -> CreateTable:
    """Return a function that creates the table, with other columns if given."""

    def create(*more: str, table: str = "public.enterprises", **changed: str) -> None:
        columns = [text for text in (COLUMNS | changed).values() if text]
        database.run(f"CREATE TABLE {table} ({', '.join([*columns, *more])})")

    return create


@pytest.fixture
def role(database: SourceDatabase) -> Iterator[str]:
    """Create a role that may only log in."""
    with new_role(database) as name:
        yield name


@pytest.fixture
def locked_out(database: SourceDatabase, role: str) -> Iterator[SourceDatabase]:
    """Require a password for the role; return its database with a wrong one."""
    with demanding_password(database, role):
        stranger = database.as_user(role, CANARY)
        await_refusal(stranger)
        yield stranger


@contextmanager
def listening(answer: bytes) -> Iterator[int]:
    """Listen on a loopback port, and give each caller one answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    caller = server.accept()[0]
                except OSError:
                    return
                with caller:
                    caller.recv(1024)
                    caller.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def connection_refusal(url: str) -> SourceError:
    """Return the error of a failed connection; it must not reveal the password."""
    settings = Settings.isolated(database_url=url)
    with pytest.raises(SourceError) as refused, open_source(settings):
        pass
    seen = "".join(traceback.format_exception(refused.value))
    assert CANARY not in seen + repr(pickle.dumps(refused.value))
    return refused.value


def first_word(definition: str) -> str:
    """Return the name of a column from its definition."""
    return definition.split(maxsplit=1)[0]


# --- Columns


@pytest.mark.parametrize(
    ("part", "column"), [(r, c) for r, names in CANDIDATES.items() for c in names]
)
def test_each_usual_column_name_is_found(
    database: SourceDatabase, create_table: CreateTable, part: str, column: str
) -> None:
    """A table with any of the usual names must need no setting."""
    definition = COLUMNS[part].split(" ", 1)[1]
    create_table(**{part: f"{column} {definition}"})

    assert getattr(database.describe(), f"{part}_column") == column


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("id", "enterprise_id bigint"),
        ("name", "enterprise_name text"),
        ("created", "creation_date timestamptz"),
        ("updated", "updated_at timestamptz"),
    ],
)
def test_two_candidates_are_an_error_that_names_both(
    database: SourceDatabase, create_table: CreateTable, part: str, other: str
) -> None:
    """Two candidates need a setting, and the setting decides."""
    create_table(other + " UNIQUE NOT NULL" * (part == "id"))
    usual, unusual = first_word(COLUMNS[part]), first_word(other)
    variable = f"source_{part}_column"

    with pytest.raises(SettingsError) as refused:
        database.describe()

    assert f"{usual} " in refused.value.message
    assert f"{unusual} " in refused.value.message
    assert variable.upper() in refused.value.remedy
    for chosen, left in ((usual, unusual), (unusual, usual)):
        source = database.describe(**{variable: chosen})
        assert getattr(source, f"{part}_column") == chosen
        assert source.columns_not_migrated == (left,)


@pytest.mark.parametrize("part", list(CANDIDATES))
def test_a_missing_column_is_an_error_that_names_what_there_is(
    database: SourceDatabase, create_table: CreateTable, part: str
) -> None:
    """The remedy must list the columns that the setting can name."""
    create_table("elsewhere text", **{part: ""})

    with pytest.raises(SourceError) as refused:
        database.describe()

    assert CANDIDATES[part][0] in refused.value.message
    assert f"SOURCE_{part.upper()}_COLUMN" in refused.value.remedy
    assert "elsewhere" in refused.value.remedy


def test_a_chosen_column_that_is_missing_is_named(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """A wrong setting must not fall back to a usual name; case counts."""
    create_table()

    with pytest.raises(SourceError, match="has no column Name") as refused:
        database.describe(source_name_column="Name")

    assert "id, name, created_date, updated_date" in refused.value.remedy


def test_a_column_cannot_play_two_parts(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """Using one column for both times would hide that the other one stays behind."""
    create_table()

    with pytest.raises(SettingsError, match="two roles"):
        database.describe(source_updated_column="created_date")


def test_columns_that_stay_behind_are_listed(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """The report must list the columns that are not migrated, without dropped ones."""
    create_table("notes text", "gone int", '"Tax No" text')
    database.run("ALTER TABLE public.enterprises DROP COLUMN gone")

    assert database.describe().columns_not_migrated == ("notes", "Tax No")


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        ("smallint", "integer"),
        ("integer", "integer"),
        ("bigint", "integer"),
        ("serial", "integer"),
        ("uuid", "uuid"),
        ("text", "text"),
        ("varchar(36)", "text"),
        ("char(36)", "text"),
        ("public.number", "integer"),
        ("public.numbers", "integer"),
        ("public.key", "uuid"),
    ],
)
def test_the_kind_of_the_id_is_found(
    database: SourceDatabase, create_table: CreateTable, definition: str, kind: str
) -> None:
    """Integers, uuids and texts are ids, and so are domains over them."""
    database.run(
        "CREATE DOMAIN public.number AS bigint CHECK (value > 0)",
        "CREATE DOMAIN public.numbers AS public.number CHECK (value > 1)",
        "CREATE DOMAIN public.key AS uuid NOT NULL",
    )
    create_table(id=f"id {definition} PRIMARY KEY")

    assert database.describe().id_kind == kind


@pytest.mark.parametrize(
    ("part", "column", "named"),
    [
        ("id", "id numeric PRIMARY KEY", "numeric"),
        ("id", "id double precision PRIMARY KEY", "float8"),
        ("id", "id timestamptz PRIMARY KEY", "timestamptz"),
        ("id", "id int[] PRIMARY KEY", "_int4"),
        ("name", "name bytea", "bytea"),
        ("name", "name jsonb", "jsonb"),
        ("name", "name integer", "int4"),
        ("name", "name text[]", "_text"),
        ("created", "created_date text", "text"),
        ("created", "created_date bigint", "int8"),
        ("updated", "updated_date time", "time"),
        ("updated", "updated_date tstzrange", "tstzrange"),
    ],
)
def test_another_type_is_refused(
    database: SourceDatabase,
    create_table: CreateTable,
    part: str,
    column: str,
    named: str,
) -> None:
    """Types with ambiguous values are refused, with a list of the valid types."""
    create_table(**{part: column})

    with pytest.raises(SourceError) as refused:
        database.describe()

    name = first_word(column)
    assert f"Column {name} of public.enterprises" in refused.value.message
    assert refused.value.message.endswith(f"has type {named}.")
    assert "type is one of" in refused.value.remedy


# --- The table


@pytest.mark.parametrize(
    ("created", "setting"),
    [
        ("public.firms", "public.firms"),
        ("public.firms", "firms"),
        ("public.firms", ' "public"."firms" '),
        ('public."Firms"', 'public."Firms"'),
        ('public."Firms"', "public.Firms"),
        ('public."Firms"', "Firms"),
        ('public."select"', "public.select"),
        ('public."a.b"', 'public."a.b"'),
        ('public."a""b"', '"public"."a""b"'),
        ('public."a b%s{0}"', 'public."a b%s{0}"'),
        ('"CRM 1"."Firms; --"', '"CRM 1"."Firms; --"'),
    ],
)
def test_any_table_name_can_be_given(
    database: SourceDatabase, create_table: CreateTable, created: str, setting: str
) -> None:
    """Case, quotes and odd characters must select exactly that table."""
    columns = {
        "id": '"%id" bigint PRIMARY KEY',
        "name": '"Firm ""Name""" text',
        "created": '"{created}" date',
        "updated": '"source" timestamptz',
    }
    database.run('CREATE SCHEMA "CRM 1"')
    create_table(table=created, **columns)
    row = "VALUES (1, 'a', '2024-01-05', 'infinity')"
    database.run(f"INSERT INTO {created} {row}")

    rows = database.rows(
        source_table=setting,
        source_id_column="%id",
        source_name_column='Firm "Name"',
        source_created_column="{created}",
        source_updated_column="source",
        source_timezone="UTC",
    )

    assert rows == [("1", "a", "2024-01-05 00:00:00+00", "infinity")]


@pytest.mark.parametrize("column", ["position", "place", "bound", "source", "id"])
def test_a_column_may_have_a_name_that_queries_use(
    database: SourceDatabase, create_table: CreateTable, column: str
) -> None:
    """Internal names in the queries must not clash with those of the table."""
    create_table(id=f"{column} bigint PRIMARY KEY")
    database.run(
        "INSERT INTO public.enterprises SELECT i FROM generate_series(8, 12) i"
    )

    found = database.partitions(2, source_id_column=column)

    assert [f["source_id"].tolist() for f in found] == [
        ["8", "9"],
        ["10", "11"],
        ["12"],
    ]


@pytest.mark.parametrize("setting", ["a.b.c", "a.", ".a", '"a', 'a"b', '""', "a..b"])
def test_what_is_no_table_name_is_refused(
    database: SourceDatabase, setting: str
) -> None:
    """The message must quote a name that cannot be parsed, instead of a search."""
    with pytest.raises(SettingsError, match="is not a table name") as refused:
        database.describe(source_table=setting)

    assert setting in refused.value.message


def test_a_missing_table_is_named_with_its_namesakes(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """A wrong schema or case is the usual mistake, so similar names are listed."""
    database.run("CREATE SCHEMA crm")
    create_table(table="crm.enterprises")
    create_table(table='public."Enterprises"')

    with pytest.raises(SourceError, match=r"public\.enterprises is not in") as refused:
        database.describe()

    assert 'crm.enterprises, public."Enterprises"' in refused.value.remedy


def test_an_empty_database_is_told_from_a_wrong_name(database: SourceDatabase) -> None:
    """If no schema has a table with the name, the remedy must report that."""
    with pytest.raises(SourceError, match="is not in this database") as refused:
        database.describe()

    assert "none" in refused.value.remedy


def test_a_decoy_in_the_search_path_is_not_read(
    database: SourceDatabase, create_table: CreateTable, role: str
) -> None:
    """The named schema must be read, whatever comes first in search_path."""
    database.run("CREATE SCHEMA decoy", f"GRANT USAGE ON SCHEMA decoy TO {role}")
    for schema in ("decoy", "public"):
        create_table(table=f"{schema}.enterprises")
        database.run(
            f"INSERT INTO {schema}.enterprises VALUES (1, '{schema}')",  # noqa: S608
            f"GRANT SELECT ON {schema}.enterprises TO {role}",
        )
    database.run(f"ALTER ROLE {role} SET search_path = decoy, public")
    reader = database.as_user(role)

    assert reader.ask("SELECT name FROM enterprises") == "decoy"
    assert reader.rows() == [("1", "public", None, None)]
    assert reader.rows(source_table="enterprises") == [("1", "public", None, None)]


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_is_refused(
    database: SourceDatabase, create_table: CreateTable, kind: str
) -> None:
    """The ids of a view are not guaranteed to be unique, so it cannot be proven."""
    create_table(table="public.firms")
    database.run(f"CREATE {kind} public.enterprises AS TABLE public.firms")

    with pytest.raises(SourceError, match="is not a table") as refused:
        database.describe()

    assert "table behind it" in refused.value.remedy


def test_a_parent_of_inherited_tables_is_refused(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """A read includes the rows of a child, which may repeat an id of the parent."""
    create_table()
    database.run(
        "CREATE TABLE public.child (PRIMARY KEY (id)) INHERITS (public.enterprises)",
        "INSERT INTO public.enterprises VALUES (1, 'parent')",
        "INSERT INTO public.child VALUES (1, 'child')",
    )

    with pytest.raises(SourceError, match="inherited tables"):
        database.describe()

    assert database.rows(source_table="public.child") == [("1", "child", None, None)]


def test_a_partitioned_table_is_read_whole(
    database: SourceDatabase,
) -> None:
    """Partitions are one table: each row is read once, including the default's rows."""
    database.run(
        TABLE + "PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF public.enterprises FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE high PARTITION OF public.enterprises DEFAULT",
        "INSERT INTO public.enterprises SELECT i FROM generate_series(-5, 20) i",
    )

    found = [each for f in database.partitions(4) for each in f["source_id"]]

    assert found == [str(i) for i in range(-5, 21)]


# --- The key


@pytest.mark.parametrize(
    ("column", "more"),
    [
        ("id bigint", ()),
        ("id bigint NOT NULL", ()),
        ("id bigint UNIQUE", ()),
        ("id bigint NOT NULL", ("UNIQUE (id, name)",)),
        ("id bigint", ("PRIMARY KEY (id, name)",)),
        ("id bigint NOT NULL", ("CREATE UNIQUE INDEX ON {} (id) WHERE id > 0",)),
        ("id bigint NOT NULL", ("CREATE UNIQUE INDEX ON {} ((id + 0))",)),
        ("id bigint NOT NULL", ("CREATE INDEX ON {} (id)",)),
        (
            "id bigint UNIQUE",
            (
                "INSERT INTO {} VALUES (NULL, 'a')",
                "ALTER TABLE {} ADD CONSTRAINT n NOT NULL id NOT VALID",
            ),
        ),
    ],
)
def test_an_id_that_is_no_key_is_refused(
    database: SourceDatabase,
    create_table: CreateTable,
    column: str,
    more: tuple[str, ...],
) -> None:
    """An id that may be NULL or occur twice would lose rows."""
    indexes = [text for text in more if "{}" in text]
    create_table(*(text for text in more if "{}" not in text), id=column)
    database.run(*(text.format("public.enterprises") for text in indexes))

    with pytest.raises(SourceError, match="not a unique, not-null key") as refused:
        database.describe()

    assert "ADD PRIMARY KEY" in refused.value.remedy


@pytest.mark.parametrize(
    ("column", "more"),
    [
        ("id bigint NOT NULL UNIQUE", ()),
        ("id bigint NOT NULL", ("UNIQUE (id) INCLUDE (name)",)),
        ("id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", ()),
        ("id bigint NOT NULL", ("UNIQUE (id) DEFERRABLE INITIALLY DEFERRED",)),
    ],
)
def test_a_unique_id_is_a_key(
    database: SourceDatabase,
    create_table: CreateTable,
    column: str,
    more: tuple[str, ...],
) -> None:
    """A table without a primary key is accepted if its id is unique and not null."""
    create_table(*more, id=column)

    assert database.describe().id_column == "id"


# --- What the role may see


@pytest.mark.parametrize("policy", [True, False])
def test_row_level_security_is_refused(
    database: SourceDatabase, create_table: CreateTable, role: str, *, policy: bool
) -> None:
    """A policy hides rows without an error, so such a role cannot migrate."""
    create_table()
    database.run(RULES, f"GRANT SELECT ON public.enterprises TO {role}")
    if not policy:
        database.run("DROP POLICY mine ON public.enterprises")
    reader = database.as_user(role)

    assert reader.ask("SELECT count(*) FROM public.enterprises") == int(policy)
    with pytest.raises(SourceError, match="Row-level security hides rows") as refused:
        reader.describe()

    assert "BYPASSRLS" in refused.value.remedy


def test_row_level_security_that_comes_later_is_an_error(
    database: SourceDatabase, create_table: CreateTable, role: str
) -> None:
    """A policy created after the check must fail the read, not filter its rows."""
    create_table()
    database.run(RULES, f"GRANT SELECT ON public.enterprises TO {role}")
    query = "SELECT count(*) FROM public.enterprises"

    with pytest.raises(SourceError, match="row-level security"):
        run_as_source(database.as_user(role), query)


@pytest.mark.parametrize("right", ["BYPASSRLS", "SUPERUSER", "owner"])
def test_a_role_that_sees_every_row_is_accepted(
    database: SourceDatabase, create_table: CreateTable, role: str, right: str
) -> None:
    """Row-level security has exceptions; a role that sees all rows may migrate."""
    create_table()
    database.run(RULES, f"GRANT SELECT ON public.enterprises TO {role}")
    database.run(
        f"ALTER TABLE public.enterprises OWNER TO {role}"
        if right == "owner"
        else f"ALTER ROLE {role} {right}"
    )

    assert len(database.as_user(role).rows()) == 2


def test_an_owner_who_is_bound_by_policies_is_refused(
    database: SourceDatabase, create_table: CreateTable, role: str
) -> None:
    """FORCE ROW LEVEL SECURITY hides rows from the owner as well."""
    create_table()
    database.run(
        RULES,
        f"ALTER TABLE public.enterprises OWNER TO {role}",
        "ALTER TABLE public.enterprises FORCE ROW LEVEL SECURITY",
    )

    with pytest.raises(SourceError, match="Row-level security"):
        database.as_user(role).describe()


@pytest.mark.parametrize(
    ("granted", "column"),
    [
        ("", "id"),
        ("(name, created_date)", "id"),
        ("(id, name, created_date)", "updated"),
    ],
)
def test_a_missing_privilege_is_named(
    database: SourceDatabase,
    create_table: CreateTable,
    role: str,
    granted: str,
    column: str,
) -> None:
    """The message must name the column and the table of a missing privilege."""
    create_table()
    if granted:
        database.run(f"GRANT SELECT {granted} ON public.enterprises TO {role}")

    with pytest.raises(SourceError, match=f"may not read column {column}") as refused:
        database.as_user(role).describe()

    assert "public.enterprises" in refused.value.message
    assert "GRANT SELECT" in refused.value.remedy


def test_privileges_on_the_four_columns_are_enough(
    database: SourceDatabase, create_table: CreateTable, role: str
) -> None:
    """Columns that are not migrated need not be readable."""
    create_table("salary int")
    database.run(
        "INSERT INTO public.enterprises VALUES (1, 'a')",
        "GRANT SELECT (id, name, created_date, updated_date)"
        f" ON public.enterprises TO {role}",
    )

    reader = database.as_user(role)

    assert reader.rows() == [("1", "a", None, None)]
    assert reader.describe().columns_not_migrated == ("salary",)


def test_a_schema_that_is_closed_is_named(
    database: SourceDatabase, create_table: CreateTable, role: str
) -> None:
    """A privilege on the table has no effect without USAGE of its schema."""
    database.run("CREATE SCHEMA crm")
    create_table(table="crm.enterprises")
    database.run(f"GRANT SELECT ON crm.enterprises TO {role}")

    with pytest.raises(
        SourceError, match="permission denied for schema crm"
    ) as refused:
        database.as_user(role).rows(source_table="crm.enterprises")

    assert "USAGE" in refused.value.remedy


def test_remedies_can_be_pasted(
    database: SourceDatabase, create_table: CreateTable, role: str
) -> None:
    """Each remedy for a table with odd names must be valid SQL that fixes one cause."""
    columns = {"id": '"Key ""1""" bigint NOT NULL', "name": '"order" text'}
    odd = f'{role}" My'
    quoted = '"' + odd.replace('"', '""') + '"'
    table = '"CRM 1"."Firms; --"'
    database.run('CREATE SCHEMA "CRM 1"', f"ALTER ROLE {role} RENAME TO {quoted}")
    create_table(table=table, **columns)
    settings = {
        "source_table": table,
        "source_id_column": 'Key "1"',
        "source_name_column": "order",
    }
    reader = database.as_user(quote(odd))
    steps = []
    try:
        for _ in range(4):
            try:
                reader.describe(**settings)
            except SourceError as refused:
                steps.append(refused.remedy.split(" ", 1)[0])
                database.run(refused.remedy)
    finally:
        database.run(f"ALTER ROLE {quoted} RENAME TO {role}")

    assert steps == ["GRANT", "GRANT", "ALTER"]


def test_a_namesake_can_be_pasted(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """SOURCE_TABLE must accept each listed name, including its dots."""
    database.run('CREATE SCHEMA "a.b"')
    create_table(table='"a.b"."ENTERPRISES"')

    with pytest.raises(SourceError) as refused:
        database.describe()

    (name,) = re.findall(r"name: (.*)\.$", refused.value.remedy)
    assert database.describe(source_table=name).schema == "a.b"


# --- Encodings


def test_bytes_without_meaning_are_refused(postgres_server: str) -> None:
    """SQL_ASCII does not define the characters of its bytes, so it is refused."""
    with new_database(postgres_server, OTHER_ENCODING.format("SQL_ASCII")) as database:
        database.run(TABLE)

        with pytest.raises(SourceError, match="SQL_ASCII") as refused:
            database.describe()

    assert "UTF8" in refused.value.remedy


def test_another_encoding_is_converted(
    postgres_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name must arrive as the same text, whatever the server and client settings."""
    with new_database(postgres_server, OTHER_ENCODING.format("LATIN1")) as database:
        database.run(
            TABLE,
            "INSERT INTO public.enterprises VALUES (1, 'Ünïcode & Søn')",
        )
        monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")

        assert database.rows() == [("1", "Ünïcode & Søn", None, None)]


def test_bytes_that_no_character_stands_for_are_told(postgres_server: str) -> None:
    """Some encodings leave bytes undefined: a row with such a byte must be fixed."""
    with new_database(postgres_server, OTHER_ENCODING.format("WIN1252")) as database:
        database.run(
            TABLE,
            "SET client_encoding = 'WIN1252'; INSERT INTO public.enterprises"
            " VALUES (1, convert_from('\\x81', 'WIN1252'))",
        )

        with pytest.raises(SourceError, match="22P05") as refused:
            database.rows()

    assert "cannot be converted to UTF-8" in refused.value.message
    assert "0x81" not in str(refused.value)
    assert "Fix the row" in refused.value.remedy


# --- Failed connections


def test_a_wrong_password_is_told(locked_out: SourceDatabase) -> None:
    """The message names user and database, the remedy the password's setting."""
    error = connection_refusal(locked_out.url)

    assert "password authentication failed" in error.message
    assert "user role_" in error.message
    assert error.remedy == "Check the user and the password in DATABASE_URL."


def test_a_missing_password_is_told(locked_out: SourceDatabase) -> None:
    """If a password is required and none is set, the message must report it."""
    error = connection_refusal(locked_out.url.replace(f":{CANARY}@", "@"))

    assert "no password supplied" in error.message
    assert error.remedy == "Check the user and the password in DATABASE_URL."


def test_a_wrong_database_is_told(database: SourceDatabase) -> None:
    """The message names the database that does not exist."""
    error = connection_refusal(re.sub(r"/test_\w+", "/nowhere", database.url))

    assert 'database "nowhere" does not exist' in error.message
    assert error.remedy == "Check the database and the user in DATABASE_URL."


@pytest.mark.parametrize("password", ["postgres", "does", "exist", "database", "SSL"])
@pytest.mark.parametrize("name", ["nowhere", "SSL", "authentication failed"])
def test_a_password_of_the_messages_letters_hides_no_reason(
    database: SourceDatabase, password: str, name: str
) -> None:
    """The reason is shown even if the password is a word or a name in the message."""
    url = re.sub(r"/test_\w+", f"/{name.replace(' ', '%20')}", database.url)

    with pytest.raises(SourceError) as refused:
        run_as_source(SourceDatabase(url).as_user("postgres", password), "SELECT 1")

    assert f'database "{name}" does not exist' in refused.value.message
    assert refused.value.remedy == "Check the database and the user in DATABASE_URL."


def test_a_password_that_is_the_users_name_hides_no_reason(
    database: SourceDatabase, role: str
) -> None:
    """For `app:app` with another password, the message names the user."""
    with demanding_password(database, role):
        stranger = database.as_user(role, role)
        await_refusal(stranger)
        with pytest.raises(SourceError) as refused:
            run_as_source(stranger, "SELECT 1")

    assert f'authentication failed for user "{role}"' in refused.value.message
    assert refused.value.remedy == "Check the user and the password in DATABASE_URL."


def test_a_wrong_user_is_told(database: SourceDatabase) -> None:
    """The message names the user that does not exist."""
    error = connection_refusal(database.as_user("nobody_here", CANARY).url)

    assert 'role "nobody_here" does not exist' in error.message
    assert error.remedy == "Check the database and the user in DATABASE_URL."


def test_a_wrong_port_is_told() -> None:
    """If nothing listens, the message names host, port and the cause."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    error = connection_refusal(f"postgresql://app:{CANARY}@127.0.0.1:{port}/app")

    assert f"PostgreSQL at 127.0.0.1:{port}, database app, user app" in error.message
    assert "Connection refused" in error.message
    assert "Check the host and the port" in error.remedy


def test_a_wrong_host_is_told() -> None:
    """The message quotes a name that cannot be resolved."""
    error = connection_refusal(f"postgresql://app:{CANARY}@no-such-host.invalid/app")

    assert "no-such-host.invalid" in error.message
    assert "Check the host and the port" in error.remedy


def test_a_wrong_socket_folder_is_told(tmp_path: Path) -> None:
    """The message names a folder without a socket."""
    error = connection_refusal(f"postgresql://app:{CANARY}@/app?host={tmp_path}")

    assert str(tmp_path) in error.message
    assert "Check the host and the port" in error.remedy


def test_a_server_without_tls_is_told() -> None:
    """If TLS is required and refused, the remedy is about TLS."""
    with listening(b"N") as port:
        url = f"postgresql://app:{CANARY}@127.0.0.1:{port}/app?sslmode=require"
        error = connection_refusal(url)

    assert "SSL" in error.message
    assert "sslmode=" in error.remedy
    assert "Off loopback" not in error.remedy


@pytest.mark.parametrize("query", ["sslmode=no-verify", "connect_timeout=abc"])
def test_a_parameter_that_is_wrong_is_told(query: str) -> None:
    """A value that libpq refuses is a fault of the setting, not of the server."""
    error = connection_refusal(f"postgresql://app:{CANARY}@127.0.0.1:1/app?{query}")

    assert query.partition("=")[0] in error.message
    assert "Correct this parameter in DATABASE_URL" in error.remedy


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (f'role "{CANARY}" is strange', "Check the host and the port"),
        (f"expired: {CANARY}", "Check the host and the port"),
        ("unsupported startup parameter: options", "ignore_startup_parameters"),
        ("unsupported startup parameter in options: geqo", "PGOPTIONS"),
        ('no pg_hba.conf entry for host "x", SSL off', "Add a line"),
        ('role "x" is not permitted to log in', 'ALTER ROLE "My App" LOGIN;'),
        (
            'permission denied for database "app"',
            'GRANT CONNECT ON DATABASE "app" TO "My App";',
        ),
    ],
)
def test_a_refusal_has_its_own_remedy(said: str, remedy: str) -> None:
    """Each message of a server or PgBouncer has a remedy, and shows no password."""
    fields = f"SFATAL\0VFATAL\0C08P01\0M{said}\0\0".encode()
    answer = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
    with listening(answer) as port:
        url = f"postgresql://My%20App:{CANARY}@127.0.0.1:{port}/app?sslmode=disable"
        error = connection_refusal(url)

    assert said.replace(CANARY, "***") in error.message
    assert remedy in error.remedy


def test_a_server_that_is_no_postgresql_is_told() -> None:
    """Any answer of another kind of server must become one error of the program."""
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        url = f"postgresql://app:{CANARY}@127.0.0.1:{port}/app"
        error = connection_refusal(url)

    assert f"127.0.0.1:{port}" in error.message
    assert "\n" not in error.message


# --- Time zones


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"created": "created_date timestamp"}, "created_date"),
        ({"updated": "updated_date timestamp(3)"}, "updated_date"),
        (
            {"created": "created_date date", "updated": "updated_date public.moment"},
            "created_date, updated_date",
        ),
    ],
)
def test_times_without_zone_need_the_setting(
    database: SourceDatabase,
    create_table: CreateTable,
    changed: dict[str, str],
    named: str,
) -> None:
    """The setting must define zoneless times; no machine's zone is assumed."""
    database.run("CREATE DOMAIN public.moment AS timestamp")
    create_table(**changed)

    with pytest.raises(SettingsError) as refused:
        database.describe()

    assert refused.value.message == f"The times in {named} have no time zone."
    assert "SOURCE_TIMEZONE" in refused.value.remedy
    source = database.describe(source_timezone="Europe/Paris")
    assert source.timezone == "Europe/Paris"
    assert (source.created_zoneless, source.updated_zoneless) == (
        "created_date" in named,
        "updated_date" in named,
    )


@pytest.mark.parametrize(
    "zone", ["Europe/Pariss", "europe/paris", "UTC+3", "+02:00", "local", "'"]
)
def test_an_unknown_zone_is_refused(
    database: SourceDatabase, create_table: CreateTable, zone: str
) -> None:
    """PostgreSQL reads some misspellings as offsets, so names are looked up."""
    create_table(created="created_date timestamp")

    with pytest.raises(SettingsError, match="is not known") as refused:
        database.describe(source_timezone=zone)

    assert repr(zone) in refused.value.message


@pytest.mark.parametrize("zone", ["CET", "EET", "MET", "WET", "EST", "MST", "HST"])
def test_an_abbreviation_is_refused(
    database: SourceDatabase, create_table: CreateTable, zone: str
) -> None:
    """AT TIME ZONE 'CET' is one offset all year, and not the zone of that name."""
    create_table(created="created_date timestamp")

    with pytest.raises(SettingsError, match="abbreviation") as refused:
        database.describe(source_timezone=zone)

    assert "Europe/Paris" in refused.value.remedy


@pytest.mark.parametrize(
    "zone", ["UTC", "GMT", "Etc/UTC", "Etc/GMT-3", "EST5EDT", "Asia/Kolkata"]
)
def test_a_zone_with_one_meaning_is_accepted(
    database: SourceDatabase, create_table: CreateTable, zone: str
) -> None:
    """Names that mean the same everywhere must pass."""
    create_table(created="created_date timestamp")

    assert database.describe(source_timezone=zone).timezone == zone


# --- Sessions and snapshots


def run_as_source(database: SourceDatabase, query: str) -> Any:
    """Run a query as the program does; return the first value, if there is one."""
    with open_source(database.settings()) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return (cursor.fetchone() or [None])[0] if cursor.description else None


@pytest.mark.parametrize("owner", ["ROLE {role}", "DATABASE {name}"])
def test_a_session_is_the_same_for_every_role_and_database(
    database: SourceDatabase, role: str, owner: str
) -> None:
    """An administrator's settings for a role or a database must not change any text."""
    whose = owner.format(role=role, name=database.ask("SELECT current_database()"))
    database.run(*(f"ALTER {whose} SET {n} = {v}" for n, v in UNUSUAL.items()))
    reader = database.as_user(role)
    assert reader.ask("SHOW timezone") == "Asia/Kolkata"

    with open_source(reader.settings()) as connection, connection.cursor() as cursor:
        found = {}
        for name in SESSION:
            cursor.execute(f"SHOW {name}")
            found[name] = (cursor.fetchone() or ("",))[0]

    assert found == SESSION


def test_timeouts_of_the_role_do_not_hurt(database: SourceDatabase, role: str) -> None:
    """Limits for interactive users must not end a long query or an idle session."""
    for limit in (
        "statement_timeout",
        "transaction_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
    ):
        database.run(f"ALTER ROLE {role} SET {limit} = '100ms'")
    reader = database.as_user(role)

    with open_source(reader.settings()) as connection, connection.cursor() as cursor:
        time.sleep(0.2)
        cursor.execute("SELECT pg_sleep(0.2)")
        time.sleep(0.2)
        cursor.execute("SELECT 1")

        assert cursor.fetchone() == (1,)


@pytest.mark.parametrize(("asked", "idle"), [("", "60"), ("&keepalives_idle=7", "7")])
def test_an_idle_session_is_kept_alive(
    database: SourceDatabase, asked: str, idle: str
) -> None:
    """A session that is idle for hours must keep its snapshot and its connection.

    Nor may it wait two hours for a lost peer, which is the default of the system.
    """
    settings = Settings.isolated(database_url=database.url + asked)
    with open_source(settings) as connection:
        told = connection.info.dsn_parameters

    assert (told["keepalives_idle"], told["keepalives_interval"]) == (idle, "10")
    assert told["keepalives_count"] == "6"


def test_the_source_cannot_be_written(
    database: SourceDatabase, create_table: CreateTable
) -> None:
    """A session on the source must be read-only, whatever its role may do."""
    create_table()

    with pytest.raises(SourceError, match="ReadOnlySqlTransaction"):
        run_as_source(database, "DELETE FROM public.enterprises")


def test_an_error_of_the_server_holds_no_value(database: SourceDatabase) -> None:
    """PostgreSQL quotes values in its messages; the program must not repeat them."""
    with pytest.raises(SourceError) as refused:
        run_as_source(database, f"SELECT '{CANARY}'::int")

    error = refused.value
    assert "SQLSTATE 22P02" in error.message
    assert CANARY not in str(error) + repr(error) + repr(pickle.dumps(error))


def test_an_exported_snapshot_names_its_time_and_place(
    database: SourceDatabase,
) -> None:
    """The report must be able to name the time and the log position of the data."""
    with open_source(database.settings()) as connection:
        name, taken = export_snapshot(connection)

    assert re.fullmatch(r"[0-9A-F]{8}-[0-9A-F]{8}-\d+", name)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z, LSN [0-9A-F]+/[0-9A-F]+", taken
    )


@pytest.mark.parametrize("sees_all", [True, False])
def test_a_role_that_sees_no_other_transaction_is_given_an_hour(
    database: SourceDatabase, role: str, *, sees_all: bool
) -> None:
    """An invisible transaction may have stamped rows that are not yet committed."""
    if sees_all:
        database.run(f"GRANT pg_read_all_stats TO {role}")
    with open_source(database.as_user(role).settings()) as connection:
        watermark = datetime.fromisoformat(read_watermark(connection))

    hour_ago = datetime.now(UTC) - timedelta(minutes=59)
    assert (watermark > hour_ago) is sees_all


def test_a_prepared_transaction_is_given_an_hour(postgres_server: str) -> None:
    """It stamped its rows when it began, but only the time of its PREPARE is known."""
    prepare = "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'late'"
    with running_standby(postgres_server, max_prepared_transactions=1) as standby:
        promoted = SourceDatabase(standby.url)
        promoted.run("SELECT pg_promote()", prepare)
        with open_source(promoted.settings()) as connection:
            watermark = datetime.fromisoformat(read_watermark(connection))

    assert watermark < datetime.now(UTC) - timedelta(minutes=59)


@pytest.mark.parametrize("end", ["commit", "close"])
def test_a_snapshot_that_is_gone_makes_the_run_incomplete(
    database: SourceDatabase, end: str
) -> None:
    """After the exporter's end a session must stop, resumable, and read no other."""
    with open_source(database.settings()) as exporter:
        snapshot, _ = export_snapshot(exporter)
        if end == "commit":
            exporter.commit()
        else:
            exporter.close()

        with (
            pytest.raises(SourceLost, match="snapshot") as lost,
            open_source(database.settings(), snapshot),
        ):
            pass

    assert lost.value.remedy


@pytest.mark.parametrize(
    ("statement", "cause"),
    [
        ("SELECT pg_terminate_backend(pid) FROM {}", "OperationalError"),
        ("SELECT pg_cancel_backend(pid) FROM {}", "QueryCanceled 57014"),
    ],
)
def test_a_session_that_is_ended_is_lost(
    database: SourceDatabase, statement: str, cause: str
) -> None:
    """An administrator who ends a query must make the run incomplete, not refused."""
    activity = "pg_stat_activity WHERE application_name = 'enterprises'"
    # Only this query: ending an earlier one would not affect the session under test.
    asleep = "state = 'active' AND query LIKE '%pg_sleep%'"
    mine = f"{activity} AND datname = current_database() AND {asleep}"
    count = "SELECT count(*) FROM {}"

    def end() -> None:
        while not database.ask(count.format(mine)):
            time.sleep(0.02)
        database.run(statement.format(mine))

    thread = Thread(target=end)
    thread.start()
    with pytest.raises(SourceLost) as lost:
        run_as_source(database, "SELECT pg_sleep(30)")
    thread.join()

    assert cause in lost.value.message
    assert lost.value.exit_code == 4


def test_a_session_that_is_ended_at_rest_is_lost(database: SourceDatabase) -> None:
    """A connection closed between two queries must not be reported as refused."""
    end = "SELECT pg_terminate_backend({})"

    def ask_after_the_end() -> None:
        with open_source(database.settings()) as connection:
            database.run(end.format(connection.info.backend_pid))
            connection.cursor().execute("SELECT 1")

    with pytest.raises(SourceLost) as lost:
        ask_after_the_end()

    assert "run again" in lost.value.remedy.lower()
