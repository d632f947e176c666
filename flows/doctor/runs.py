"""Checks of ``doctor`` on runs: the lease, dead runs, Prefect's view, the disk."""

import json
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from flows.doctor.diagnosis import CheckContext, Finding, fail, ok, skipped, warn
from flows.doctor.target import limit_reads
from flows.settings import Settings
from flows.state.database import file_of, make_engine, make_state_error
from flows.state.upgrade import find_runs
from flows.stores.dynamodb.lease import LEASE

LEAST_BYTES, FEW_BYTES = 100_000_000, 1_000_000_000
# A flow run that has just started reads the source before it takes the lease.
BEGINNING_SECONDS = 300.0
API_SECONDS = 5.0
FLOWS = "migrate"
SHOWN = 5


def check_lease(context: CheckContext) -> Finding:
    """Check that no other run holds the lease."""
    held = limit_reads(context.table).get_own(LEASE)
    context.lease = held or {}
    if held is None:
        return ok("free")
    owner, left = held["owner"], int(held["expires"]) - time.time()
    if left > 0:
        found = f"held by {owner} for another {left:.0f} s"
        return warn(found, "Wait for its end; the lease of a dead run expires.")
    found = f"left by {owner}, which has died; it expired {-left:,.0f} s ago"
    return warn(found, "Start a run: it takes the lease over and writes conditionally.")


def check_runs(context: CheckContext) -> Finding:
    """Find runs that the state records as running and that do not hold the lease."""
    table = context.table
    target = [table.name, table.region, table.endpoint]
    holder = _holder(context)
    running = _running(context.settings.state_url.get_secret_value())
    dead = [
        run_id
        for run_id, found in running.items()
        if found == target and run_id != holder
    ]
    if not dead:
        alive = f"{holder} is under way" if holder in running else "none is dead"
        return ok(alive)
    return fail(
        f"dead, but recorded as running in the state: {', '.join(dead[:SHOWN])}",
        f"Resume it: enterprises migrate --resume {dead[-1]}",
    )


def check_prefect(context: CheckContext) -> Finding:
    """Find flow runs that Prefect reports as running while no run holds the lease."""
    api = os.environ.get("PREFECT_API_URL")
    if not api:
        return skipped("PREFECT_API_URL is not set")
    try:
        found = _running_flows(api)
    except (OSError, ValueError) as error:
        # Without the user and password that an address may begin with.
        host = urlsplit(api).netloc.rpartition("@")[2]
        silent = f"Prefect's API at {host} did not answer ({type(error).__name__})"
        return warn(silent, "Check PREFECT_API_URL, and that its server is up.")
    begun = [run for run in found if _age(run) > BEGINNING_SECONDS]
    alive = _holder(context) is not None
    if alive and len(begun) > 1:
        several = f"{len(begun)} flow runs are running, but only one holds the lease"
        return warn(several, "List them: prefect flow-run ls --state RUNNING")
    if alive or not begun:
        return ok(f"{len(found)} flow runs are running")
    names = ", ".join(f"{run['name']} ({run['id']})" for run in begun[:SHOWN])
    return fail(
        f"dead, but reported as running by Prefect: {names}",
        f"Run prefect flow-run delete {begun[0]['id']}, then: enterprises migrate"
        " --resume last",
    )


def check_disk(context: CheckContext) -> Finding:
    """Check the free space for state, reports and temporary files."""
    settings: Settings = context.settings
    state = file_of(settings.state_url.get_secret_value())
    places = [settings.runs_dir, Path(tempfile.gettempdir())]
    places += [state.parent] if state else []
    free = {place: shutil.disk_usage(_existing(place)).free for place in places}
    least = min(free, key=lambda place: free[place])
    found = f"{free[least] / 1e9:,.1f} GB free for {least}"
    remedy = "Make room, or set RUNS_DIR, STATE_URL or TMPDIR to another disk."
    if free[least] < LEAST_BYTES:
        return fail(found, remedy)
    if free[least] < FEW_BYTES:
        return warn(found, remedy)
    return ok(found)


def _running(text: str) -> dict[str, list[str]]:
    """Return the unfinished runs of the state, each with its target.

    Runs before a proven run of the same migration are left out. If there is no state,
    none is created.

    Raises:
        MigrationError: the state cannot be opened.
    """
    file = file_of(text)
    if file is not None and not file.exists():
        return {}
    try:
        with make_engine(text).connect() as connection:
            runs = find_runs(connection)
            if runs is None:
                return {}
            found = connection.execute(_unfinished(runs)).all()
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        raise make_state_error(text, error) from None
    return {row.run_id: row.identity.get("target", []) for row in found}


def _unfinished(runs: sa.Table) -> sa.Select[tuple[str, Any]]:
    later = runs.alias()
    proven = sa.exists().where(
        later.c.fingerprint == runs.c.fingerprint,
        later.c.status == "proven",
        later.c.started_at > runs.c.started_at,
    )
    return (
        sa.select(runs.c.run_id, runs.c.identity)
        .where(runs.c.status == "running", ~proven)
        .order_by(runs.c.started_at)
    )


def _holder(context: CheckContext) -> str | None:
    """Return the run that holds the lease, unless the lease has expired."""
    held = context.lease
    if not held or int(held["expires"]) <= time.time():
        return None
    return str(held["owner"]).partition("@")[0]


def _running_flows(api: str) -> list[dict[str, Any]]:
    """Return the runs of our flows that Prefect reports as running.

    Raises:
        OSError: Prefect does not answer.
        ValueError: the address is not HTTP, or the answer is not a list of flow runs.
    """
    if not api.startswith(("http://", "https://")):
        message = "not an HTTP address"
        raise ValueError(message)
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}},
        "flows": {"name": {"like_": FLOWS}},
        "limit": 100,
    }
    headers = {"Content-Type": "application/json"} | _authorization()
    body = json.dumps(wanted).encode()
    address = f"{api.rstrip('/')}/flow_runs/filter"
    request = urllib.request.Request(address, body, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=API_SECONDS) as answer:  # noqa: S310
        found = json.loads(answer.read())
    if not (isinstance(found, list) and all("id" in run for run in found)):
        message = "not a list of flow runs"
        raise ValueError(message)
    return found


def _authorization() -> dict[str, str]:
    key = os.environ.get("PREFECT_API_KEY")
    user = os.environ.get("PREFECT_API_AUTH_STRING")
    if key:
        return {"Authorization": f"Bearer {key}"}
    if user:
        return {"Authorization": f"Basic {b64encode(user.encode()).decode()}"}
    return {}


def _age(run: dict[str, Any]) -> float:
    """Return for how many seconds a flow run has been running."""
    begun = run.get("start_time") or run.get("expected_start_time")
    if not begun:
        return 0.0
    return (datetime.now(UTC) - datetime.fromisoformat(begun)).total_seconds()


def _existing(folder: Path) -> Path:
    """Return a folder, or the nearest one above it that exists."""
    absolute = folder.absolute()
    return next(one for one in (absolute, *absolute.parents) if one.exists())
