"""The report as a browser shows it: complete, silent, and without a request."""

import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from flows import pipeline
from flows.models import MigrateOptions
from flows.stores.dynamodb import EnterpriseTable

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


def show(page: Path, folder: Path, *options: str) -> tuple[str, str]:
    """Open a page; return its content after that, and what the browser logged."""
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu"),
            *("--enable-logging=stderr", "--v=0", f"--user-data-dir={folder}"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", *options),
            page.absolute().as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize("endpoint", ["dynamodb-local"], indirect=True)
@pytest.mark.usefixtures("source", "table")
def test_a_browser_shows_the_whole_report(
    table: EnterpriseTable,
    insert: Callable[[Iterable[Any]], None],
    tmp_path: Path,
) -> None:
    """Title, verdict, tables and plots must be there, and nothing be asked for."""
    day = "2024-02-29 00:00:00+00"
    insert((n, f"<script>alert({n})</script>", day, day) for n in range(200, 220))
    report = pipeline.migrate(MigrateOptions(run_id="shown"))
    page = Path(str(report.files["report"]))
    content, log = show(page, tmp_path / "profile")

    assert "<title>Run shown: proven</title>" in content
    assert "25 of 25 rows proven equal" in content
    assert table.name in content
    assert "<h2>Ledger</h2>" in content
    assert content.count("<svg") == 2
    assert "CONSOLE" not in log
    # Nothing in the file names a place elsewhere, so nothing can be asked for.
    text = page.read_text("utf-8")
    assert not any(mark in text for mark in ("src=", "href=", "url(", "@import"))
