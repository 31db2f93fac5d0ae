"""
``spec.loadBalancerSourceRanges``: who may use a Service's load-balancer IPs.
"""

from __future__ import annotations

from nfproxy.errors import InputError
from nfproxy.kube.decoded import Notes
from nfproxy.model.addresses import FAMILIES, Family, Prefix, collapse, parse_prefix

# No packet that reaches a service has the unspecified address as its source.
NOBODY = {Family.IPV4: Prefix(bytes(4), 32), Family.IPV6: Prefix(bytes(16), 128)}


def source_ranges(texts: list[str] | None, notes: Notes) -> tuple[Prefix, ...]:
    """
    Return the disjoint ranges of both families; a family without any is open to all.

    As in kube-proxy, a list that says nothing about a family leaves it open, and so does
    a range of length 0. An invalid range is noted and skipped.

    Stricter than kube-proxy in one case. Where invalid ranges are all that a list holds
    for a family, kube-proxy has an empty list left, which opens what somebody meant to close;
    here the family is closed (`NOBODY`). A range with a ``:`` was meant for IPv6, any
    other for IPv4, and if nothing in the whole list is valid both are closed. An API
    server never lets such a list through, so clusters behave as with kube-proxy.
    """
    valid: dict[Family, list[Prefix]] = {family: [] for family in FAMILIES}
    invalid: set[Family] = set()
    for index, text in enumerate(texts or ()):
        try:
            prefix = parse_prefix(text)
            valid[prefix.family].append(prefix)
        except InputError as error:
            notes.add(f"spec.loadBalancerSourceRanges[{index}]", f"{error}; ignored")
            invalid.add(Family.IPV6 if ":" in text else Family.IPV4)
    if not any(valid.values()) and invalid:
        invalid = set(FAMILIES)
    ranges: list[Prefix] = []
    for family, prefixes in valid.items():
        if not prefixes and family in invalid:
            notes.add(
                "spec.loadBalancerSourceRanges",
                f"holds no valid range for {family.label}, so no source may use the "
                f"{family.label} load-balancer IPs",
            )
            ranges.append(NOBODY[family])
        elif all(prefix.length for prefix in prefixes):
            ranges += collapse(prefixes)
    return tuple(ranges)
