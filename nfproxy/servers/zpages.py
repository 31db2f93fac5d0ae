"""
``/flagz`` and ``/statusz``: with which flags this process runs, and since when.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import yaml
from aiohttp import web

from nfproxy.config.kinds import VModuleItem
from nfproxy.config.load import LoadedConfig
from nfproxy.config.settings import BY_FLAG
from nfproxy.metrics.component import process_start_s, runtime_version
from nfproxy.servers.negotiation import GROUP, OLD_VERSION, VERSION, Encoding, Form, negotiate
from nfproxy.servers.pages import JSON, TEXT, Page, answer, error

#: Tools look for the component whose place we take.
_COMPONENT = "kube-proxy"

_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting "
    "compatibility guarantees and is for debugging purposes only.\n"
)
#: One is drawn each time, so that nobody comes to rely on it (KEP-4828).
_SEPARATORS = (":", ": ", "=", " ")


def flagz_page(loaded: LoadedConfig) -> Page:
    """Return the page of flags and their values in force."""
    flags = flag_values(loaded)

    def text() -> str:
        separator = secrets.choice(_SEPARATORS)
        lines = (f"{name}{separator}{flags[name]}\n" for name in sorted(flags))
        return f"\n{_COMPONENT} flags\n{_WARNING}\n{''.join(lines)}"

    return _page("Flagz", text, lambda: {"flags": flags})


def statusz_page(version: str, paths: Sequence[str]) -> Page:
    """Return the page of start time, versions and paths; `version` may begin with a v."""
    version = version.removeprefix("v")
    emulated = ".".join(version.split(".")[:2])
    start_s = process_start_s()

    def text() -> str:
        separator = secrets.choice(_SEPARATORS)
        date, year = time.asctime(time.gmtime(start_s)).rsplit(" ", 1)
        minutes, seconds = divmod(_uptime_s(start_s), 60)
        hours, minutes = divmod(minutes, 60)
        facts = {
            "Started": f"{date} UTC {year}",
            "Up": f"{hours} hr {minutes:02d} min {seconds:02d} sec",
            "Go version": runtime_version(),
            "Binary version": version,
            "Emulation version": emulated,
            "Paths": " ".join(paths),
        }
        lines = (f"{name}{separator}{fact}\n" for name, fact in facts.items())
        return f"\n{_COMPONENT} statusz\n{_WARNING}\n{''.join(lines)}"

    def fields() -> dict[str, Any]:
        return {
            "startTime": f"{datetime.fromtimestamp(int(start_s), UTC):%Y-%m-%dT%H:%M:%SZ}",
            "uptimeSeconds": _uptime_s(start_s),
            "goVersion": runtime_version(),
            "binaryVersion": version,
            "emulationVersion": emulated,
            "paths": list(paths),
        }

    return _page("Statusz", text, fields)


def _uptime_s(start_s: float) -> int:
    return max(0, int(time.time() - start_s))


def _page(kind: str, text: Callable[[], str], fields: Callable[[], Mapping[str, object]]) -> Page:
    async def page(request: web.BaseRequest) -> web.Response:
        form = negotiate(",".join(request.headers.getall("Accept", ())), kind)
        if form is None:
            wanted = f"{JSON};v={VERSION};g={GROUP};as={kind}"
            return error(f"not acceptable: ask for text/plain, or for {wanted}", 406)
        if form.encoding is Encoding.TEXT:
            return answer(text().encode(), TEXT)
        return _structured(kind, form, fields())

    return page


def _structured(kind: str, form: Form, fields: Mapping[str, object]) -> web.Response:
    """Return the API object, with kind and version first."""
    version = f"{GROUP}/{form.version}"
    data = {"kind": kind, "apiVersion": version, "metadata": {"name": _COMPONENT}, **fields}
    headers = {}
    if form.version == OLD_VERSION:
        headers["Warning"] = f'299 - "{version} {kind} is deprecated; use {GROUP}/{VERSION}"'
    if form.encoding is Encoding.JSON:
        body = msgspec.json.encode(data)
    else:
        body = yaml.safe_dump(data, sort_keys=False).encode()
    return answer(body, form.encoding, headers=headers)


def flag_values(loaded: LoadedConfig) -> dict[str, str]:
    """Return every flag's value in force, whether it came from a flag, the file or a default."""
    return {name: _flag_text(loaded.value(setting)) for name, setting in BY_FLAG.items()}


def _flag_text(value: object) -> str:
    """Return a value as Go's flags print it."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case dict():
            return ",".join(f"{name}={_flag_text(on)}" for name, on in sorted(value.items()))
        case VModuleItem():
            return f"{value.file_pattern}={value.verbosity}"
        case tuple():
            return f"[{','.join(map(_flag_text, value))}]"
    return str(value)
