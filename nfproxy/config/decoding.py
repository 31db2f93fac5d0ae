"""
From the data of a configuration file to its values, field by field.

Unknown fields are warnings, as in kube-proxy. A value of the wrong type is an error, and all such
values are found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from nfproxy.config.kubeproxy import API_VERSION, KIND
from nfproxy.config.lookup import BY_FIELD
from nfproxy.config.validate import InvalidValue, describe
from nfproxy.errors import ConfigError

_BLOCKS = {
    ".".join(path.split(".")[:depth])
    for path in BY_FIELD
    for depth in range(1, path.count(".") + 1)
}
_HEADER = ("apiVersion", "kind")
_MAX_UNKNOWN = 20
_EXPECTED = f"expected a mapping with apiVersion: {API_VERSION} and kind: {KIND}"


class FileValues(NamedTuple):
    """A file's values by field path, the values that cannot be read, and warnings."""

    values: Mapping[str, Any]
    invalid: tuple[InvalidValue, ...]
    warnings: tuple[str, ...]


def decode(data: Any, name: str) -> FileValues:
    """
    Return the values in the data of a file called `name`; null counts as absent.

    Raises ConfigError for anything but a KubeProxyConfiguration.
    """
    _check_header(data, name)
    values: dict[str, Any] = {}
    invalid: list[InvalidValue] = []
    unknown: list[str] = []
    for path, value in _fields(data, ""):
        if path in _HEADER or value is None:
            continue
        if path in _BLOCKS:
            invalid.append(InvalidValue(path, describe(value), "a mapping"))
        elif path not in BY_FIELD:
            unknown.append(path)
        else:
            try:
                values[path] = BY_FIELD[path].type.from_data(value)
            except ValueError:
                accepts = BY_FIELD[path].type.accepts
                invalid.append(InvalidValue(path, describe(value), accepts))
    return FileValues(values, tuple(invalid), tuple(_unknown(unknown, name)))


def _check_header(data: Any, name: str) -> None:
    if not isinstance(data, Mapping):
        what = "empty" if data is None else describe(data)
        raise ConfigError(f"{name}: holds no configuration ({what})", _EXPECTED)
    for key, expected in zip(_HEADER, (API_VERSION, KIND), strict=True):
        found = data.get(key)
        if found != expected:
            what = "is missing" if found in (None, "") else f"is {describe(found)}"
            raise ConfigError(f"{name}: {key} {what}", _EXPECTED)


def _fields(block: Mapping[Any, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    """Yield (path, value) of every field in known blocks; an unknown field is yielded whole."""
    for key, value in block.items():
        path = f"{prefix}{key}" if isinstance(key, str) else f"{prefix}{describe(key)}"
        if path in _BLOCKS and isinstance(value, Mapping):
            yield from _fields(value, f"{path}.")
        else:
            yield path, value


def _unknown(paths: list[str], name: str) -> Iterable[str]:
    for path in paths[:_MAX_UNKNOWN]:
        text = f"{name}: unknown field {describe(path)} is ignored"
        near = _nearest(path)
        yield f"{text}; did you mean {near}?" if near else text
    if len(paths) > _MAX_UNKNOWN:
        yield f"{name}: {len(paths) - _MAX_UNKNOWN} more unknown fields are ignored"


def _nearest(path: str) -> str:
    """
    Return the known field that an unknown one may stand for, "" where none is near.

    A field that begins with the whole of it comes first: ``conntrack.max`` is ``maxPerCore``, and
    not ``min``, from which it differs by two letters.
    """
    known = [*BY_FIELD] if "." in path else [*BY_FIELD, *_BLOCKS]
    short = path[:64].casefold()
    longer = [name for name in known if name.casefold().startswith(short)]
    if longer:
        return min(longer, key=len)
    near = get_close_matches(path[:64], known, n=1)
    return near[0] if near else ""
