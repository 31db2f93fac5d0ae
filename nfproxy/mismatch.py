"""
Why data does not fit the struct it should be decoded into, in nfproxy's own words.

msgspec decodes and validates in one fast pass, but its messages are for programmers and change
between versions. So after a failure, and only then, :func:`mismatch` walks the data along the
struct's fields to the first one that does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

#: What msgspec raises for data that cannot be decoded.
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeError)

_MAX_LOCATED = 8 << 20  # bytes of JSON in which the place of an error is looked for


class Mismatch(NamedTuple):
    """
    The first field that does not fit, such as ``spec.ports[0].port``, and what is wrong with it.

    `field` is "" for the data as a whole.
    """

    field: str
    what: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.field}: {self.what}" if self.field else self.what


def mismatch(data: bytes | msgspec.Raw | Any, wanted: Any) -> Mismatch:
    """
    Return why JSON, or data of plain values, could not be decoded into a type.

    Call it after decoding has failed. A missing field comes after those that do not fit.
    """
    try:
        if isinstance(data, (bytes, msgspec.Raw)):
            text = bytes(data)
            try:
                data = msgspec.json.decode(text)
            except msgspec.MsgspecError:
                return Mismatch("", json_error(text))
        found = _first(data, _type_info(wanted))
    except RecursionError:
        return Mismatch("", "is nested too deeply")
    except UnicodeError:
        return Mismatch("", "holds text that is not UTF-8")
    if found is None:  # a duplicate key, say: its last value fits, an earlier one does not
        return Mismatch("", "cannot be decoded")
    return Mismatch(found.field.removeprefix("."), found.what)


def json_error(data: bytes) -> str:
    """Return what is wrong with bytes that should be JSON, with the line where that is known."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "holds text that is not UTF-8"
    if len(data) <= _MAX_LOCATED:
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            if error.pos >= len(text.rstrip()):
                return f"is not valid JSON: ends too early, {place}"
            return f"is not valid JSON, {place}"
        except (ValueError, RecursionError):  # thousands of digits, or of brackets
            pass
    return "is not valid JSON"


@lru_cache(64)
def _type_info(wanted: Any) -> inspect.Type:
    return inspect.type_info(wanted)


def _first(value: object, wanted: inspect.Type) -> Mismatch | None:
    """Return the first mismatch in a value; its field begins with a dot or a bracket."""
    if isinstance(wanted, inspect.UnionType):
        if value is None and wanted.includes_none:
            return None
        wanted = next(t for t in wanted.types if not isinstance(t, inspect.NoneType))
    match wanted:
        case inspect.StructType():
            return _in_struct(value, wanted) if isinstance(value, Mapping) else _not(value, "map")
        case inspect.ListType():
            return _in_list(value, wanted) if isinstance(value, list) else _not(value, "list")
        case inspect.DictType():
            return _in_dict(value, wanted) if isinstance(value, Mapping) else _not(value, "map")
        case inspect.StrType():
            return None if isinstance(value, str) else _not(value, "str")
        case inspect.BoolType():
            return None if isinstance(value, bool) else _not(value, "bool")
        case inspect.IntType():
            return None if type(value) is int else _not(value, "int")
        case inspect.FloatType():
            return None if type(value) in (int, float) else _not(value, "float")
    return None  # anything will do


def _in_struct(value: Mapping[Any, object], wanted: inspect.StructType) -> Mismatch | None:
    fields = {field.encode_name: field for field in wanted.fields}
    for key, item in value.items():
        if key in fields and (found := _first(item, fields[key].type)):
            return Mismatch(f".{key}{found.field}", found.what)
    for name, field in fields.items():
        if field.required and name not in value:
            return Mismatch(f".{name}", "is missing")
    return None


def _in_list(value: list[object], wanted: inspect.ListType) -> Mismatch | None:
    for index, item in enumerate(value):
        if found := _first(item, wanted.item_type):
            return Mismatch(f"[{index}]{found.field}", found.what)
    return None


def _in_dict(value: Mapping[Any, object], wanted: inspect.DictType) -> Mismatch | None:
    for key, item in value.items():
        if found := _first(key, wanted.key_type) or _first(item, wanted.value_type):
            return Mismatch(f"[...]{found.field}", found.what)  # a key may be hostile
    return None


_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list",
    "map": "a mapping",
}


def _not(value: object, wanted: str) -> Mismatch:
    return Mismatch("", f"is {_word(value)}, not {_WORDS[wanted]}")


def _word(value: object) -> str:
    """Return what a value is, without showing it: it may be huge or hostile."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a string"
        case int():
            return "a whole number"
        case float():
            return "a number with a fraction"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a mapping"
    return "something else"
