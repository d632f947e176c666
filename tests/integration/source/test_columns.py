"""The columns of the source: found, or refused with the cause."""

import pytest

from flows.errors import SettingsError, SourceError
from flows.stores.postgres.schema import CANDIDATES
from tests.support.source_database import (
    SourceDatabase,
)
from tests.support.source_table import COLUMNS, CreateTable


def first_word(definition: str) -> str:
    """Return the name of a column from its definition."""
    return definition.split(maxsplit=1)[0]


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
