"""Roles and encodings: what hides or garbles rows is refused."""

import re
from urllib.parse import quote

import pytest

from flows.errors import SourceError
from tests.support.source_database import (
    TABLE,
    SourceDatabase,
    new_database,
)
from tests.support.source_table import CreateTable, run_as_source

RULES = """
INSERT INTO public.enterprises VALUES (1, 'mine'), (2, 'hidden');
ALTER TABLE public.enterprises ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON public.enterprises USING (name = 'mine');
"""


OTHER_ENCODING = "ENCODING '{}' LOCALE 'C' TEMPLATE template0"


def first_word(definition: str) -> str:
    """Return the name of a column from its definition."""
    return definition.split(maxsplit=1)[0]


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
