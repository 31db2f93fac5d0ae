"""
The ranges of cluster IPs: they hold no node and no pod.
"""

from __future__ import annotations

from nfproxy.config.kept import kept_addresses
from nfproxy.plan.serviceranges import REMEDY, service_range_problems
from nfproxy.tools.preflight.access import ACCESS, ApiAccess
from nfproxy.tools.preflight.apiserver import API_SERVERS, ApiServers
from nfproxy.tools.preflight.examine import SUBJECT, Check, Subject
from nfproxy.tools.preflight.findings import Finding, ok, warn


def judge_service_ranges(subject: Subject, servers: ApiServers, access: ApiAccess) -> list[Finding]:
    """No ServiceCIDR overlaps this node's addresses or the pods' ranges, as far as known."""
    cidrs = servers.service_cidrs
    if not cidrs:
        return [ok("no ServiceCIDR known: nothing to compare")]
    kept = kept_addresses(subject.config, access.node)
    problems = service_range_problems(cidrs, kept.node_addresses, kept.pod_prefixes)
    ranges = ", ".join(str(cidr) for cidr in cidrs)
    return [warn(text, REMEDY) for text in problems] or [
        ok(f"{ranges}: holds no address of this node and none of the pods' ranges")
    ]


CHECKS = (Check("service-ranges", judge_service_ranges, (SUBJECT, API_SERVERS, ACCESS)),)
