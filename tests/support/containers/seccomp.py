"""
The seccomp profile RuntimeDefault, as containerd has it.

Debian packages the one of Podman and CRI-O (golang-github-containers-common), which stems from
the same list. What containerd refuses beyond it is taken away here; what containerd allows
beyond it (newer system calls, each of which programs try and do without; ptrace) stays refused.
So this profile is the stricter of the two, but for sockets of AF_VSOCK, which no test opens.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

PROFILE = Path("/usr/share/containers/seccomp.json")

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Allowed by Podman for containers in containers; by containerd only with CAP_SYS_ADMIN or so.
_NOT_IN_CONTAINERD = _words(
    "clone clone3 fsconfig fsmount fsopen fspick get_mempolicy keyctl mbind mount mount_setattr "
    "move_mount open_tree pidfd_getfd pivot_root process_vm_readv process_vm_writev ptrace reboot "
    "set_mempolicy setns syslog umount umount2 unshare"
)
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_ENOSYS = 38


def seccomp_profile(capabilities: Sequence[str], source: Path = PROFILE) -> dict[str, Any]:
    """
    Return the profile of a container with these capabilities ("CAP_NET_ADMIN").

    Raises ValueError for CAP_SYS_ADMIN, to which containerd allows much that is not here.
    """
    if "CAP_SYS_ADMIN" in capabilities:
        raise ValueError("the profile of a container with CAP_SYS_ADMIN is not known here")
    given = _load(source)
    rules = [rule for rule in given["syscalls"] if _applies(rule, capabilities)]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": _architectures(given["archMap"]),
        "syscalls": [
            *(_rule(rule) for rule in rules if _allowed(rule)),
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ALLOW",
                "args": [_masked(_NEW_NAMESPACES)],
            },
            # so that the C library falls back to clone, whose flags can be looked at
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
        ],
    }


@cache
def _load(source: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(source.read_text())
    return made


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _architectures(known: Sequence[dict[str, Any]]) -> list[str]:
    ours = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}.get(_architecture(), "")
    for entry in known:
        if entry["architecture"] == ours:
            return [ours, *(entry["subArchitectures"] or ())]
    return []  # the machine's own


def _applies(rule: dict[str, Any], capabilities: Sequence[str]) -> bool:
    wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
    if wanted.get("arches") and _architecture() not in wanted["arches"]:
        return False
    if not set(wanted.get("caps") or ()) <= set(capabilities):
        return False
    return not set(unwanted.get("caps") or ()) & set(capabilities)


def _allowed(rule: dict[str, Any]) -> bool:
    """Return whether a rule says anything but what the default does, after the exceptions."""
    return bool(set(rule["names"]) - _NOT_IN_CONTAINERD) and rule["action"] == "SCMP_ACT_ALLOW"


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in rule["names"] if name not in _NOT_IN_CONTAINERD]
    made: dict[str, Any] = {"names": names, "action": rule["action"]}
    if rule.get("args"):
        made["args"] = rule["args"]
    return made


def _masked(mask: int) -> dict[str, Any]:
    return {"index": 0, "value": mask, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
