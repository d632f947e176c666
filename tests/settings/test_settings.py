"""The settings: their sources, refused values, and secrets that stay secret."""

import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote
from uuid import UUID, uuid5

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from flows.errors import SettingsError
from flows.settings import ID_NAMESPACE, LOOPBACK, Settings, load_settings, using

CANARY = "Tr0ub4dorX"
URL = f"postgresql://app:{CANARY}@127.0.0.1:5433/enterprises"
ARGUMENTS = {
    "user": "app",
    "password": CANARY,
    "host": "127.0.0.1",
    "port": 5433,
    "dbname": "enterprises",
}
NAMESPACE_URL = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
# Each variable with a text that is not its default.
VARIABLES = {
    "STORAGE_MODE": "dynamodb",
    "DATABASE_URL": URL,
    "PGHOST": "db.example.com",
    "PGPORT": "5434",
    "PGDATABASE": "app",
    "PGUSER": "reader",
    "PGPASSWORD": CANARY,
    "PGSSLMODE": "require",
    "PGSSLROOTCERT": "/etc/ca.pem",
    "PGSERVICE": "production",
    "SOURCE_TABLE": "crm.firms",
    "SOURCE_ID_COLUMN": "firm_id",
    "SOURCE_NAME_COLUMN": "firm",
    "SOURCE_CREATED_COLUMN": "born",
    "SOURCE_UPDATED_COLUMN": "touched",
    "SOURCE_TIMEZONE": "Europe/Paris",
    "MAPPING_FILE": "mapping.toml",
    "LOCK_WAIT_SECONDS": "7",
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "AWS_SESSION_TOKEN": CANARY,
    "AWS_PROFILE": "ops",
    "DYNAMODB_ENTERPRISE_TABLE": "Firms",
    "DYNAMODB_ENDPOINT": "http://localhost:8000",
    "ALLOW_INSECURE_ENDPOINT": "True",
    "PORT": "8080",
    "API_TOKEN": CANARY,
    "ALLOW_ANONYMOUS": "True",
    "API_CURSOR_KEY": CANARY,
    "CORS_ORIGINS": "https://app.example.com",
    "DYNAMODB_CONSISTENT_READS": "True",
    "STATE_URL": "sqlite:///elsewhere.db",
    "RUNS_DIR": "elsewhere",
    "DASK_SCHEDULER_ADDRESS": "tcp://10.0.0.5:8786",
    "ALERT_WEBHOOK_URL": f"https://hooks.example.com/{CANARY}",
    "ITEM_PROVENANCE": "True",
    "ID_NAMESPACE": "6ba7b811-9dad-11d1-80b4-00c04fd430c8",
    "SENDERS": "16",
    "LEASE_SECONDS": "60",
}
SECRETS = [name for name, text in VARIABLES.items() if CANARY in text]

Variables = Callable[..., None]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Variables:
    """Return a function that sets environment variables for this test."""

    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.fixture
def dotenv(tmp_path: Path) -> Variables:
    """Return a function that writes the `.env` of the current folder."""

    def write(**values: str) -> None:
        lines = (f"{name}={value}\n" for name, value in values.items())
        (tmp_path / ".env").write_text("".join(lines), encoding="utf-8")

    return write


def plain(settings: Settings) -> dict[str, str]:
    """Return every setting that is not None as text, by its variable's name."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return {
        name.upper(): getattr(value, "get_secret_value", lambda v=value: str(v))()
        for name, value in values.items()
        if value is not None
    }


def refusal(url: str) -> str:
    """Return everything visible of a refused URL: the error, and its traceback."""
    with pytest.raises(SettingsError) as refused:
        Settings.isolated(database_url=url).source_arguments()
    return shown(refused.value)


def shown(error: SettingsError) -> str:
    """Return an error as people, logs and other processes see it."""
    assert error.remedy
    trace = "".join(traceback.format_exception(error))
    return "\n".join([str(error), repr(error), trace, repr(pickle.dumps(error))])


def parts(secret: str) -> set[str]:
    """Return the pieces of a secret that would reveal it."""
    return {secret[i : i + 4] for i in range(max(1, len(secret) - 3))}


# --- Where settings come from


def test_every_setting_is_read_from_the_variable_of_its_name(
    variables: Variables,
) -> None:
    """Each setting must be reachable by its upper-case name, and none untested."""
    variables(**VARIABLES)

    assert plain(load_settings()) == VARIABLES


def test_every_setting_is_read_from_the_dotenv_file(dotenv: Variables) -> None:
    """`.env` must be able to set everything that the environment can."""
    dotenv(**VARIABLES)

    assert plain(load_settings()) == VARIABLES


def test_the_environment_wins_over_the_dotenv_file(
    variables: Variables, dotenv: Variables
) -> None:
    """A variable must override its line in `.env`, and no other line."""
    dotenv(SOURCE_TABLE="crm.firms", AWS_REGION="eu-west-1")
    variables(AWS_REGION="us-east-1")

    settings = load_settings()

    assert (settings.source_table, settings.aws_region) == ("crm.firms", "us-east-1")


def test_defaults_are_those_of_the_contract() -> None:
    """Without any variable the settings must be the documented defaults."""
    assert plain(load_settings()) == {
        "STORAGE_MODE": "postgres",
        "SOURCE_TABLE": "public.enterprises",
        "LOCK_WAIT_SECONDS": "5",
        "DYNAMODB_ENTERPRISE_TABLE": "EnterpriseConfig",
        "ALLOW_INSECURE_ENDPOINT": "False",
        "PORT": "4000",
        "ALLOW_ANONYMOUS": "False",
        "DYNAMODB_CONSISTENT_READS": "False",
        "STATE_URL": "sqlite:///data/runs/state.db",
        "RUNS_DIR": "data/runs",
        "ITEM_PROVENANCE": "False",
        "ID_NAMESPACE": "f1bf414b-7026-5797-bdf7-4a76844e36fc",
        "SENDERS": "8",
        "LEASE_SECONDS": "30",
    }


def test_the_namespace_is_derived_as_documented() -> None:
    """The default namespace must be the version 5 id of `urn:enterprises`."""
    assert uuid5(NAMESPACE_URL, "urn:enterprises") == ID_NAMESPACE


@pytest.mark.parametrize("name", sorted(VARIABLES.keys() - {"STORAGE_MODE"}))
def test_an_empty_variable_is_an_unset_one(variables: Variables, name: str) -> None:
    """`NAME=` in a shell or a compose file must mean the default, not an empty text."""
    defaults = plain(load_settings())
    variables(**{name: ""})

    assert plain(load_settings()) == defaults


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("PGPASSWORD='a${x}$b'", "a${x}$b"),
        ("export PGPASSWORD = 'a${x}'  # right", "a${x}"),
        ("'PGPASSWORD'='${x:-z}'\r", "${x:-z}"),
        ("x=y\nPGPASSWORD='a${x}'", "a${x}"),
        ('x=y\nPGPASSWORD="a${x}"', "ay"),
        ("x=y\nPGPASSWORD=a${x}", "ay"),
        ("x='${HOME}'\nPGPASSWORD=${x}", "${HOME}"),
        ("PGPASSWORD=a${x:-z}", "az"),
        ("PGPASSWORD='it\\'s'", "it's"),
    ],
)
def test_single_quotes_of_the_dotenv_file_are_literal(
    tmp_path: Path, line: str, expected: str
) -> None:
    """A password may contain `${x}`: single quotes keep it, else it is expanded."""
    (tmp_path / ".env").write_text(f"\n# a comment\n{line}\n", encoding="utf-8")

    assert plain(load_settings())["PGPASSWORD"] == expected


def test_unknown_lines_of_the_dotenv_file_are_ignored(dotenv: Variables) -> None:
    """Other programs share the file, so their settings must not stop ours."""
    dotenv(SOMEBODY_ELSES="1", SOURCE_TABLE="crm.firms")

    assert load_settings().source_table == "crm.firms"


def test_a_dotenv_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    """A file that is not UTF-8 must be named, and none of its bytes be shown."""
    content = f"PGPASSWORD={CANARY}é\n".encode("latin-1")
    (tmp_path / ".env").write_bytes(content)

    with pytest.raises(SettingsError, match=r"\.env is not UTF-8") as refused:
        load_settings()

    assert CANARY not in shown(refused.value)


def test_settings_cannot_be_changed() -> None:
    """Checked settings must not change."""
    settings = Settings.isolated()

    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


# --- What is refused


@pytest.mark.parametrize("mode", ["postgres", "dynamodb"])
def test_a_known_storage_mode_is_accepted(variables: Variables, mode: str) -> None:
    """The two stores must be chosen by exactly these words."""
    variables(STORAGE_MODE=mode)

    assert load_settings().storage_mode == mode


@pytest.mark.parametrize(
    "mode", ["", "dynamo", "DYNAMODB", "Postgres", " postgres", "postgres,dynamodb"]
)
def test_another_storage_mode_is_refused(variables: Variables, mode: str) -> None:
    """A wrong STORAGE_MODE must stop the program, and never select a default."""
    variables(STORAGE_MODE=mode)

    with pytest.raises(SettingsError) as refused:
        load_settings()

    assert "STORAGE_MODE is not valid" in refused.value.message
    assert "'postgres' or 'dynamodb'" in refused.value.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", CANARY),
        ("PGPORT", CANARY),
        ("LEASE_SECONDS", "14"),
        ("LEASE_SECONDS", "3601"),
        ("LEASE_SECONDS", "1.5"),
        ("ID_NAMESPACE", CANARY),
        ("ITEM_PROVENANCE", CANARY),
        ("ALLOW_INSECURE_ENDPOINT", "perhaps"),
        ("CORS_ORIGINS", "app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com/path"),
        ("CORS_ORIGINS", "https://app.example.com,"),
        ("DYNAMODB_ENTERPRISE_TABLE", "T1"),
        ("DYNAMODB_ENTERPRISE_TABLE", "Enterprise Config"),
        ("DYNAMODB_ENTERPRISE_TABLE", "T" * 256),
        ("DYNAMODB_ENDPOINT", CANARY),
        ("DYNAMODB_ENDPOINT", "localhost:8000"),
        ("DYNAMODB_ENDPOINT", "ftp://localhost"),
        ("DYNAMODB_ENDPOINT", "http://"),
        ("DYNAMODB_ENDPOINT", "http://[::1"),
        ("DYNAMODB_ENDPOINT", "http://localhost:no"),
        ("RUNS_DIR", f"s3://{CANARY}/runs"),
        ("MAPPING_FILE", f"s3://{CANARY}/mapping.toml"),
        ("SOURCE_TABLE", f"public.caf\udce9{CANARY}"),
        ("DATABASE_URL", f"postgresql://u:\udce9{CANARY}@h/db"),
        # It is shown in reports and messages.
        ("DYNAMODB_ENDPOINT", f"https://app:{CANARY}@dynamo.example.com"),
    ],
)
def test_a_malformed_value_is_refused_by_name(
    variables: Variables, name: str, text: str
) -> None:
    """The variable must be named, but not its text: it may be a misplaced secret."""
    variables(**{name: text})

    with pytest.raises(SettingsError) as refused:
        load_settings()

    assert refused.value.message.startswith(f"{name} is not valid")
    assert "Value error" not in refused.value.message
    assert name in refused.value.remedy
    assert CANARY not in shown(refused.value)


def test_a_terminal_that_is_not_utf_8_changes_no_name(tmp_path: Path) -> None:
    """A table's name is UTF-8, even if Python reads the environment as ASCII."""
    code = (
        "from flows import settings as s; print(ascii(s.load_settings().source_table))"
    )
    name = "public.предприятия"
    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | posix | {"SOURCE_TABLE": name},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert ascii(name) in done.stdout


# --- Secrets


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_not_shown(variables: Variables, name: str) -> None:
    """No logged or stored form of the settings may contain a secret in clear text."""
    variables(**{name: VARIABLES[name]})
    settings = load_settings()

    forms = (repr(settings), str(settings), f"{settings}", settings.model_dump_json())
    assert [form for form in forms if CANARY in form] == []
    assert CANARY in plain(settings)[name]


def test_the_state_url_is_a_secret() -> None:
    """A state database may have a password in its URL, so it must not be shown."""
    settings = Settings.isolated(state_url=f"postgresql+psycopg2://a:{CANARY}@h/s")

    assert CANARY not in repr(settings) + settings.model_dump_json()


# --- DATABASE_URL


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_every_spelling_of_the_scheme_is_accepted(scheme: str) -> None:
    """The three schemes that tools write must give the same connection."""
    url = URL.replace("postgresql", scheme, 1)

    assert Settings.isolated(database_url=url).source_arguments() == ARGUMENTS


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://app:{CANARY}@localhost/enterprises",
        f"postgresql+asyncpg://app:{CANARY}@localhost/enterprises",
        f"app:{CANARY}@localhost/enterprises",
        f"postgresql://app:{CANARY}@localhost:port/enterprises",
        f"postgresql://app:{CANARY}/enterprises",
        f"host=localhost password={CANARY}",
    ],
)
def test_what_is_no_postgresql_url_is_refused(url: str) -> None:
    """Another scheme or no URL at all must be refused without its password."""
    seen = refusal(url)

    assert "DATABASE_URL" in seen
    assert CANARY not in seen


@pytest.mark.parametrize(
    "query", [f"password={CANARY}", f"sslmode=disable&password={CANARY}"]
)
def test_a_password_in_the_query_is_refused(query: str) -> None:
    """`?password=` is shown wherever a URL is logged, so it must be refused."""
    seen = refusal(f"postgresql://app@127.0.0.1/enterprises?{query}")

    assert "password in the query" in seen
    assert CANARY not in seen


@pytest.mark.parametrize(
    "password",
    [
        "Tr0u@b4dorX",
        "@Tr0ub4dorX",
        "Tr0ub4dorX@",
        "Tr0u@b4do?rX42",
        "Tr0u@b4do?r=X42",
        "Tr0u@b4do/rX42?y:z",
        "Tr0u@b4do#rX42",
        "Tr0u@b4do:rX42",
        "Tr0u@[b4do]rX42",
        "Tr0u/b4do@rX42",
        "Tr0u?b4do=@rX42",
        "Tr0u%zzb4do",
        "Tr0ub4do%",
        "Tr0u%00b4do",
    ],
)
@pytest.mark.parametrize("query", ["", "?sslmode=disable"])
def test_an_unescaped_password_is_refused_without_a_part_of_it(
    password: str, query: str
) -> None:
    """A password that breaks the URL must not appear as its host, port or database."""
    url = f"postgresql://app:{password}@127.0.0.1:5433/enterprises{query}"

    seen = refusal(url)

    assert "percent-encode" in seen
    assert [piece for piece in parts(password) if piece in seen] == []


@pytest.mark.parametrize("password", ["Tr0u/b4dor", "Tr0u#b4dor", "Tr0u:b4dor", "a?b"])
def test_an_unambiguous_password_is_read_as_it_is(password: str) -> None:
    """Unambiguous characters must be read, never cut off."""
    url = f"postgresql://app:{password}@127.0.0.1:5433/enterprises"
    arguments = Settings.isolated(database_url=url).source_arguments()

    assert arguments == ARGUMENTS | {"password": password}


@given(st.text(min_size=1).filter(lambda text: "\x00" not in text))
@example("p@ss/w#rd%?:x")
@hypothesis(deadline=None)
def test_any_encoded_password_is_read_back(password: str) -> None:
    """Percent-encoding must be enough for every password."""
    url = f"postgresql://app:{quote(password, safe='')}@127.0.0.1:5433/enterprises"

    arguments = Settings.isolated(database_url=url).source_arguments()

    assert arguments == ARGUMENTS | {"password": password}


@given(st.text("aZ0@/#?:[]&=.%", min_size=1, max_size=12))
@hypothesis(deadline=None)
def test_any_raw_password_is_read_exactly_or_refused(password: str) -> None:
    """No raw password may ever be read as a part of the address."""
    url = f"postgresql://app:{password}@127.0.0.1:5433/enterprises"
    settings = Settings.isolated(database_url=url)

    with suppress(SettingsError):
        found = settings.source_arguments()

        assert found == ARGUMENTS | {"password": found["password"]}
        assert "%" in password or found["password"] == password


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://us/er:{CANARY}@127.0.0.1/enterprises",
        f"postgresql://us@er:{CANARY}@127.0.0.1/enterprises",
    ],
)
def test_an_unescaped_user_does_not_give_the_password_away(url: str) -> None:
    """A user name that breaks the URL must not push the password into the address."""
    assert CANARY not in refusal(url)


def test_the_query_of_the_url_reaches_libpq() -> None:
    """The query may contain a socket folder, a port and libpq's own options."""
    url = "postgresql://app@/enterprises?host=/run/pg&port=5433&connect_timeout=3"

    assert Settings.isolated(database_url=url).source_arguments() == {
        "user": "app",
        "dbname": "enterprises",
        "host": "/run/pg",
        "port": "5433",
        "connect_timeout": "3",
    }


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (
            "u@h1:5433,h2:5434/db",
            {"user": "u", "host": "h1,h2", "port": "5433,5434", "dbname": "db"},
        ),
        (
            "u:pw@h1,h2/db",
            {"user": "u", "password": "pw", "host": "h1,h2", "dbname": "db"},
        ),
        ("u@%2Fvar%2Frun:5433/db", {"host": "/var/run", "port": 5433, "dbname": "db"}),
        ("%2Fvar%2Frun/db", {"host": "/var/run", "dbname": "db"}),
        ("u:pw@[::1]:5433/db", {"host": "::1", "port": 5433}),
        ("u@h/db%20x", {"dbname": "db x"}),
        ("u@h/db?application_name=a@b", {"application_name": "a@b"}),
        ("u:pw@h/db?application_name=a@b&user=x", {"user": "x", "password": "pw"}),
        ("h/db?application_name=a@b", {"host": "h", "application_name": "a@b"}),
        ("h/db?ssl=true", {"sslmode": "require"}),
    ],
)
def test_a_url_is_read_as_libpq_reads_it(
    rest: str, expected: dict[str, object]
) -> None:
    """Several hosts, socket folders and parameters must be read as psql reads them."""
    settings = Settings.isolated(database_url=f"postgresql://{rest}", pgsslmode="allow")
    expected = {"sslmode": "allow"} | expected

    found = settings.source_arguments()

    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("parameter", "remedy"),
    [
        ("schema=public", "SOURCE_TABLE"),
        ("ssl=1", "sslmode=verify-full"),
        ("pgbouncer=true", "Remove it"),
        ("application_name=a&connection_limit=5", "Remove it"),
    ],
)
def test_a_parameter_that_libpq_does_not_know_is_named(
    parameter: str, remedy: str
) -> None:
    """A parameter of another program is named, with its replacement."""
    seen = refusal(f"postgresql://app:{CANARY}@127.0.0.1/enterprises?{parameter}")

    assert f"the parameter {parameter.rpartition('&')[2].partition('=')[0]}," in seen
    assert remedy in seen
    assert CANARY not in seen


@pytest.mark.parametrize(
    "around", ["{}\r", "{}\n", " {} ", '"{}"', "'{}'", '"{}"\r\n', "' {}'"]
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "STATE_URL"])
def test_what_surrounds_a_url_is_no_part_of_it(
    variables: Variables, name: str, around: str
) -> None:
    """A file with CRLF leaves a CR, a container's `--env-file` leaves the quotes."""
    variables(**{name: around.format(URL)})

    assert plain(load_settings())[name] == URL


# --- libpq's variables


def test_the_pg_variables_name_a_source(variables: Variables) -> None:
    """Without DATABASE_URL the variables that psql knows must be enough."""
    variables(
        PGHOST="127.0.0.1",
        PGPORT="5433",
        PGDATABASE="enterprises",
        PGUSER="app",
        PGPASSWORD=CANARY,
    )

    assert load_settings().source_arguments() == ARGUMENTS


def test_a_service_names_a_source(variables: Variables, tmp_path: Path) -> None:
    """An entry of pg_service.conf must be enough by itself."""
    (tmp_path / "services").write_text("[production]\nhost=/run/pg\n")
    variables(PGSERVICE="production", PGSERVICEFILE=str(tmp_path / "services"))

    assert load_settings().source_arguments() == {"service": "production"}


def test_no_source_is_refused(variables: Variables) -> None:
    """A user alone names no database: no unintended database may be read."""
    variables(PGUSER="app", PGPASSWORD=CANARY, PGPORT="5433")

    with pytest.raises(SettingsError, match="DATABASE_URL is not set") as refused:
        load_settings().source_arguments()

    assert "PGHOST" in refused.value.remedy
    assert CANARY not in shown(refused.value)


def test_the_url_wins_over_the_pg_variables(variables: Variables) -> None:
    """DATABASE_URL must override the variables of psql."""
    unset = dict.fromkeys(("PGSERVICE", "PGSSLMODE", "PGSSLROOTCERT"), "")
    variables(**VARIABLES | unset)

    assert load_settings().source_arguments() == ARGUMENTS


def test_the_pg_variables_fill_what_the_url_leaves_open(dotenv: Variables) -> None:
    """A password outside the URL must be found, in `.env` as by libpq itself."""
    dotenv(DATABASE_URL="postgresql:///enterprises", PGUSER="app", PGPASSWORD=CANARY)

    assert load_settings().source_arguments() == {
        "dbname": "enterprises",
        "user": "app",
        "password": CANARY,
    }


def test_a_service_wins_over_the_pg_variables(
    variables: Variables, tmp_path: Path
) -> None:
    """As in libpq, a variable fills what both the URL and the service leave open."""
    (tmp_path / "services").write_text("[production]\nhost=/run/pg\nsslmode=require\n")
    variables(PGHOST="db.example.com", PGUSER="app", PGSSLMODE="disable")
    variables(PGSERVICEFILE=str(tmp_path / "services"))
    variables(DATABASE_URL="postgresql:///app?service=production")

    assert load_settings().source_arguments() == {
        "service": "production",
        "dbname": "app",
        "user": "app",
    }


# --- TLS towards the source


@pytest.mark.parametrize("host", ["db.example.com", "10.0.0.7", "localhost.evil.com"])
def test_tls_is_verified_off_loopback(host: str) -> None:
    """A remote server must prove its identity: libpq falls back to clear text."""
    arguments = Settings.isolated(pghost=host, pgdatabase="a").source_arguments()

    assert (arguments["sslmode"], arguments["sslrootcert"]) == ("verify-full", "system")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example.com/enterprises",
        "postgresql:///enterprises?host=db.example.com",
        "postgresql:///enterprises?host=localhost,db.example.com",
        "postgresql:///enterprises?hostaddr=203.0.113.5",
    ],
)
def test_tls_is_verified_wherever_the_url_names_the_host(url: str) -> None:
    """Each way to name a remote server must give the same protection."""
    arguments = Settings.isolated(database_url=url).source_arguments()

    assert arguments["sslmode"] == "verify-full"


def test_tls_is_verified_when_a_variable_names_the_host(variables: Variables) -> None:
    """A host from PGHOST must also count if the URL has none, as it does for libpq."""
    variables(DATABASE_URL="postgresql:///enterprises", PGHOST="db.example.com")

    assert load_settings().source_arguments()["sslmode"] == "verify-full"


@pytest.mark.parametrize("host", [*sorted(LOOPBACK - {"::1"}), "[::1]"])
def test_tls_is_libpqs_choice_on_loopback(host: str) -> None:
    """A server on this machine rarely has a certificate, and none is required."""
    url = f"postgresql://app@{host}/enterprises"

    assert "sslmode" not in Settings.isolated(database_url=url).source_arguments()


def test_tls_is_libpqs_choice_on_a_socket() -> None:
    """A socket folder is on this machine."""
    settings = Settings.isolated(pghost="/run/postgresql")

    assert settings.source_arguments() == {"host": "/run/postgresql"}


@pytest.mark.parametrize(
    "chosen",
    [
        {"database_url": "postgresql://db.example.com/a?sslmode=require"},
        {"database_url": "postgresql://db.example.com/a", "pgsslmode": "require"},
        {"pghost": "db.example.com", "pgsslmode": "require"},
    ],
)
def test_a_chosen_tls_mode_is_kept(chosen: dict[str, str]) -> None:
    """The user's choice of TLS must not be overridden."""
    arguments = Settings.isolated(**chosen).source_arguments()

    assert arguments["sslmode"] == "require"
    assert "sslrootcert" not in arguments


@pytest.mark.parametrize(
    "chosen",
    [
        {"database_url": "postgresql://db.example.com/a?sslrootcert=/etc/ca.pem"},
        {
            "database_url": "postgresql://db.example.com/a",
            "pgsslrootcert": "/etc/ca.pem",
        },
    ],
)
def test_a_chosen_authority_is_kept(chosen: dict[str, str]) -> None:
    """A server with a private authority must be verified by it, not by the system's."""
    arguments = Settings.isolated(**chosen).source_arguments()

    assert arguments["sslmode"] == "verify-full"
    assert arguments["sslrootcert"] == "/etc/ca.pem"


# --- The endpoint of DynamoDB


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://dynamo.example.com:8000",
        "HTTP://dynamo.example.com:8000",
        "http://10.0.0.7",
        "http://0.0.0.0:8000",
        "http://localhost.example.com",
        "http://127.0.0.1@example.com:8000",
    ],
)
def test_clear_text_off_loopback_is_refused(endpoint: str) -> None:
    """Rows and tokens must not cross a network in clear text."""
    settings = Settings.isolated(dynamodb_endpoint=endpoint)

    with pytest.raises(SettingsError, match="in clear") as refused:
        settings.require_safe_endpoint()

    assert "--allow-insecure-endpoint" in refused.value.remedy


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        (None, False),
        ("https://dynamo.example.com", False),
        ("https://localhost:8443", True),
        ("http://localhost:8000", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000/", True),
    ],
)
def test_a_safe_endpoint_is_accepted(endpoint: str | None, *, local: bool) -> None:
    """TLS anywhere and clear text on this machine must pass."""
    settings = Settings.isolated(dynamodb_endpoint=endpoint)

    settings.require_safe_endpoint()

    assert settings.local_endpoint is local


def test_clear_text_can_be_allowed() -> None:
    """An explicit option must allow a remote emulator."""
    settings = Settings.isolated(
        dynamodb_endpoint="http://dynamo.example.com:8000", allow_insecure_endpoint=True
    )

    settings.require_safe_endpoint()

    assert settings.local_endpoint is False


# --- Settings that are not the environment's


def test_isolated_settings_ignore_the_environment(
    variables: Variables, dotenv: Variables
) -> None:
    """The demo must never use a real store, regardless of the environment."""
    variables(**VARIABLES)
    dotenv(**VARIABLES)

    settings = Settings.isolated(aws_region="us-east-1")

    expected = {"AWS_REGION": "us-east-1"}
    assert plain(settings).items() >= expected.items()
    assert plain(settings).keys() == plain(Settings.isolated()).keys() | expected.keys()
    assert settings.source_table == "public.enterprises"
    with pytest.raises(SettingsError, match="no source to read"):
        settings.source_arguments()


def test_isolated_settings_are_checked() -> None:
    """A wrong value must be refused wherever it comes from."""
    with pytest.raises(SettingsError, match="PORT is not valid"):
        Settings.isolated(port=0)


def test_settings_are_in_force_within_the_block() -> None:
    """Inside `using` its settings apply, after it or an error the previous ones."""
    outer, inner = Settings.isolated(port=1), Settings.isolated(port=2)

    with using(outer):
        with suppress(KeyError), using(inner):
            assert load_settings() is inner
            raise KeyError
        assert load_settings() is outer
    assert load_settings().port == 4000


def test_settings_are_in_force_in_every_thread() -> None:
    """Prefect runs tasks in threads, which must see the embedded stores too."""
    settings = Settings.isolated(port=1)

    with using(settings), ThreadPoolExecutor(1) as pool:
        assert pool.submit(load_settings).result() is settings


def test_blocks_may_end_in_any_order() -> None:
    """Threads that overlap must each remove only their own settings."""
    first, second = using(Settings.isolated(port=1)), using(Settings.isolated(port=2))
    first.__enter__()
    second.__enter__()

    first.__exit__(None, None, None)

    assert load_settings().port == 2
    second.__exit__(None, None, None)
    assert load_settings().port == 4000


def test_the_example_file_names_every_setting() -> None:
    """`.env.example` must contain each setting, and no other."""
    example_file = Path(__file__).parents[2] / ".env.example"
    named = re.findall(r"^#([A-Z_]+)=", example_file.read_text("utf-8"), re.MULTILINE)

    assert sorted(named) == sorted(VARIABLES)
