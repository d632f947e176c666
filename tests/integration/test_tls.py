"""Rows and passwords off loopback: never in clear text, however the server is named."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.api.postgres_store import PostgresStore
from flows.doctor.diagnosis import CheckContext, Status
from flows.doctor.source import check_postgresql
from flows.errors import SettingsError, SourceError
from flows.settings import Settings, load_settings
from flows.state.runs import State
from flows.stores.postgres.session import open_source
from tests.support.source_database import SourceDatabase, new_database
from tests.support.standby import running_standby


@dataclass(frozen=True)
class Server:
    """A server without TLS that trusts every client, and its address off loopback."""

    address: str
    port: int
    database: str


def own_address() -> str:
    """Return an address of this machine off loopback; nothing is sent."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address off loopback")
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def server(postgres_server: str) -> Iterator[Server]:
    """Run a server that listens on all addresses of this machine."""
    address = own_address()
    with (
        new_database(postgres_server) as primary,
        running_standby(postgres_server, listen_addresses="*") as standby,
    ):
        here = SourceDatabase(standby.source(primary.url))
        rules = Path(here.ask("SHOW hba_file"))
        rules.write_text("local all all trust\nhost all all all trust\n")
        port, name = here.ask("SHOW port"), here.ask("SELECT current_database()")
        here.run("SELECT pg_reload_conf()")
        yield Server(address, int(port), str(name))


WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "host": ("postgresql://postgres@{address}:{port}/{name}", {}),
    "hostaddr": (
        "postgresql://postgres@localhost:{port}/{name}?hostaddr={address}",
        {},
    ),
    "several hosts": ("postgresql://postgres@127.0.0.1:1,{address}:{port}/{name}", {}),
    "service": ("postgresql:///?service=far", {}),
    "PGSERVICE": ("postgresql://postgres@/{name}", {"PGSERVICE": "far"}),
    "PGSYSCONFDIR": ("postgresql:///?service=far", {"PGSYSCONFDIR": "{folder}"}),
    "PGHOSTADDR": (
        "postgresql://postgres@localhost:{port}/{name}",
        {"PGHOSTADDR": "{address}"},
    ),
}


@pytest.fixture(params=WAYS)
def url(
    request: pytest.FixtureRequest,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Return a URL that leads off loopback, with the files and variables it needs."""
    text, variables = WAYS[request.param]
    facts = {"address": server.address, "port": server.port, "name": server.database}
    facts |= {"folder": tmp_path}
    service = "[far]\nhostaddr={address}\nport={port}\ndbname={name}\nuser=postgres\n"
    (tmp_path / "pg_service.conf").write_text(service.format(**facts))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    if "PGSYSCONFDIR" not in variables:
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pg_service.conf"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(**facts))
    return text.format(**facts)


def open_session(url: str) -> None:
    """Open a session of the pipeline."""
    with open_source(Settings.isolated(database_url=url)):
        pass


def serve(url: str) -> None:
    """Open a connection of the HTTP service's store."""
    store = PostgresStore(Settings.isolated(database_url=url))
    try:
        with store._engine.connect():
            pass
    finally:
        store.close()


def open_state(url: str) -> None:
    """Open the state of runs."""
    State.open(Settings.isolated(state_url=url))


@pytest.mark.parametrize("opened", [open_session, serve, open_state])
def test_no_session_off_loopback_is_in_clear(
    url: str, opened: Callable[[str], None]
) -> None:
    """A server without TLS must be refused, for every way to name it."""
    with pytest.raises(Exception, match=r"SSL|OperationalError") as refused:
        opened(url)

    if opened is open_session:
        assert isinstance(refused.value, SourceError)
        assert "sslmode=" in refused.value.remedy
    if opened is open_state:
        assert isinstance(refused.value, SettingsError)


def test_clear_text_off_loopback_can_be_chosen_and_is_reported(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mode that the user sets must be used, and the doctor must warn of it."""
    monkeypatch.setenv("PGSSLMODE", "disable")
    monkeypatch.setenv("DATABASE_URL", url)

    context = CheckContext(settings=load_settings())
    with context.opened:
        found = check_postgresql(context)

    assert found.status is Status.WARN
    assert "in clear" in found.found
