"""Findings as people read them: what concerns both families, or several ports, is said once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from nfproxy.insight.diagnosis import Diagnosis, ObjectField
from nfproxy.insight.explanation import Explanation

_Part = tuple[str, str]  # a port's name, a family


class UnitedFinding(NamedTuple):
    """A finding; `concerns` names the ports and families that it is about, "" for all there are."""

    concerns: str
    finding: Diagnosis


def united_findings(explanation: Explanation) -> list[UnitedFinding]:
    """Return the findings in their order; those that differ by port, family or object are one."""
    parts = {(port.name, port.family) for port in explanation.ports}
    parts |= {(view.port, view.family) for view in explanation.nodes}
    groups: dict[tuple[object, ...], list[Diagnosis]] = {}
    for one in explanation.findings:
        groups.setdefault((one.level, one.code, one.message, one.look), []).append(one)
    return [
        UnitedFinding(_concerns({(one.port, one.family) for one in group}, parts), _united(group))
        for group in groups.values()
    ]


def _concerns(hit: set[_Part], parts: set[_Part]) -> str:
    """Return ``http, metrics IPv4``, and nothing where no part is left out."""
    # "" stands for every port, or every family.
    found = {part for part in parts if {part, (part[0], ""), ("", part[1]), ("", "")} & hit}
    if found == parts:
        return ""
    labels: dict[str, list[str]] = {}
    for name in sorted({name for name, _ in found}):
        some = sorted(family for port, family in found if port == name)
        is_all = len(some) == sum(port == name for port, _ in parts)
        labels.setdefault("" if is_all else ", ".join(some), []).append(name)
    return "; ".join(
        " ".join(filter(None, (", ".join(filter(None, names)), families)))
        for families, names in labels.items()
    )


def _united(group: list[Diagnosis]) -> Diagnosis:
    because = tuple(dict.fromkeys(line for one in group for line in one.because))
    about = _all_of([one.about for one in group if one.about is not None])
    return msgspec.structs.replace(group[0], because=because, about=about)


def _all_of(objects: Iterable[ObjectField]) -> ObjectField | None:
    """Return one that names all of the first one's kind, namespace and field."""
    found = list(objects)
    if not found:
        return None
    first = found[0]
    alike = [msgspec.structs.replace(one, name=first.name) == first for one in found]
    names = [one.name for one, is_alike in zip(found, alike, strict=True) if is_alike]
    return msgspec.structs.replace(first, name=", ".join(dict.fromkeys(names)))
