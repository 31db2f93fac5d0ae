"""The whole report about a node."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from nfproxy.tools.preflight import (
    access,
    apiserver,
    conntrack,
    firewalls,
    kernel,
    memory,
    network,
    nft,
    pods,
    ports,
    proxies,
    reach,
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


#: In the order of the report.
_SUBJECTS: tuple[ModuleType, ...] = (
    *(kernel, nft, proxies, firewalls, network, pods, conntrack, ports, memory),
    *(apiserver, access, reach),
)
CHECKS: tuple[Check, ...] = (
    Check("configuration", judge_configuration, (SUBJECT,)),
    *(check for subject in _SUBJECTS for check in subject.CHECKS),
)


def examine_node(subject: Subject, progress: Callable[[str], None]) -> NodeReport:
    """
    Return the report about this node, within half a minute; change nothing.

    `progress` receives what is being waited for, "" in the end.
    """
    findings = examine(subject, CHECKS, progress)
    result = worst(finding.level for finding in findings)
    return NodeReport(subject.node_name, result, tuple(findings))
