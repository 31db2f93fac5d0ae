"""
``/flagz`` and ``/statusz``: the flags of this process, its versions and its age.

Text is for people, and the default. Clients that read the page by program ask for an API object,
by group, version and kind in parameters of the media type (KEP-4827, KEP-4828)::

    Accept: application/json;v=v1beta1;g=config.k8s.io;as=Flagz

That is the only other form: no YAML, no weights, no older version.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from nfproxy import __version__
from nfproxy.clock import process_age_s, process_start_s
from nfproxy.config.load import LoadedConfig
from nfproxy.config.lookup import BY_FLAG
from nfproxy.config.valuetypes import VModuleItem
from nfproxy.kube.timestamps import timestamp
from nfproxy.metrics.component import runtime_version
from nfproxy.servers.pages import JSON, TEXT, Page, answer, error

#: Clients look for the component that nfproxy replaces.
_COMPONENT = "kube-proxy"

_GROUP, _VERSION = "config.k8s.io", "v1beta1"

_WARNING = (
    "Warning: This endpoint is not meant to be machine parseable, has no formatting "
    "compatibility guarantees and is for debugging purposes only.\n"
)
#: One is drawn for each answer, so that no client relies on it (KEP-4828).
_SEPARATORS = (":", ": ", "=", " ")


def flagz_page(loaded: LoadedConfig) -> Page:
    """Return the page of flags and their effective values."""
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
        started = datetime.fromtimestamp(int(start_s), UTC)
        minutes, seconds = divmod(int(process_age_s()), 60)
        hours, minutes = divmod(minutes, 60)
        facts = {
            "Started": f"{started:%a %b %e %H:%M:%S UTC %Y}",
            "Up": f"{hours} hr {minutes:02d} min {seconds:02d} sec",
            "Go version": runtime_version(),
            "Binary version": version,
            "Emulation version": emulated,
            "nfproxy version": __version__,
            "Paths": " ".join(paths),
        }
        lines = (f"{name}{separator}{fact}\n" for name, fact in facts.items())
        return f"\n{_COMPONENT} statusz\n{_WARNING}\n{''.join(lines)}"

    def fields() -> dict[str, Any]:
        return {
            "startTime": timestamp(int(start_s)),
            "uptimeSeconds": int(process_age_s()),
            "goVersion": runtime_version(),
            "binaryVersion": version,
            "emulationVersion": emulated,
            "paths": list(paths),
        }

    return _page("Statusz", text, fields)


def _page(kind: str, text: Callable[[], str], fields: Callable[[], Mapping[str, object]]) -> Page:
    head = {"kind": kind, "apiVersion": f"{_GROUP}/{_VERSION}", "metadata": {"name": _COMPONENT}}

    async def page(request: BaseRequest) -> Response:
        accepted = _media_types(request)
        if _object_type(kind) in accepted:
            return answer(msgspec.json.encode({**head, **fields()}), JSON)
        if not accepted or any(kind in _TEXT_TYPES for kind, _ in accepted):
            return answer(text().encode(), TEXT)
        # As in kube-proxy: a form that may change has to be asked for by its version.
        wanted = f"{JSON};v={_VERSION};g={_GROUP};as={kind}"
        return error(f"not acceptable: ask for text/plain, or for {wanted}", 406)

    return page


# --- media types --------------------------------------------------------------------------

_TEXT_TYPES = ("*/*", "text/*", "text/plain")

MediaType = tuple[str, frozenset[str]]


def _object_type(kind: str) -> MediaType:
    return JSON, frozenset((f"v={_VERSION}", f"g={_GROUP}", f"as={kind.lower()}"))


def _media_types(request: BaseRequest) -> list[MediaType]:
    """Return the media types of the Accept headers, each with its parameters, in lower case."""
    accept = ",".join(request.headers.getall("Accept", ())).replace(" ", "").lower()
    split = [part.split(";") for part in accept.split(",") if part]
    return [(name, frozenset(p for p in rest if p[:2] != "q=")) for name, *rest in split]


# --- flags --------------------------------------------------------------------------------


def flag_values(loaded: LoadedConfig) -> dict[str, str]:
    """Return every flag's effective value, from a flag, the file or a default."""
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
