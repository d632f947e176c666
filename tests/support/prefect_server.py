"""A real Prefect server for tests, and queries of its API."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import free_port

ROOT = Path(__file__).parents[2]
# Without slow services and those that need a network; with a fast scheduler.
SERVER = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
}


class Patient(httpx.HTTPTransport):
    """Retries while the server's SQLite is busy, as Prefect's own client does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request until the answer is not 503."""
        for _ in range(30):
            answer = super().handle_request(request)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            answer.close()
            time.sleep(1)
        return answer


@dataclass(frozen=True)
class PrefectServer:
    """A running server, and the folder of all its data."""

    api: str
    home: Path

    def client(self) -> httpx.Client:
        """Return a client of its API."""
        return httpx.Client(base_url=self.api, transport=Patient(), timeout=30)


@contextmanager
def running_server(home: Path) -> Iterator[PrefectServer]:
    """Run a server with a separate home for the duration of a block."""
    # On a fixed port, a server of another process would answer until it ends.
    port = free_port()
    with (
        (home / "server.log").open("w") as log,
        subprocess.Popen(
            [*prefect(), "server", "start", "--port", str(port)],
            env=os.environ | SERVER | {"PREFECT_HOME": str(home)},
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=home,
        ) as process,
    ):
        api = f"http://127.0.0.1:{port}/api"
        try:
            await_true(lambda: answers(api) or process.poll() is not None, seconds=90)
            assert process.poll() is None, (home / "server.log").read_text()
            yield PrefectServer(api, home)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process of Prefect; a worker may hang when it is terminated."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


def prefect() -> list[str]:
    """Return the command line of Prefect in this environment."""
    return [sys.executable, "-W", "ignore", "-m", "prefect"]


def run_prefect(api: str, *arguments: str) -> None:
    """Run a command of Prefect from the checkout, which must succeed."""
    done = subprocess.run(
        [*prefect(), "--no-prompt", *arguments],
        env=os.environ | {"PREFECT_API_URL": api},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def answers(api: str) -> bool:
    """Return whether the server is up."""
    try:
        return httpx.get(f"{api}/health").is_success
    except httpx.TransportError:
        return False


def await_true(condition: Callable[[], bool], *, seconds: float) -> None:
    """Wait until a condition holds, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.2)


def found(api: httpx.Client, what: str, **filters: Any) -> list[dict[str, Any]]:
    """Read objects of the server, the newest first."""
    answer = api.post(f"/{what}/filter", json=filters).raise_for_status()
    objects: list[dict[str, Any]] = answer.json()
    return objects


def newest_run(api: httpx.Client) -> dict[str, Any]:
    """Return the flow run that was started last."""
    started = {"start_time": {"is_null_": False}}
    runs = found(api, "flow_runs", flow_runs=started, sort="START_TIME_DESC", limit=1)
    return runs[0]


def artifacts_of(api: httpx.Client, flow_run_id: str) -> dict[str, dict[str, Any]]:
    """Return the newest artifacts of a flow run by key."""
    filters = {"flow_run_id": {"any_": [flow_run_id]}}
    made = found(api, "artifacts", artifacts=filters, sort="CREATED_DESC")
    return {artifact["key"]: artifact for artifact in reversed(made)}
