"""Headless Chromium, controlled by its own protocol.

A test can thus separate the requests of a page from those of the browser itself.
"""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
START_SECONDS = 60
ANSWER_SECONDS = 60
# Narrower windows are those of a telephone.
NARROW = 600
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--remote-debugging-port=0", "--disable-background-networking"),
    # No request leaves the machine.
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1000,900"),
)


@dataclass
class Browser:
    """One tab: the URLs that its page requested, and the messages that it logged."""

    socket: ClientConnection
    requests: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    loaded: bool = False
    _sent: int = 0

    def open(self, page: Path) -> None:
        """Open a file, and wait until it is loaded completely."""
        self.requests, self.logged, self.loaded = [], [], False
        self.send("Page.navigate", url=page.absolute().as_uri())
        while not self.loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True
        )
        return answer["result"].get("value")

    def show_in(self, scheme: str, media: str = "screen") -> None:
        """Show the page in light or dark colours, on a screen or in print."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)

    def resize(self, width: int, height: int = 900) -> None:
        """Show the page as a window or device of this size does."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < NARROW,
        )

    def screenshot(self) -> bytes:
        """Return the whole page as PNG."""
        answer = self.send("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def send(self, method: str, **parameters: Any) -> Any:
        """Send a command; return its result."""
        self._sent += 1
        command = {"id": self._sent, "method": method, "params": parameters}
        self.socket.send(json.dumps(command))
        while (answer := self._receive()).get("id") != self._sent:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(ANSWER_SECONDS))
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.logged.append(json.dumps(message["params"]))
            case "Log.entryAdded":
                self.logged.append(message["params"]["entry"]["text"])
            case "Page.loadEventFired":
                self.loaded = True
        return message


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """Run Chromium with its profile in a folder, until the end of the block."""
    command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            with connect(_tab(folder), max_size=None) as socket:
                browser = Browser(socket)
                for domain in ("Page", "Network", "Runtime", "Log"):
                    browser.send(f"{domain}.enable")
                yield browser
        finally:
            process.terminate()


def _tab(folder: Path) -> str:
    """Wait for the browser; return the address of its tab."""
    deadline = time.monotonic() + START_SECONDS
    port = folder / "DevToolsActivePort"
    while time.monotonic() < deadline:
        if port.is_file() and (lines := port.read_text().split()):
            url = f"http://127.0.0.1:{lines[0]}/json/list"
            with urllib.request.urlopen(url, timeout=10) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    message = "Chromium did not start"
    raise TimeoutError(message)
