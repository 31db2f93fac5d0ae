"""
Which form of a page an Accept header asks for (``/flagz``, ``/statusz``).

Source: KEP-4827 and KEP-4828. Text is for people and the default; the structured form is an API
object, asked for by group, version and kind in parameters of the media type.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

GROUP = "config.k8s.io"
VERSION, OLD_VERSION = "v1beta1", "v1alpha1"


class Encoding(enum.StrEnum):
    """How a page is written; the value is the media type."""

    TEXT = "text/plain"
    JSON = "application/json"
    YAML = "application/yaml"


class Form(NamedTuple):
    """An encoding, and the object's API version ("" for text)."""

    encoding: Encoding
    version: str = ""


class _Range(NamedTuple):
    """One element of an Accept header; `weight` is its q."""

    media_type: str
    parameters: dict[str, str]
    weight: float


def negotiate(accept: str, kind: str) -> Form | None:
    """Return the best form of an object of a kind that is acceptable; None for none."""
    if not accept.strip():
        return Form(Encoding.TEXT)
    ranges = [_range(part) for part in accept.split(",")]
    for wanted in sorted(ranges, key=lambda each: -each.weight):
        form = _form(wanted, kind) if wanted.weight > 0 else None
        if form is not None:
            return form
    return None


def _form(wanted: _Range, kind: str) -> Form | None:
    parameters = wanted.parameters
    if wanted.media_type in ("*/*", "text/*", Encoding.TEXT):
        charset = parameters.get("charset", "utf-8")
        plain = parameters.keys() <= {"charset"} and charset.lower() == "utf-8"
        return Form(Encoding.TEXT) if plain else None
    if wanted.media_type not in (Encoding.JSON, Encoding.YAML):
        return None
    version = parameters.get("v", "")
    asked = (parameters.get("g"), parameters.get("as"))
    if asked != (GROUP, kind) or version not in (VERSION, OLD_VERSION):
        return None
    return Form(Encoding(wanted.media_type), version)


def _range(text: str) -> _Range:
    media_type, *rest = (part.strip() for part in text.split(";"))
    parameters = {}
    for part in rest:
        name, _, value = part.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return _Range(media_type.lower(), parameters, _weight(parameters.pop("q", "1")))


def _weight(text: str) -> float:
    """Return a q value; one that is none counts as 1, as in Kubernetes."""
    try:
        weight = float(text)
    except ValueError:
        return 1.0
    return weight if 0 <= weight <= 1 else 1.0
