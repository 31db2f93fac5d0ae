"""
The tables of iptables-legacy, which only its own programs can read and change.

They read a whole table and write it back. The lock file (/run/xtables.lock) keeps two programs from
undoing each other's changes, so it has to be the host's.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from nfproxy.errors import DataplaneError, MissingFeatureError, reason_of
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.text import one_line
from nfproxy.tools.takeover import names
from nfproxy.tools.takeover.tables import TABLES, Backend, IptablesRule, IptablesTable, TablePlan

_PREFIX = {Family.IPV4: "ip", Family.IPV6: "ip6"}
_TIMEOUT_S = 60.0
_LOCK_WAIT_S = 10

#: Words of a line of iptables-save that are not conditions.
_NO_CONDITIONS = frozenset(("-A", "-j", "-g", "-m", "comment", "--comment"))

_RIGHTS = (
    "this needs the capabilities NET_ADMIN and NET_RAW, and the host's lock file (in a container: "
    "mount /run/xtables.lock as a hostPath of type FileOrCreate; or, if nothing else changes "
    "iptables meanwhile, name another file by XTABLES_LOCKFILE)"
)


def table_names(family: Family, proc: Path = Path("/proc")) -> list[str]:
    """Return the names of existing tables; iptables itself would create one to list it."""
    path = proc / f"net/{_PREFIX[family]}_tables_names"
    try:
        return path.read_text("ascii").split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataplaneError(f"cannot read {path}: {reason_of(error)}") from error


def save(family: Family, *arguments: str, timeout_s: float = _TIMEOUT_S) -> str:
    """
    Return the output of iptables-legacy-save.

    Raises MissingFeatureError without that program, DataplaneError where it fails.
    """
    return _run(family, "save", arguments, timeout_s=timeout_s)


def kube_proxy_tables() -> list[IptablesTable]:
    """Return the tables that hold a chain of kube-proxy's. Raises as `save` does."""
    found = []
    for family in FAMILIES:
        present = table_names(family)
        for name in TABLES:
            if name in present:
                table = read_table(family, name, save(family, "-t", name))
                if any(names.is_chain(name, chain) for chain in table.chains):
                    found.append(table)
    return found


def remove_rules(plans: Iterable[TablePlan], *, entries: bool) -> None:
    """Delete the rules that lead to kube-proxy's chains: the entry points, or the others."""
    for plan in plans:
        rules = plan.entries if entries else plan.jumps
        _restore(plan.table, [deletion(rule) for rule in rules])


def remove_chains(plans: Iterable[TablePlan]) -> None:
    """Empty and delete chains, in one transaction a table."""
    for plan in plans:
        lines = [f"-F {name}" for name in plan.flush] + [f"-X {name}" for name in plan.delete]
        _restore(plan.table, lines)


def read_table(family: Family, name: str, text: str) -> IptablesTable:
    """Parse the output of ``iptables-legacy-save -t``."""
    chains: list[str] = []
    policies: dict[str, str] = {}
    rules: list[IptablesRule] = []
    own: set[str] = set()
    for line in text.splitlines():
        if line.startswith(":"):
            chain, policy = line[1:].split(" ")[:2]
            chains.append(chain)
            if policy != "-":
                policies[chain] = policy
            if names.is_chain(name, chain):
                own.add(chain)
        elif line.startswith("-A ") and line.split(" ", 2)[1] not in own:
            rules.append(read_rule(line))
    return IptablesTable(Backend.LEGACY, family, name, tuple(chains), tuple(rules), policies)


def read_rule(line: str) -> IptablesRule:
    """Parse a rule of iptables-save."""
    words = shlex.split(line)
    after = dict(pairwise(words))
    target = after.get("-j") or after.get("-g", "")
    options = [word for word in words if word.startswith("-")]
    at = words.index(target) if target else len(words)  # after it: the target's own options
    conditions = [w for w in options if w in words[:at] and w not in _NO_CONDITIONS]
    modules = [words[i + 1] for i, word in enumerate(words[:at]) if word == "-m"]
    return IptablesRule(
        chain=words[1],
        target=target,
        comment=after.get("--comment", ""),
        key=line,
        plain=not conditions and not set(modules) - _NO_CONDITIONS,
    )


def deletion(rule: IptablesRule) -> str:
    """Return the line that deletes a rule."""
    return f"-D {str(rule.key).removeprefix('-A ')}"


def _restore(table: IptablesTable, lines: Sequence[str]) -> None:
    if lines:
        text = "\n".join((f"*{table.name}", *lines, "COMMIT", ""))
        arguments = ["--noflush", "--wait", str(_LOCK_WAIT_S)]
        _run(table.family, "restore", arguments, text)


def _run(
    family: Family,
    what: str,
    arguments: Sequence[str],
    text: str = "",
    timeout_s: float = _TIMEOUT_S,
) -> str:
    program = f"{_PREFIX[family]}tables-legacy-{what}"
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise MissingFeatureError(
            f"there are tables of iptables-legacy, and {program} is missing, which reads them",
            "install the package iptables (Debian, Ubuntu) or iptables-legacy (Alpine, RHEL)",
        )
    try:
        done = subprocess.run(
            [path, *arguments], input=text, capture_output=True, text=True, timeout=timeout_s
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataplaneError(f"{program}: {reason_of(error)}") from error
    if done.returncode:
        words = one_line(done.stderr, 400)
        raise DataplaneError(f"{program}: {words or f'status {done.returncode}'}", _RIGHTS)
    return done.stdout
