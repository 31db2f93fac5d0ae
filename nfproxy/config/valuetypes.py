"""
The types of values that settings take: how to read each from a flag and from a file.

A reader raises ValueError for what it cannot read. Its caller knows the flag or field and reports
it with the values that the type accepts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import msgspec

from nfproxy.config.durations import Duration, parse_duration

_INT = re.compile(
    r"[-+]?(0[xX][0-9a-fA-F]{1,16}|0[bB][01]{1,64}|0[oO]?[0-7]{0,22}|[1-9]\d{0,19})", re.ASCII
)
_FLOAT = re.compile(r"[-+]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][-+]?\d{1,3})?", re.ASCII)
_QUANTITY = re.compile(
    r"[-+]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][-+]?\d{1,3}|[KMGTPE]i|[numkMGTPE])?", re.ASCII
)
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
UINT32_MAX = (1 << 32) - 1


class VModuleItem(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One item of ``logging.vmodule``."""

    file_pattern: Annotated[str, msgspec.Meta(min_length=1)]
    verbosity: Annotated[int, msgspec.Meta(ge=0, le=INT32_MAX)]


def _anything(value: Any) -> bool:
    return True


@dataclass(frozen=True)
class ValueType:
    """
    A type of values.

    `metavar` names the value in the help. `accepts` completes "accepted: …". `from_text` reads a
    flag; a `repeatable` flag that is given several times arrives joined by commas. `from_data`
    reads a value from YAML or JSON. `fits` says whether a value that was read is in range. The
    flag of a `switch` without a value means "true".
    """

    metavar: str
    accepts: str
    from_text: Callable[[str], Any]
    from_data: Callable[[Any], Any]
    fits: Callable[[Any], bool] = _anything
    repeatable: bool = False
    switch: bool = False


# msgspec's errors are ValueErrors.
_read_str = partial(msgspec.convert, type=str)
_read_bool = partial(msgspec.convert, type=bool)
_read_strings = partial(msgspec.convert, type=tuple[str, ...])
_read_gates = partial(msgspec.convert, type=dict[str, bool])
_read_modules = partial(msgspec.convert, type=tuple[VModuleItem, ...])


def _parse_bool(text: str) -> bool:
    """Read a boolean as Go's ``strconv.ParseBool`` does."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("not a boolean")


def _read_int(data: Any) -> int:
    """Read an integer; ``10.0`` counts as one, as in JSON converted from YAML."""
    is_whole = isinstance(data, float) and data.is_integer()
    return msgspec.convert(int(data) if is_whole else data, int)


def _parse_int(text: str) -> int:
    """Read an integer as Go does with base 0: decimal, 0x, 0b, 0o, and 0 for octal."""
    match = _INT.fullmatch(text)
    if match is None:
        raise ValueError("not an integer")
    digits = match[1]
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    value = int(digits, 8 if octal else 0)
    return -value if text.startswith("-") else value


def _read_float(data: Any) -> float:
    number = msgspec.convert(data, float)
    if abs(number) > 3.4e38:
        raise ValueError("not a number")
    return number


def _parse_float(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise ValueError("not a number")
    return _read_float(float(text))


def _read_duration(data: Any) -> Duration:
    return parse_duration(_read_str(data))


def _read_flush(data: Any) -> Duration:
    """Read ``logging.flushFrequency``: a duration text, or integer nanoseconds."""
    return _read_duration(data) if isinstance(data, str) else Duration(_read_int(data))


def _read_quantity(data: Any) -> str:
    text = str(data) if isinstance(data, int) and not isinstance(data, bool) else _read_str(data)
    if not _QUANTITY.fullmatch(text):
        raise ValueError("not a quantity")
    return text


def _parse_strings(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _parse_gates(text: str) -> dict[str, bool]:
    pairs = (item.partition("=") for item in text.split(",") if item)
    return {name.strip(): _parse_bool(on.strip()) for name, _, on in pairs}


def _parse_modules(text: str) -> Any:
    pairs = (item.partition("=") for item in text.split(",") if item)
    return _read_modules(
        [{"filePattern": pattern.strip(), "verbosity": _parse_int(n)} for pattern, _, n in pairs]
    )


STRING = ValueType("TEXT", "a string", str, _read_str)
URLS = replace(STRING, metavar="URL,…", accepts="URLs, with commas between", repeatable=True)
PATH = replace(STRING, metavar="PATH")
ADDRESS = replace(STRING, metavar="IP", accepts="an IP address")
ADDRESS_PORT = replace(STRING, metavar="IP[:PORT]", accepts="IP:port, IPv6 in brackets")
BOOL = ValueType("BOOL", "true or false", _parse_bool, _read_bool, switch=True)
VERSION = ValueType(
    "true|raw|vX.Y.Z",
    "true, false, raw, or a version to report such as v1.36.2",
    str,
    _read_str,
    lambda text: text in ("true", "false", "raw") or text.startswith("v"),
    switch=True,
)
FLOAT = ValueType("NUMBER", "a number", _parse_float, _read_float)
STRINGS = ValueType("LIST", "a list of strings", _parse_strings, _read_strings, repeatable=True)
GATES = ValueType(
    "NAME=BOOL,…",
    "feature names, each with true or false",
    _parse_gates,
    _read_gates,
    repeatable=True,
)
MODULES = ValueType(
    "PATTERN=N,…",
    "file patterns, each with a level (in a file: a list of filePattern and verbosity)",
    _parse_modules,
    _read_modules,
    repeatable=True,
)
QUANTITY = ValueType("SIZE", 'a Kubernetes quantity such as "64Ki"', _read_quantity, _read_quantity)


#: The type of the values of a setting that names none, by the type of its field.
TYPE_OF_FIELD: Mapping[Any, ValueType] = {
    str: STRING,
    bool: BOOL,
    float: FLOAT,
    tuple[str, ...]: STRINGS,
    tuple[VModuleItem, ...]: MODULES,
    dict[str, bool]: GATES,
}


def integer(low: int = INT32_MIN, high: int = INT32_MAX) -> ValueType:
    """Return the type of the integers from `low` to `high`, both included."""
    accepts = f"an integer from {low} to {high}"
    return ValueType("N", accepts, _parse_int, _read_int, lambda value: low <= value <= high)


def duration(*, minimum: int = -(1 << 63)) -> ValueType:
    """Return the type of durations of at least `minimum` nanoseconds."""
    bound = {0: ", zero or more", 1: ", more than zero"}.get(minimum, "")
    accepts = f'a duration with units such as "30s" or "1h30m"{bound}'
    return ValueType("DURATION", accepts, parse_duration, _read_duration, lambda d: d >= minimum)


FLUSH = replace(
    duration(minimum=1),
    accepts='a duration with units such as "5s", or (in a file) integer nanoseconds, more than 0',
    from_data=_read_flush,
)


def choice(*values: str) -> ValueType:
    """Return the type of strings that are empty or one of `values`."""
    accepts = f"{', '.join(values)}, or empty"
    return ValueType(
        "|".join(values), accepts, str, _read_str, lambda value: not value or value in values
    )
