"""Debian's chromium without a screen, led by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

_PATIENCE_S = 60.0
_STEP_S = 0.05


def chromium() -> str:
    """Return the program's path, "" where it is not installed."""
    return shutil.which("chromium") or ""


@asynccontextmanager
async def browser() -> AsyncIterator[Tab]:
    """Start a browser with a new profile, and yield an empty tab."""
    with tempfile.TemporaryDirectory(prefix="nfproxy-browser-") as directory:
        profile = Path(directory)
        process = await asyncio.create_subprocess_exec(
            *_command(profile),
            env={"HOME": directory, "PATH": os.environ["PATH"]},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_PATIENCE_S), aiohttp.ClientSession() as session:
                port = await _port(profile)
                place = f"http://127.0.0.1:{port}/json/list"
                tabs = await (await session.get(place)).json()
                address = next(tab for tab in tabs if tab["type"] == "page")["webSocketDebuggerUrl"]
                async with session.ws_connect(address, max_msg_size=0) as connection:
                    yield await Tab.on(connection)
        finally:
            os.killpg(process.pid, 9)
            await process.wait()


def _command(profile: Path) -> list[str]:
    return [
        *(
            chromium(),
            "--headless=new",
            "--hide-scrollbars",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ),
        *("--no-first-run", "--disable-background-networking", "--disable-sync"),
        *("--disable-component-update", "--disable-extensions", "--no-default-browser-check"),
        *("--remote-debugging-port=0", f"--user-data-dir={profile}"),
        *(["--no-sandbox"] if os.getuid() == 0 else []),  # root has no sandbox
        "about:blank",
    ]


async def _port(profile: Path) -> int:
    """Return the port at which the browser takes commands, once it has written that."""
    file = profile / "DevToolsActivePort"
    while not (file.exists() and file.read_text().count("\n")):  # noqa: ASYNC110 - no event
        await asyncio.sleep(_STEP_S)
    return int(file.read_text().split("\n")[0])


class Tab:
    """
    A tab. `said` is what the browser reports of its pages: errors, and what a policy refused.

    `asked` are the addresses that it has asked for.
    """

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        """Take over a connection; :meth:`on` also switches reports on."""
        self._connection = connection
        self._number = 0
        self._loads = 0
        self.said: list[str] = []
        self.asked: list[str] = []

    @classmethod
    async def on(cls, connection: aiohttp.ClientWebSocketResponse) -> Tab:
        """Return a tab that reports."""
        tab = cls(connection)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await tab.call(f"{domain}.enable")
        return tab

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command, and return its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.send_json(message)
        while True:
            received = await self._received()
            if received.get("id") == number:
                assert "error" not in received, received["error"]
                result: dict[str, Any] = received["result"]
                return result

    async def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        loads = self._loads
        await self.call("Page.navigate", url=url)
        await self._loaded_after(loads)

    async def follow(self, expression: str) -> None:
        """Evaluate what leads to another page, and wait until that is loaded."""
        loads = self._loads
        await self.value(expression)
        await self._loaded_after(loads)

    async def _loaded_after(self, loads: int) -> None:
        while self._loads == loads:
            await self._received()

    async def value(self, expression: str) -> Any:
        """Return the value of an expression in JavaScript; the page's policy does not matter."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def look(self, width: int, height: int, scheme: str) -> None:
        """Use a window of a size, and prefer ``light`` or ``dark``."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.call("Emulation.setEmulatedMedia", features=[feature])

    async def screenshot(self) -> bytes:
        """Return a picture of what is seen, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])

    async def _received(self) -> dict[str, Any]:
        received: dict[str, Any] = await self._connection.receive_json()
        parameters = received.get("params", {})
        match received.get("method"):
            case "Log.entryAdded":
                self.said.append(parameters["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.said.append(str(parameters["exceptionDetails"]))
            case "Page.loadEventFired":
                self._loads += 1
            case "Network.requestWillBeSent":
                self.asked.append(parameters["request"]["url"])
        return received
