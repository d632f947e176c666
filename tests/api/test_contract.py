"""The contract of the service, with every store."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.serving import Service

PATH = "/api/enterprises"
PROBLEM = "application/problem+json"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NAMES = [
    "Acme GmbH",
    "株式会社 🚀",
    "  kept as it is  ",
    "e\u0301 is two characters",
    "\u202eright to left",
    'a "quote", a \\ and a \u2028',
    "=1+1",
    "'; DROP TABLE enterprises; --",
    "x" * 60_000,
]
IMPOSSIBLE_IDS = [
    " 1",
    "1 ",
    "1.0",
    "1_0 ",
    "+1",
    "0x1",
    "1e0",
    "\u0661",
    "1\x00",
    "1\n",
    "../1",
    "1/",
    "a/b",
    "..",
    "9" * 129,
    "{1}",
    "1;--",
    "1' OR '1'='1",
    "ENT#1",
]


def assert_problem(answer: httpx.Response, status: int) -> None:
    """Assert that an answer is problem details of this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["status"] == status
    assert answer.json().keys() >= {"type", "title", "detail"}


def make(service: Service, name: str = "Acme") -> httpx.Response:
    """Create an enterprise; return the answer."""
    answer = service.client.post(PATH, json={"name": name})

    assert answer.status_code == 201, answer.text
    return answer


def follow(service: Service, path: str) -> list[list[dict[str, Any]]]:
    """Return all pages from a path onwards, by their links."""
    pages = []
    while path:
        answer = service.client.get(path)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
        path = answer.links.get("next", {}).get("url", "")
    return pages


def test_the_service_is_well_and_ready(service: Service) -> None:
    """Both probes must report it."""
    for path in ("/health", "/ready"):
        answer = service.client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"ok": True})


def test_an_empty_store_has_no_enterprises(service: Service) -> None:
    """An empty store must be an empty list, in either form."""
    assert service.listed() == []
    assert follow(service, f"{PATH}?limit=1") == [[]]


def test_a_new_enterprise_is_shown_as_it_was_given(service: Service) -> None:
    """The name must come back byte for byte, with id and times from the service."""
    for name in NAMES:
        answer = make(service, name)

        made = answer.json()
        assert list(made) == ["id", "name", "createdAt", "updatedAt"]
        assert made["name"] == name
        assert STAMP.fullmatch(made["createdAt"])
        assert made["updatedAt"] == made["createdAt"]
        assert answer.headers["location"] == f"{PATH}/{made['id']}"
        again = service.client.get(answer.headers["location"])
        assert again.json() == made
        assert again.headers["etag"] == answer.headers["etag"]
        assert made in service.listed()


def test_the_list_is_sorted_by_code_points_then_id(service: Service) -> None:
    """No collation of a database may determine the order."""
    for name in ("b", "Z", "é", "a", "Ā", "a", "🚀", "\uffee", "_", "10", "9"):
        make(service, name)

    listed = service.listed()

    assert [e["name"] for e in listed] == sorted(e["name"] for e in listed)
    assert listed == sorted(listed, key=lambda e: (e["name"], e["id"]))
    assert len(listed) == 11


def test_three_thousand_enterprises_are_listed_and_paged(service: Service) -> None:
    """Every page of the store must be read: each enterprise once, in either form."""
    names = [f"{n:04} {'x' * 395}" for n in range(3000)]
    service.fill(list(reversed(names)))

    assert [e["name"] for e in service.listed()] == names
    pages = follow(service, f"{PATH}?limit=700")
    assert [len(page) for page in pages] == [700, 700, 700, 700, 200]
    assert sorted(e["name"] for page in pages for e in page) == names


def test_pages_end_where_the_enterprises_do(service: Service) -> None:
    """The page with the last enterprise must not link to an empty page."""
    for name in "abcd":
        make(service, name)

    assert [len(page) for page in follow(service, f"{PATH}?limit=2")] == [2, 2]
    assert [len(page) for page in follow(service, f"{PATH}?limit=3")] == [3, 1]
    assert [len(page) for page in follow(service, f"{PATH}?limit=1000")] == [4]


def test_what_is_made_between_pages_disturbs_none(service: Service) -> None:
    """An enterprise that stays must be listed once, despite additions and deletions."""
    ids = [make(service, f"n{n}").json()["id"] for n in range(6)]
    first = service.client.get(f"{PATH}?limit=2")
    seen = [e["id"] for e in first.json()]
    gone = next(i for i in ids if i not in seen)

    make(service, "new")
    assert service.client.delete(f"{PATH}/{gone}").status_code == 200
    rest = follow(service, first.links["next"]["url"])

    met = Counter(seen + [e["id"] for page in rest for e in page])
    assert {i: met[i] for i in ids} == {i: int(i != gone) for i in ids}


def test_a_limit_out_of_range_is_refused(service: Service) -> None:
    """A page must have 1 to 1,000 enterprises."""
    for limit in ("0", "-1", "1001", "1000000000000", "x", "1.5", ""):
        assert_problem(service.client.get(f"{PATH}?limit={limit}"), 422)


def test_a_list_is_sorted_by_name_alone(service: Service) -> None:
    """`sort=name` must be what the list has anyway; another order must be refused."""
    for name in "bac":
        make(service, name)

    assert service.client.get(f"{PATH}?sort=name").json() == service.listed()
    for other in ("", "Name", "-name", "id", "name,id", "c4nary", "(select 1)"):
        answer = service.client.get(PATH, params={"sort": other, "limit": 1})
        assert_problem(answer, 422)
        (error,) = answer.json()["errors"]
        assert error["parameter"] == "sort"
        assert "'name'" in error["detail"]
        assert "c4nary" not in answer.text
    assert_problem(service.client.get(f"{PATH}?sort=name&sort=name"), 422)
    assert_problem(service.client.get(f"{PATH}?sort=name&limit=1&name=a"), 400)


def test_a_forged_cursor_is_refused(service: Service) -> None:
    """Only an unchanged cursor of this service must be accepted."""
    for name in "abc":
        make(service, name)
    url = service.client.get(f"{PATH}?limit=1").links["next"]["url"]
    cursor = httpx.URL(url).params["cursor"]
    forged = ["", "x", "ä", "A" * 30, "A" * 9000, cursor + "A", cursor[:-2], cursor * 2]
    forged += [cursor[:n] + "-" + cursor[n + 1 :] for n in (0, 21, len(cursor) - 2)]

    for each in forged:
        if each != cursor:
            assert_problem(service.client.get(PATH, params={"cursor": each}), 400)
    assert service.client.get(PATH, params={"cursor": cursor}).status_code == 200


def test_a_name_is_found_exactly(service: Service) -> None:
    """Case, blanks and forms of Unicode must all make a difference."""
    wanted = [make(service, "Émile").json() for _ in range(2)]
    for other in ("émile", "Émile ", "E\u0301mile", "Emile"):
        make(service, other)

    found = service.client.get(PATH, params={"name": "Émile"}).json()

    assert found == sorted(wanted, key=lambda e: e["id"])
    assert service.client.get(PATH, params={"name": ""}).json() == []
    assert service.client.get(PATH, params={"name": "' OR '1'='1"}).json() == []


def test_a_name_no_store_can_hold_is_refused(service: Service) -> None:
    """A NUL, or a name together with a page, must be a client error."""
    assert_problem(service.client.get(f"{PATH}?name=a%00b"), 400)
    assert_problem(service.client.get(f"{PATH}?name=a&limit=1"), 400)


@pytest.mark.parametrize("form", ["path", "body"])
def test_a_rename_moves_updated_at_alone(service: Service, form: str) -> None:
    """Name and time of change must be new; id and time of creation must stay."""
    made = make(service, "before").json()

    if form == "path":
        answer = service.client.put(f"{PATH}/{made['id']}", json={"name": "after"})
    else:
        body = {"id": made["id"], "name": "after"}
        answer = service.client.put(PATH, json=body)

    changed = answer.json()
    assert answer.status_code == 200
    assert changed == made | {"name": "after", "updatedAt": changed["updatedAt"]}
    assert changed["updatedAt"] > made["updatedAt"]
    shown = service.client.get(f"{PATH}/{made['id']}?consistent=true")
    assert (shown.json(), shown.headers["etag"]) == (changed, answer.headers["etag"])


def test_a_rename_of_an_unknown_id_makes_nothing(service: Service) -> None:
    """PUT must never create, with or without a condition."""
    unknown = service.unknown_id
    for headers in ({}, {"If-Match": "*"}, {"If-Match": '"x"'}):
        by_path = service.client.put(
            f"{PATH}/{unknown}", json={"name": "ghost"}, headers=headers
        )
        body = {"id": unknown, "name": "ghost"}
        by_body = service.client.put(PATH, json=body, headers=headers)
        assert_problem(by_path, 404)
        assert_problem(by_body, 404)

    assert service.listed() == []


def test_a_lost_update_is_refused(service: Service) -> None:
    """A stale ETag must give 412 and change nothing."""
    made = make(service)
    path, etag = made.headers["location"], made.headers["etag"]
    changed = service.client.put(path, json={"name": "1"}, headers={"If-Match": etag})
    assert changed.status_code == 200

    for stale in (etag, f"W/{changed.headers['etag']}", '"x", "y"', "", "nonsense"):
        headers = {"If-Match": stale}
        put = service.client.put(path, json={"name": "2"}, headers=headers)
        assert_problem(put, 412)
        assert_problem(service.client.delete(path, headers=headers), 412)

    assert service.client.get(path).json() == changed.json()
    fresh = {"If-Match": f'"other", {changed.headers["etag"]}'}
    assert service.client.put(path, json={"name": "3"}, headers=fresh).is_success
    assert service.client.delete(path, headers={"If-Match": "*"}).is_success


# moto checks a condition and then writes, with other requests in between.
@pytest.mark.parametrize("service", ["postgres", "dynamodb-local"], indirect=True)
@pytest.mark.parametrize("names", ["different", "equal"])
def test_of_twenty_parallel_renames_one_wins(service: Service, names: str) -> None:
    """With the same If-Match exactly one must succeed; the others must get 412."""
    made = make(service)
    path, headers = made.headers["location"], {"If-Match": made.headers["etag"]}

    def rename(number: int) -> int:
        name = f"name {number if names == 'different' else ''}"
        put = service.client.put(path, json={"name": name}, headers=headers)
        return put.status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(pool.map(rename, range(20)))

    assert statuses == {200: 1, 412: 19}


def test_parallel_renames_without_condition_are_all_made(service: Service) -> None:
    """Each must get a different time, and the last one must remain."""
    path = make(service).headers["location"]

    def rename(number: int) -> httpx.Response:
        return service.client.put(path, json={"name": f"name {number}"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(rename, range(16)))

    assert {answer.status_code for answer in answers} == {200}
    renamed = {answer.json()["updatedAt"]: answer.json() for answer in answers}
    assert len(renamed) == 16
    assert service.client.get(path).json() == renamed[max(renamed)]


def test_a_time_of_the_future_still_moves_forward(service: Service) -> None:
    """A clock that was ahead must not make the next change look older."""
    future = "2199-12-31T23:59:59.999Z"
    key = service.add("early", updated=future)

    changed = service.client.put(f"{PATH}/{key}", json={"name": "late"}).json()

    assert changed["updatedAt"] == "2200-01-01T00:00:00.000Z"


def test_at_the_end_of_time_nothing_changes(service: Service) -> None:
    """If no later time can be written, the change must be refused."""
    key = service.add("last", updated="9999-12-31T23:59:59.999Z")

    assert_problem(service.client.put(f"{PATH}/{key}", json={"name": "x"}), 409)

    assert service.client.get(f"{PATH}/{key}").json()["name"] == "last"


def test_a_delete_is_answered_once(service: Service) -> None:
    """The first must find it, the second must not, and other enterprises must stay."""
    path = make(service, "gone").headers["location"]
    stays = make(service, "stays").json()

    first = service.client.delete(path)
    second = service.client.delete(path)

    assert (first.status_code, first.json()) == (200, {})
    assert_problem(second, 404)
    assert_problem(service.client.get(path), 404)
    assert service.listed() == [stays]


def test_an_id_that_cannot_be_is_unknown(service: Service) -> None:
    """An impossible id must be 404 for every method, and reach no query."""
    for text in IMPOSSIBLE_IDS:
        path = f"{PATH}/{quote(text, safe='')}"
        for answer in (
            service.client.get(path),
            service.client.put(path, json={"name": "x"}),
            service.client.delete(path),
        ):
            assert_problem(answer, 404)
        body = {"id": text.strip("\x00"), "name": "x"}
        assert_problem(service.client.put(PATH, json=body), 404)


def test_a_name_that_nobody_sees_is_refused(service: Service) -> None:
    """A migration would quarantine it: it must be refused."""
    path = make(service).headers["location"]

    for name in ("", " ", "\t\n", "\u200b\u200d", "\u3000", "\ufeff"):
        assert_problem(service.client.post(PATH, json={"name": name}), 422)
        assert_problem(service.client.put(path, json={"name": name}), 422)

    assert len(service.listed()) == 1


def test_an_unknown_parameter_is_refused(service: Service) -> None:
    """A filter that is not applied must be named, with those that are, but no value."""
    made = make(service).headers["location"]
    of_list = "this path takes name, limit, cursor, sort, consistent."

    for path, query, named, taken in (
        (PATH, "order=c4nary", "order", of_list),
        (PATH, "order=(select 1)", "order", of_list),
        (PATH, "Limit=1", "Limit", of_list),
        (PATH, "filter[name]=a", "filter[name]", of_list),
        (PATH, "name=c4nary&name=b", "name", of_list),
        (PATH, "limit=1&c4nary%20GmbH", None, of_list),
        (made, "fields=id", "fields", "this path takes consistent."),
        (f"{PATH}/nobody", "fields=id", "fields", "this path takes consistent."),
        ("/", "x", "x", "this path takes none."),
        ("/health", "x", "x", "this path takes none."),
        ("/ready", "x=1", "x", "this path takes none."),
        ("/docs", "x=1", "x", "this path takes none."),
        ("/docs/start.js", "v=1", "v", "this path takes none."),
        ("/favicon.ico", "v=1", "v", "this path takes none."),
        ("/openapi.json", "x=1", "x", "this path takes none."),
        (f"{PATH}/debug/dynamodb", "limit=1", "limit", "this path takes none."),
    ):
        answer = service.client.get(f"{path}?{query}")
        assert_problem(answer, 422)
        assert answer.json()["detail"].endswith(taken), path
        assert [e.get("parameter") for e in answer.json()["errors"]] == [named]
        assert "c4nary" not in answer.text
    thousands = "&".join(f"x{n}" for n in range(2000))
    assert len(service.client.get(f"{PATH}?{thousands}").json()["errors"]) == 10
    for answer in (
        service.client.post(f"{PATH}?name=a", json={"name": "b"}),
        service.client.put(f"{made}?x=1", json={"name": "b"}),
        service.client.delete(f"{made}?force=true"),
    ):
        assert_problem(answer, 422)
    assert [each["name"] for each in service.listed()] == ["Acme"]


def test_every_if_match_is_looked_at(service: Service) -> None:
    """Several headers are one list: the first alone must not decide."""
    made = make(service)
    path, tag = made.headers["location"], made.headers["etag"]

    def put(*tags: str) -> int:
        headers = [("If-Match", each) for each in tags]
        return service.client.put(path, json={"name": "b"}, headers=headers).status_code

    assert put('"x"', '"y"', "*") == 412
    assert put('"x"', f'"y", {tag}') == 200
    assert put("*", "*") == 200


def test_head_is_get_without_its_body(service: Service) -> None:
    """Each path with GET must support HEAD, with the same status and headers.

    A body after HEAD would be read as the next answer of the connection.
    """
    path = make(service).headers["location"]
    make(service)
    debug = f"{PATH}/debug/dynamodb"
    listed = (PATH, f"{PATH}?limit=1", f"{PATH}?name=x", f"{PATH}?sort=name&limit=1")
    refused = (f"{PATH}/nobody", f"{PATH}?limit=0", f"{PATH}?x", f"{PATH}?cursor=x")
    pages = ("/", "/docs", "/docs/swagger-ui.css", "/favicon.ico", "/openapi.json")

    for each in (*listed, path, debug, *refused, "/nothing", *pages, "/health"):
        got, head = service.client.get(each), service.client.head(each)
        assert (head.status_code, head.content) == (got.status_code, b"")
        own = {"date", "x-request-id"}
        for name in {*got.headers, *head.headers} - own:
            assert head.headers.get(name) == got.headers.get(name), (each, name)
        assert head.headers["content-length"] == str(len(got.content))


def test_an_encoded_slash_is_no_slash(service: Service) -> None:
    """A text of one segment must be an id, not the path of another route."""
    for text in ("debug%2Fdynamodb", "debug%2fdynamodb"):
        answer = service.client.get(f"{PATH}/{text}")
        assert_problem(answer, 404)
        assert "no such enterprise" in answer.json()["detail"]
