"""Cases of PostgreSQL alone: types, rules, times, and an unavailable database."""

from collections.abc import Iterator

import psycopg2
import pytest

from flows.api.postgres_store import PostgresStore
from flows.api.store import Unavailable
from flows.settings import Settings
from tests.support.serving import Service, service_of
from tests.support.source_database import SourceDatabase

PATH = "/api/enterprises"
ODD_TABLE = """
CREATE TABLE public."en""ter; DROP TABLE x --%s" (
    "i d%" uuid PRIMARY KEY, "the ""name" varchar(5) CHECK ("the ""name" <> 'bad'),
    "born:at" timestamp, updated_at timestamp
)
"""
SECONDS_SINCE = """
SELECT extract(epoch FROM now() - "born:at" AT TIME ZONE 'America/New_York')
FROM public."en""ter; DROP TABLE x --%s"
"""
ODD_SETTINGS = {
    "source_table": '"en""ter; DROP TABLE x --%s"',
    "source_id_column": "i d%",
    "source_name_column": 'the "name',
    "source_created_column": "born:at",
    "source_timezone": "America/New_York",
}
KILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def service(postgres_settings: Settings) -> Iterator[Service]:
    """Serve PostgreSQL."""
    with service_of(postgres_settings) as running:
        yield running


def database(service: Service) -> SourceDatabase:
    """Return the database behind a service."""
    url = service.settings.database_url
    assert url is not None
    return SourceDatabase(url.get_secret_value())


def test_times_that_no_text_of_iso_has_are_shown_as_they_are(service: Service) -> None:
    """Infinity and years out of range must not fail; other times must be truncated."""
    shown = {
        ("infinity", "-infinity"): ("infinity", "-infinity"),
        ("0044-03-15 12:00:00+00 BC", "12000-01-01 00:00:00+00"): (
            "0044-03-15 12:00:00+00 BC",
            "12000-01-01 00:00:00+00",
        ),
        ("1999-12-31 23:59:59.999999+00", "0001-01-01 00:00:00+00"): (
            "1999-12-31T23:59:59.999Z",
            "0001-01-01T00:00:00.000Z",
        ),
    }
    for n, times in enumerate(shown):
        service.add(f"name {n}", *times)

    listed = [(e["createdAt"], e["updatedAt"]) for e in service.listed()]

    assert listed == list(shown.values())
    for each in service.listed():
        put = service.client.put(f"{PATH}/{each['id']}", json={"name": "now"})
        assert put.json()["updatedAt"].startswith("20")


def test_a_missing_time_is_the_other_one(service: Service) -> None:
    """Each must replace the other, as in migrated items; without both there is none."""
    rows = database(service)
    rows.run(
        "INSERT INTO public.enterprises (name, created_date, updated_date) VALUES"
        " ('a', NULL, '2024-01-01+00'), ('b', '2024-01-01+00', NULL),"
        " ('c', NULL, NULL)"
    )

    stamp = "2024-01-01T00:00:00.000Z"
    listed = [(e["createdAt"], e["updatedAt"]) for e in service.listed()]
    assert listed == [(stamp, stamp), (stamp, stamp), (None, None)]


def test_odd_names_and_zoneless_times_are_served(database_url: str) -> None:
    """Identifiers must be quoted, and local times must be in SOURCE_TIMEZONE."""
    source = SourceDatabase(database_url)
    source.run(ODD_TABLE)
    settings = source.settings(storage_mode="postgres", **ODD_SETTINGS)
    with service_of(settings) as service:
        made = service.client.post(PATH, json={"name": "Acme"})
        assert made.status_code == 409, "the id has no default"
        source.run(
            f"ALTER TABLE public.{ODD_SETTINGS['source_table']}"
            ' ALTER "i d%" SET DEFAULT gen_random_uuid()'
        )
        made = service.client.post(PATH, json={"name": "Acme"})
        assert made.status_code == 201, made.text
        path = made.headers["location"]
        assert service.client.get(path).json() == made.json()
        assert 0 <= source.ask(SECONDS_SINCE) < 600
        changed = service.client.put(path, json={"name": "B"})
        assert changed.json()["updatedAt"] > made.json()["updatedAt"]
        assert service.client.get(PATH, params={"name": "B"}).json() == [changed.json()]
        assert len(service.client.get(f"{PATH}?limit=1").json()) == 1
        too_long = service.client.put(path, json={"name": "x" * 6})
        against_a_rule = service.client.put(path, json={"name": "bad"})
        assert (too_long.status_code, against_a_rule.status_code) == (422, 409)
        assert service.client.get(f"{PATH}/1").status_code == 404
        assert service.client.delete(path).status_code == 200


def test_an_id_that_clients_would_round_is_a_text(service: Service) -> None:
    """Browsers round JSON numbers beyond 2^53: they would address another row."""
    database(service).run(
        "ALTER TABLE public.enterprises ALTER id TYPE bigint",
        "INSERT INTO public.enterprises (id, name, updated_date) VALUES"
        " (9007199254740991, 'a', now()), (9007199254740992, 'b', now()),"
        " (9007199254740993, 'b', now()), (-9007199254740992, 'c', now())",
    )
    shown = [9007199254740991, *("9007199254740992", "9007199254740993")]
    shown.append("-9007199254740992")

    assert [each["id"] for each in service.listed()] == shown
    for each in service.listed():
        found = service.client.get(f"{PATH}/{each['id']}")
        tag = {"If-Match": found.headers["etag"]}
        body = {"id": each["id"], "name": "new"}
        changed = service.client.put(PATH, json=body, headers=tag)
        assert (found.json(), changed.json()["id"]) == (each, each["id"])
    page = service.client.get(f"{PATH}?limit=3")
    (last,) = service.client.get(page.links["next"]["url"]).json()
    assert last["id"] == "9007199254740993"


def test_an_id_beyond_the_column_is_unknown(service: Service) -> None:
    """No row has it, and the database must not get a value that it cannot read."""
    for text in ("2147483648", "-2147483649", "9223372036854775807"):
        for answer in (
            service.client.get(f"{PATH}/{text}"),
            service.client.put(f"{PATH}/{text}", json={"name": "x"}),
            service.client.delete(f"{PATH}/{text}"),
        ):
            assert answer.status_code == 404, text


def test_a_name_is_found_exactly_in_a_padded_column(service: Service) -> None:
    """PostgreSQL ignores trailing blanks in char(n), but they must match."""
    database(service).run("ALTER TABLE public.enterprises ALTER name TYPE char(8)")
    service.add("acme")
    padded, bare = (
        service.client.get(PATH, params={"name": name}).json()
        for name in ("acme    ", "acme")
    )

    assert [each["name"] for each in padded] == ["acme    "]
    assert bare == []


def test_a_sequence_at_its_end_is_an_outage(service: Service) -> None:
    """An exhausted sequence must be a 503; a name too long for an index, a 422."""
    rows = database(service)
    rows.run("CREATE INDEX ON enterprises (name)")
    noise = "".join(chr(0x4E00 + n * n % 20_000) for n in range(9000))
    assert service.client.post(PATH, json={"name": noise}).status_code == 422
    sequence = rows.ask("SELECT pg_get_serial_sequence('enterprises', 'id')")
    rows.run(
        f"ALTER SEQUENCE {sequence} MAXVALUE 100", f"SELECT setval('{sequence}', 100)"
    )

    answer = service.client.post(PATH, json={"name": "x"})

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def test_a_key_cannot_be_kept(service: Service) -> None:
    """Ids come from a sequence: an Idempotency-Key must be refused."""
    answer = service.client.post(
        PATH, json={"name": "x"}, headers={"Idempotency-Key": "k"}
    )

    assert answer.status_code == 409
    assert service.listed() == []


def test_there_is_no_table_to_describe(service: Service) -> None:
    """The answer must give the reason."""
    answer = service.client.get(f"{PATH}/debug/dynamodb")

    assert answer.status_code == 409
    assert "STORAGE_MODE=postgres" in answer.json()["detail"]


def test_lost_connections_are_made_again(service: Service) -> None:
    """Requests after a restart of the database must not fail."""
    service.add("there")
    assert len(service.listed()) == 1
    database(service).run(KILL)

    assert len(service.listed()) == 1
    assert service.client.post(PATH, json={"name": "x"}).status_code == 201


def test_a_connection_lost_while_it_is_given_back_is_an_outage(
    postgres_settings: Settings,
) -> None:
    """The driver raises its own error there, and it must count as an outage."""
    store = PostgresStore(postgres_settings)

    with pytest.raises(Unavailable), store._translating():
        raise psycopg2.OperationalError


def test_a_table_that_is_gone_is_503(service: Service) -> None:
    """An outage must have a Retry-After, and no text of the database."""
    service.add("there")
    assert service.client.get("/ready").status_code == 200
    database(service).run("ALTER TABLE public.enterprises RENAME TO away")

    for answer in (
        service.client.get("/ready"),
        service.client.get(PATH),
        service.client.post(PATH, json={"name": "c4nary"}),
    ):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert "away" not in answer.text
        assert "c4nary" not in answer.text
    database(service).run("ALTER TABLE public.away RENAME TO enterprises")
    assert service.client.get("/ready").status_code == 200


def test_a_database_that_comes_later_is_served_then(postgres_server: str) -> None:
    """The service must start without it and report that it is not ready."""
    settings = Settings.isolated(
        storage_mode="postgres",
        database_url=postgres_server.replace("postgres?", "not_yet?"),
        source_table="public.not_yet",
    )
    with service_of(settings) as service:
        assert service.client.get("/health").status_code == 200
        assert service.client.get("/ready").status_code == 503


def test_triggers_run_as_the_role_would(postgres_settings: Settings) -> None:
    """A trigger that uses the search path must work, and its refusal must be a 409."""
    url = postgres_settings.database_url
    assert url is not None
    source = SourceDatabase(url.get_secret_value())
    source.run(
        "CREATE TABLE audit (name text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.name = 'no' THEN RAISE EXCEPTION 'refused %', NEW.name; END IF;"
        " INSERT INTO audit VALUES (NEW.name); RETURN NEW; END $$",
        "CREATE TRIGGER note BEFORE INSERT OR UPDATE ON enterprises"
        " FOR EACH ROW EXECUTE FUNCTION note()",
    )
    with service_of(postgres_settings) as service:
        assert service.client.post(PATH, json={"name": "yes"}).status_code == 201
        refused = service.client.post(PATH, json={"name": "no"})
        assert refused.status_code == 409
        assert "refused no" not in refused.text
        assert source.ask("SELECT count(*) FROM audit") == 1
