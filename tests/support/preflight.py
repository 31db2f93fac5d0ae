"""What the tests of preflight's subjects share: files as ``/proc`` has them, levels of findings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nfproxy.apiserver.access import ClientSettings
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.tools.preflight.examine import Subject
from nfproxy.tools.preflight.findings import Finding, Level

SUBJECT = Subject(KubeProxyConfiguration(), "n", ClientSettings(), (30000, 32767))


def levels(findings: Iterable[Finding]) -> list[Level]:
    """Return the levels of some findings."""
    return [finding.level for finding in findings]


def put(root: Path, files: dict[str, str]) -> Path:
    """Write files below a directory, and return it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
