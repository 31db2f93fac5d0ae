"""
From a configuration file to its values, field by field.

The file may be hostile or broken: its size, its nesting and what its aliases expand to are limited.
Duplicate keys and unknown fields are warnings, as in kube-proxy. A value of the wrong type is an
error, and all such values are found.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nfproxy.config.kubeproxy import API_VERSION, KIND
from nfproxy.config.lookup import BY_FIELD
from nfproxy.config.validate import InvalidValue, describe
from nfproxy.errors import ConfigError, InputError, reason_of
from nfproxy.yaml import Limits, decode_text, first_document

MAX_BYTES = 256 << 10
LIMITS = Limits(depth=50, nodes=100_000, aliased=100_000)

_BLOCKS = {
    ".".join(path.split(".")[:depth])
    for path in BY_FIELD
    for depth in range(1, path.count(".") + 1)
}
_HEADER = ("apiVersion", "kind")
_MAX_UNKNOWN = 20
_EXPECTED = f"expected a mapping with apiVersion: {API_VERSION} and kind: {KIND}"


class ConfigData(NamedTuple):
    """The data of a file's first document, and warnings about it."""

    data: Any
    warnings: tuple[str, ...]


def read_document(path: str) -> ConfigData:
    """Read and parse a configuration file. Raises ConfigError."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "not a valid path"
        raise ConfigError(f"{path}: cannot read the configuration file: {reason}") from None
    return parse_document(raw, path)


def parse_document(raw: bytes, name: str) -> ConfigData:
    """
    Parse the bytes of a configuration file called `name`.

    A text that begins with a brace is JSON; if it is not, it may still be YAML. Raises ConfigError.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES >> 10} KiB; not a configuration file")
    try:
        text = decode_text(raw)
        if text.lstrip().startswith("{"):
            try:
                return _parse_json(text, name)
            except (ValueError, RecursionError):
                pass
        document, has_more = first_document(raw, LIMITS)
    except InputError as error:
        raise ConfigError(f"{name}: {error.what}", error.remedy) from None
    warnings = [f"{name}: {text}" for text in document.duplicates]
    if has_more:
        warnings.append(f"{name}: only the first of several documents is read")
    return ConfigData(document.value, tuple(warnings))


def _parse_json(text: str, name: str) -> ConfigData:
    """Return the data of JSON text. Raises ValueError for other text."""
    warnings: list[str] = []

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                warnings.append(f"{name}: key {describe(key)} twice, the last counts")
            seen[key] = value
        return seen

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    data = json.loads(text, object_pairs_hook=to_dict, parse_constant=refuse)
    return ConfigData(data, tuple(warnings))


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
    near = difflib.get_close_matches(path[:64], known, n=1)
    return near[0] if near else ""
