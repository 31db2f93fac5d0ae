"""
The whole report about a node.
"""

from __future__ import annotations

from collections.abc import Callable

from nfproxy.tools.preflight import (
    access,
    apiserver,
    conntrack,
    firewalls,
    kernel,
    memory,
    network,
    nft,
    ports,
    proxies,
    reach,
    servicecidrs,
)
from nfproxy.tools.preflight.examine import SUBJECT, Check, Subject, examine
from nfproxy.tools.preflight.findings import Finding, NodeReport, fail, ok, warn, worst


def judge_configuration(subject: Subject) -> list[Finding]:
    """Flags and file can be used; where they cannot, the other checks use the defaults."""
    if subject.trouble:
        remedy = subject.trouble.remedy or "correct it"
        return [fail(subject.trouble.what, f"{remedy}; the other checks used the defaults")]
    return [
        warn(text, "change the configuration, or leave it: `nfproxy run` says the same")
        for text in subject.warnings
    ] or [ok("the configuration can be used")]


#: All checks, in the order of the report.
CHECKS = (
    Check("configuration", judge_configuration, (SUBJECT,)),
    *kernel.CHECKS,
    *nft.CHECKS,
    *proxies.CHECKS,
    *firewalls.CHECKS,
    *network.CHECKS,
    *conntrack.CHECKS,
    *ports.CHECKS,
    *memory.CHECKS,
    *apiserver.CHECKS,
    *access.CHECKS,
    *servicecidrs.CHECKS,
    *reach.CHECKS,
)


def examine_node(subject: Subject, progress: Callable[[str], None]) -> NodeReport:
    """
    Return the report about this node, within half a minute; change nothing.

    `progress` receives what is being waited for, "" in the end.
    """
    findings = examine(subject, CHECKS, progress)
    result = worst(finding.level for finding in findings)
    return NodeReport(subject.node_name, result, tuple(findings))
