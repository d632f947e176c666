"""A migration during a running service: changes of clients are kept."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from flows import pipeline
from flows.models import MigrateOptions, derive_ids
from flows.settings import ID_NAMESPACE, load_settings
from flows.stores.dynamodb.table import EnterpriseTable
from tests.support.serving import serving

SourceRow = tuple[int, str | None, str | None, str | None]
PATH = "/api/enterprises"
STAMP = "2024-01-05 12:34:56.789+00"
ROWS: list[SourceRow] = [(n, f"Enterprise {n}", STAMP, STAMP) for n in range(1, 401)]
IDS = derive_ids([str(n) for n in range(1, 401)], "integer", ID_NAMESPACE)


def rename(client: httpx.Client, key: str) -> dict[str, Any]:
    """Rename an enterprise as a careful client does."""
    seen = client.get(f"{PATH}/{key}", params={"consistent": True})
    name = f"edited {seen.json()['name']}"
    headers = {"If-Match": seen.headers["etag"]}
    changed = client.put(f"{PATH}/{key}", json={"name": name}, headers=headers)

    assert changed.status_code == 200, changed.text
    found: dict[str, Any] = changed.json()
    return found


def test_edits_made_while_a_migration_runs_are_kept(
    source: str,
    table: EnterpriseTable,
    insert: Callable[[Iterable[SourceRow]], None],
    items: Callable[[], dict[str, dict[str, Any]]],
    database_url: str,
) -> None:
    """Edits before and during a run are kept, counted, and finally named."""
    assert source == database_url
    assert table.name == load_settings().dynamodb_enterprise_table
    insert(row for row in ROWS if row[0] not in {7, 42})
    settings = load_settings().model_copy(update={"storage_mode": "dynamodb"})
    assert pipeline.migrate(MigrateOptions()).status == "proven"
    edited: dict[str, dict[str, Any]] = {}
    stop, ran = threading.Event(), threading.Event()

    with serving(settings) as client:
        early, late = IDS[100:120], iter(IDS[200:400])
        edited |= {key: rename(client, key) for key in early}

        def edit() -> None:
            for key in late:
                edited[key] = rename(client, key)
                ran.set()
                if stop.is_set():
                    break

        editor = threading.Thread(target=edit)
        editor.start()
        ran.wait()
        # Each row is compared with its item again, whether it differs or not.
        report = pipeline.migrate(MigrateOptions(partition_rows=50))
        stop.set()
        editor.join()
        shown = {key: client.get(f"{PATH}/{key}").json() for key in edited}

    ledger = report.asdict()["ledger"]
    assert report.status == "proven"
    assert len(edited) > len(early)
    assert len(early) <= ledger["kept_newer"] <= len(edited)
    assert ledger["written"] == ledger["failed"] == ledger["quarantined"] == 0
    assert shown == edited
    kept = {i["id"]["S"]: i["name"]["S"] for i in items().values() if "name" in i}
    assert all(kept[key] == enterprise["name"] for key, enterprise in edited.items())
    compared = pipeline.reconcile().asdict()
    assert compared["status"] == "clean"
    assert compared["newer_in_target"] == len(edited)
    assert compared["mismatched"] == compared["malformed"] == compared["extra"] == 0
