"""Pages by name, which PostgreSQL can order: each enterprise once, as in the list."""

from collections.abc import Iterator
from typing import Any

import pytest

from flows.api.postgres_store import PostgresStore
from flows.api.rows import BEGINNING
from flows.settings import Settings
from tests.support.serving import INSERT, SCHEMA, STAMP, Service, service_of
from tests.support.source_database import SourceDatabase

PATH = "/api/enterprises"
# Orders of languages, of code points and of UTF-16 all differ for these.
NAMES = [
    "b",
    "Z",
    "é",
    "a",
    "Ā",
    "a",
    "🚀",
    "\uffee",
    "_",
    "10",
    "9",
    "a b",
    "ab",
    " a",
]
NAMES += ["A", "a\t", "a ", "", "'", "%s", "x" * 5000, "株式会社"]


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


def paged(service: Service, limit: int, first: str | None = None) -> list[Any]:
    """Return all enterprises of all pages by name, from a path onwards."""
    found, path = [], first or f"{PATH}?sort=name&limit={limit}"
    while path:
        answer = service.client.get(path)
        assert answer.status_code == 200, answer.text
        assert 0 < len(answer.json()) <= limit
        found += answer.json()
        path = answer.links.get("next", {}).get("url", "")
    return found


def test_pages_by_name_are_the_sorted_list(service: Service) -> None:
    """The parts of the list, in pages of any size, must be the list."""
    database(service).run("ALTER TABLE public.enterprises ALTER name DROP NOT NULL")
    service.fill(NAMES)
    for _ in range(3):
        service.add(None)
    listed = service.listed()

    assert len(listed) == len(NAMES) + 3
    for limit in (1, 2, 7, len(listed), 1000):
        assert paged(service, limit) == listed


def test_a_page_by_name_leads_to_the_next_one(service: Service) -> None:
    """The link must repeat sort and limit, and its cursor belong to them."""
    service.fill(["b", "a", "c"])
    first = service.client.get(f"{PATH}?limit=1&sort=name&consistent=true")
    link = first.links["next"]["url"]
    cursor = link.partition("cursor=")[2].partition("&")[0]
    by_id = service.client.get(f"{PATH}?limit=1").links["next"]["url"]

    assert {"limit=1", "sort=name", "consistent=true"} < {*link[17:].split("&")}
    assert [e["name"] for e in service.client.get(link).json()] == ["b"]
    # Without a limit, a cursor still starts a page.
    rest = service.client.get(f"{PATH}?sort=name&cursor={cursor}").json()
    assert [e["name"] for e in rest] == ["b", "c"]
    for wrong in (f"{PATH}?cursor={cursor}", f"{by_id}&sort=name"):
        answer = service.client.get(wrong)
        assert answer.status_code == 400
        assert "for this sort" in answer.json()["detail"]


def test_long_names_with_one_beginning_are_in_order(service: Service) -> None:
    """A cursor must be short, and yet separate names that differ at their end."""
    beginning = "🚀" * BEGINNING
    service.fill([f"{beginning}{end}" for end in ("b", "", "c", "a", "a", "x" * 9000)])
    listed = service.listed()

    assert paged(service, 1) == listed
    first = service.client.get(f"{PATH}?sort=name&limit=2")
    assert len(first.headers["link"]) < 3000
    gone = first.json()[-1]["id"]
    assert service.client.delete(f"{PATH}/{gone}").status_code == 200
    rest = paged(service, 2, first.links["next"]["url"])
    assert [e for e in rest if e not in first.json()] == listed[2:]


def test_what_changes_between_pages_disturbs_none(service: Service) -> None:
    """Enterprises that stay must be listed once, whatever becomes of the others."""
    service.fill([f"n{n}" for n in range(6)])
    stays = {e["id"] for e in service.listed()}
    first = service.client.get(f"{PATH}?sort=name&limit=2")
    last = first.json()[-1]["id"]

    assert service.client.post(PATH, json={"name": "n1 new"}).status_code == 201
    assert service.client.put(f"{PATH}/{last}", json={"name": "a"}).is_success
    rest = paged(service, 2, first.links["next"]["url"])

    assert [e["name"] for e in rest] == ["n1 new", "n2", "n3", "n4", "n5"]
    assert {e["id"] for e in rest + first.json()} > stays


@pytest.mark.parametrize("kind", ["char(8)", "varchar(20)"])
def test_any_type_of_name_is_ordered(service: Service, kind: str) -> None:
    """A type that ignores blanks at the end must lose no enterprise between pages."""
    database(service).run(f"ALTER TABLE public.enterprises ALTER name TYPE {kind}")
    service.fill(["b", "A", "a", "a ", "B", "aa", "A", "a"])

    listed = service.listed()
    for limit in (1, 3):
        assert paged(service, limit) == listed


@pytest.mark.parametrize("kind", ["uuid", "text"])
def test_ids_of_any_type_have_pages(database_url: str, kind: str) -> None:
    """Equal names must be in the order of the ids, and pages without order be whole."""
    rows = SourceDatabase(database_url)
    rows.run(
        SCHEMA,
        "ALTER TABLE enterprises ALTER id DROP DEFAULT,"
        f" ALTER id TYPE {kind} USING gen_random_uuid()::{kind}",
        f"ALTER TABLE enterprises ALTER id SET DEFAULT gen_random_uuid()::{kind}",
    )
    with service_of(rows.settings(storage_mode="postgres")) as service:
        service.fill(["b", *"a" * 20])

        listed = service.listed()
        assert paged(service, 3) == listed
        by_id = paged(service, 4, f"{PATH}?limit=4")
        assert sorted(by_id, key=lambda e: (e["name"], e["id"])) == listed


def test_another_encoding_has_the_same_order(postgres_server: str) -> None:
    """Bytes of WIN1252 are not in the order of code points, but lists must be."""
    name = "of_win1252"
    server = SourceDatabase(postgres_server)
    server.run(
        f"DROP DATABASE IF EXISTS {name}",
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'WIN1252' LOCALE 'C'",
    )
    rows = SourceDatabase(postgres_server.replace("/postgres?", f"/{name}?"))
    rows.run(SCHEMA)
    try:
        with service_of(rows.settings(storage_mode="postgres")) as service:
            service.fill(["ÿ", "€", "Ž", "z", "a" * 200 + "€", "a" * 200 + "ÿ"])

            assert [e["name"] for e in service.listed()][-1] == "€"
            assert paged(service, 1) == service.listed()
    finally:
        server.run(f"DROP DATABASE {name} WITH (FORCE)")


def test_an_index_serves_pages_by_name(service: Service) -> None:
    """The documented index must be used for any page, so that none reads the table."""
    rows = database(service)
    service.fill([f"name {n}" for n in range(3000)])
    rows.run(
        "CREATE INDEX ON public.enterprises"
        " ((coalesce(name::text, '') COLLATE \"C\"), id)",
        "ANALYZE public.enterprises",
    )
    store = PostgresStore(service.settings)
    for after in (None, ["name 5", 7], ["x" * BEGINNING, 7]):
        query = store._rows.select_by_name(after).limit(10)
        with store._engine.connect() as connection:
            compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
            plan = connection.exec_driver_sql(f"EXPLAIN {compiled}").scalars().all()
        assert "Index Scan" in " ".join(plan)
        assert "Sort" not in " ".join(plan)
    store.close()


def test_the_order_cannot_be_injected(service: Service) -> None:
    """Names with quotes and patterns must come back through the cursor unchanged."""
    hostile = ["'; DROP TABLE enterprises; --", "%(x)s", ":name", "\\", '"', "%", "a'b"]
    rows = database(service)
    for each in hostile:
        rows.run(INSERT, values=[each, STAMP, STAMP])

    assert [e["name"] for e in paged(service, 1)] == sorted(hostile)
