"""
Which facts each check is about.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.config.nodeconfig import node_config
from nfproxy.errors import ConfigError
from nfproxy.host.families import families_of_host
from nfproxy.host.sysctls import cpu_count, wanted_sysctls
from nfproxy.model.addresses import Family
from nfproxy.reconcile.script import script
from nfproxy.tools.preflight.examine import Check, Reader, examine
from nfproxy.tools.preflight.facts import HostNft, Listing, Trial
from nfproxy.tools.preflight.findings import Report, Verdict, fail, ok, warn, worst
from nfproxy.tools.preflight.judge import api as judge_api
from nfproxy.tools.preflight.judge import firewalls, kernel, process, proxies, sysctls
from nfproxy.tools.preflight.read.api import LIMIT_S as API_S
from nfproxy.tools.preflight.read.api import Question, read_api
from nfproxy.tools.preflight.read.files import Root
from nfproxy.tools.preflight.read.hostfiles import read_host_files
from nfproxy.tools.preflight.read.hostnft import read_host_nft
from nfproxy.tools.preflight.read.kubeproxy import read_leftovers, read_running
from nfproxy.tools.preflight.read.links import read_links
from nfproxy.tools.preflight.read.listening import read_ports
from nfproxy.tools.preflight.read.proc import (
    read_conntrack,
    read_default_routes,
    read_memory,
    read_process,
    read_processes,
    read_sysctls,
)
from nfproxy.tools.preflight.read.ruleset import read_listing, read_ruleset
from nfproxy.tools.preflight.read.sample import sample
from nfproxy.tools.preflight.read.trial import LIMIT_S as TRIAL_S
from nfproxy.tools.preflight.read.trial import read_trial

#: Files that only a container has.
_MARKS = ("/.dockerenv", "/run/.containerenv")
_LISTING_S = _LEFTOVERS_S = 13.0


class Subject(NamedTuple):
    """
    What is to be examined.

    `config` is in force, `trouble` says why the one that was asked for cannot be used, and
    `warnings` what was said of it. `host_root` is where the host's ``/`` is mounted, None for not
    known. `node_ports` are the ports that the API server allocates.
    """

    config: KubeProxyConfiguration
    node_name: str
    question: Question
    node_ports: tuple[int, int]
    trouble: str = ""
    warnings: tuple[str, ...] = ()
    host_root: Path | None = None
    proc: Path = Path("/proc")


def report(subject: Subject, progress: Callable[[str], None]) -> Report:
    """Examine this node; takes some seconds at most, and changes nothing."""
    facts = _Facts(subject)
    findings = examine(facts.readers, _checks(subject, facts), progress)
    result = worst(finding.level for finding in findings)
    return Report(subject.node_name, result, tuple(findings))


def in_container(environ: Mapping[str, str]) -> bool:
    """Tell whether the root directory here is not the host's."""
    return "KUBERNETES_SERVICE_HOST" in environ or any(Path(mark).exists() for mark in _MARKS)


class _Facts:
    """All readers, by what they tell of."""

    def __init__(self, subject: Subject) -> None:
        seen = subject.host_root is not None or not in_container(os.environ)
        root = subject.host_root or Path("/")
        proc = subject.proc
        host_proc = root / "proc" if (root / "proc/self").exists() else proc
        self.readers: list[Reader[Any]] = []
        self.families = families_of_host(proc)
        self.process = self._add(Reader("this process", read_process))
        self.host_nft = self._add(
            Reader("the host's nft", partial(read_host_nft, root, seen=seen), TRIAL_S)
        )
        self.trial = self._add(Reader("nfproxy's program", self._try, 2 * TRIAL_S))
        self.ruleset = self._add(Reader("the ruleset", partial(read_ruleset, proc)))
        self.listing = self._add(Reader("others' tables", self._list, _LISTING_S))
        self.links = self._add(Reader("interfaces", read_links))
        self.processes = self._add(Reader("processes", partial(read_processes, host_proc)))
        self.kube_proxy = self._add(Reader("kube-proxy", partial(read_running, host_proc)))
        self.leftovers = self._add(Reader("kube-proxy's leftovers", read_leftovers, _LEFTOVERS_S))
        self.files = self._add(
            Reader("the host's files", partial(read_host_files, Root(root), seen=seen))
        )
        self.sysctls = self._add(Reader("sysctls", partial(read_sysctls, proc)))
        self.routes = self._add(Reader("routes", partial(read_default_routes, proc)))
        self.conntrack = self._add(Reader("conntrack", partial(read_conntrack, proc)))
        self.ports = self._add(Reader("ports", partial(read_ports, subject.config)))
        self.memory = self._add(Reader("memory", partial(read_memory, proc, Path("/sys"))))
        self.api = self._add(
            Reader("the API server", partial(read_api, subject.question), 2 * API_S)
        )

    def _add(self, reader: Reader[Any]) -> Reader[Any]:
        self.readers.append(reader)
        return reader

    def _try(self) -> Trial:
        nft: HostNft = self.host_nft.facts_or(HostNft())
        return read_trial(self.families, () if nft.trouble else nft.command)

    def _list(self) -> object:
        planner = sample()
        text = script(planner.desired, planner.config.program, self.families)
        return read_listing(text, len(self.ruleset.facts().chains))

    def node_families(self) -> tuple[Family, ...]:
        """Return the families of the Node, nothing where it is not known."""
        api = self.api.facts_or(None)
        return tuple(judge_api.node_families(api.node)) if api else ()


def _checks(subject: Subject, facts: _Facts) -> Iterator[Check]:
    """Yield all checks, in the order of the report."""
    yield Check("configuration", partial(_configuration, subject))
    yield Check("privileges", lambda: kernel.privileges(facts.process.facts()))
    yield Check("kernel", lambda: kernel.version(platform.release(), facts.trial.facts_or(None)))
    yield Check("program", lambda: kernel.program(facts.trial.facts(), facts.families))
    yield Check("families", lambda: kernel.families(facts.families, facts.node_families()))
    yield from _nft_checks(facts)
    yield from _proxy_checks(facts)
    yield from _network_checks(subject, facts)
    yield Check(
        "listen",
        lambda: process.ports(facts.ports.facts(), hard_fail=subject.config.bind_address_hard_fail),
    )
    yield Check("memory", lambda: _memory(facts))
    yield Check("api-server", lambda: judge_api.servers(facts.api.facts()))
    yield Check("access", lambda: judge_api.access(facts.api.facts().attempts))
    yield Check("node", lambda: _node(subject, facts))


def _nft_checks(facts: _Facts) -> Iterator[Check]:
    yield Check("libnftables", lambda: kernel.library(facts.trial.facts()))
    yield Check("others-tables", lambda: kernel.reads_others(facts.listing.facts()))
    yield Check(
        "host-nft", lambda: kernel.read_by_host(facts.host_nft.facts(), facts.trial.facts())
    )


def _proxy_checks(facts: _Facts) -> Iterator[Check]:
    yield Check("own-tables", lambda: proxies.own(facts.ruleset.facts()))
    yield Check(
        "kube-proxy",
        lambda: proxies.kube_proxy(
            facts.kube_proxy.facts(),
            facts.leftovers.facts_or(None),
            facts.ports.facts(),
        ),
    )
    yield Check(
        "other-proxies",
        lambda: proxies.others(facts.links.facts(), facts.files.facts()),
    )
    yield Check(
        "node-local-dns",
        lambda: proxies.node_local_dns(facts.links.facts(), facts.listing.facts_or(Listing())),
    )
    yield Check("ruleset-flush", lambda: firewalls.reload(facts.files.facts()))
    yield Check(
        "firewalld",
        lambda: firewalls.firewalld(
            facts.files.facts(), facts.processes.facts(), facts.ruleset.facts()
        ),
    )
    yield Check("forward-policy", lambda: firewalls.forwarding_policy(facts.ruleset.facts()))


def _network_checks(subject: Subject, facts: _Facts) -> Iterator[Check]:
    yield Check(
        "forwarding",
        lambda: sysctls.forwarding(facts.sysctls.facts(), facts.families, facts.node_families()),
    )
    yield Check(
        "reverse-path", lambda: sysctls.reverse_path(facts.sysctls.facts(), facts.routes.facts())
    )
    yield Check(
        "bridges",
        lambda: sysctls.bridges(facts.links.facts(), facts.sysctls.facts(), facts.families),
    )
    wanted = wanted_sysctls(subject.config.conntrack, cpu_count())
    most = next((sysctl.value for sysctl in wanted if sysctl.name == "max"), None)
    yield Check("conntrack", lambda: sysctls.conntrack(facts.conntrack.facts(), most))
    yield Check(
        "node-ports", lambda: sysctls.ephemeral_ports(facts.sysctls.facts(), subject.node_ports)
    )


def _configuration(subject: Subject) -> Iterable[Verdict]:
    """Say what is wrong with flags and file; the rest is examined with defaults then."""
    if subject.trouble:
        return [fail(subject.trouble, "correct it; what follows was examined with defaults")]
    return [
        warn(text, "change the configuration, or leave it: `nfproxy run` says the same")
        for text in subject.warnings
    ] or [ok("the configuration can be used")]


def _memory(facts: _Facts) -> Verdict:
    api = facts.api.facts_or(None)
    services, slices = (api.services, api.slices) if api else (None, None)
    return process.memory(facts.memory.facts(), services, slices)


def _node(subject: Subject, facts: _Facts) -> list[Verdict]:
    api = facts.api.facts()
    try:
        _, warnings = node_config(subject.config, subject.node_name, api.node)
    except ConfigError as error:
        text, _, remedy = str(error).partition("; ")
        return [fail(text, remedy)]
    told = warnings if api.node is not None else ()
    return judge_api.node(api, subject.node_name, told)
