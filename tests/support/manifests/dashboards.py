"""Grafana's dashboards: their panels, and the PromQL in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]

#: What Grafana puts in for a variable of its own, or of the dashboard.
_VALUES = {"$__rate_interval": "5m", "$__interval": "1m", "$node": "node-1|node-2"}

_STRING = re.compile(r'"(\\.|[^"\\])*"')
_BRACES = re.compile(r"\{[^}]*\}")
_LABELS_OF = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\(|[a-zA-Z0-9_:])")
_KEYWORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "bool", "offset"} | {
    "group_left",
    "group_right",
}


def panels(dashboard: Json) -> Iterator[Json]:
    """Return all panels, also those in rows that are folded."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", ())


def expressions(dashboard: Json) -> Iterator[str]:
    """Return the PromQL of all panels, variables filled in."""
    for panel in panels(dashboard):
        for target in panel.get("targets", ()):
            yield filled_in(target["expr"])


def filled_in(expression: str) -> str:
    """Return an expression as Grafana sends it. Raises AssertionError for unknown variables."""
    for name, value in _VALUES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression.replace('$"', '"'), expression
    return expression


def metrics_in(expression: str) -> set[str]:
    """Return the names of the metrics that an expression looks at."""
    bare = _BRACES.sub("", _STRING.sub('""', expression))
    bare = re.sub(r"\[[^]]*\]", "", _LABELS_OF.sub("", bare))
    return {word for word in _WORD.findall(bare) if word not in _KEYWORDS}
