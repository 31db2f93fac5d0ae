"""
What the readers find, as plain values: nothing in here says whether it is good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from nfproxy.model.addresses import Prefix
from nfproxy.model.node import Node


class Process(NamedTuple):
    """
    What this process may do: its effective capabilities as a bit mask, and whether a seccomp
    filter is in place. `trouble` says why nf_tables cannot be used from here, "" where it can.
    """

    capabilities: int
    seccomp: bool
    trouble: str = ""


class HostNft(msgspec.Struct, frozen=True):
    """
    The nft command of the host.

    `command` is how it is called, () where there is none; `version` what it says of itself.
    `trouble` says why it cannot be called, or what became of it on the host's own tables.
    """

    command: tuple[str, ...] = ()
    version: str = ""
    trouble: str = ""


#: Where a trial is made; "" for nowhere.
Place = Literal["namespace", "validation", ""]


class Trial(msgspec.Struct, frozen=True):
    """
    nfproxy's program, tried.

    `place` is where: in a network namespace of its own, by validation alone, or nowhere, then
    `obstacle` says why. `refused` is what came of it, "" where it works, and `missing` names the
    features that a kernel lacks. `library` is the version of libnftables. `host_nft` is what the
    host's nft said to our tables, None where it was not asked.
    """

    place: Place
    obstacle: str = ""
    refused: str = ""
    missing: tuple[str, ...] = ()
    library: str = ""
    host_nft: str | None = None


class Chain(NamedTuple):
    """A chain of nf_tables; `hook` is "" for one that is not attached to any."""

    family: str
    table: str
    name: str
    hook: str = ""
    drops: bool = False


class Ruleset(NamedTuple):
    """
    The tables and chains in this network namespace: tables as ``ip kube-proxy``.

    `legacy` are the tables that iptables-legacy has, as ``ip nat``, `legacy_text` what
    iptables-legacy-save prints of them, None where that cannot be had.
    """

    tables: tuple[str, ...] = ()
    chains: tuple[Chain, ...] = ()
    legacy: tuple[str, ...] = ()
    legacy_text: str | None = None


class Leftovers(NamedTuple):
    """What kube-proxy has left: (where, "2 chains"); `unknown` is what could not be looked at."""

    found: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()


class Link(NamedTuple):
    """A network interface. `kind` is the kernel's word ("" for hardware); `ports` a bridge's."""

    name: str
    kind: str = ""
    addresses: tuple[str, ...] = ()
    ports: int = 0


class Listing(NamedTuple):
    """What libnftables of this process makes of the tables that are there."""

    trouble: str = ""
    notracked: tuple[str, ...] = ()  # lines of rules that leave connections untracked
    listed: bool = True


class HostFiles(NamedTuple):
    """
    Whether the host's files can be seen, and what is in those that concern us.

    `flushing` are the files that flush the whole ruleset, `reloaded` the units that are enabled
    and load them, `iptables` those that load iptables' tables. `firewalld` are its settings. `pins`
    are names below /sys/fs/bpf.
    """

    seen: bool
    flushing: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()
    iptables: tuple[str, ...] = ()
    firewalld: Mapping[str, str] = {}
    firewalld_enabled: bool = False
    pins: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()


class Processes(NamedTuple):
    """The names of processes, by number."""

    names: Mapping[int, str]


#: Sysctls below net/, by name such as ``ipv4.ip_forward``; absent where the kernel has none.
Sysctls = Mapping[str, str]


class Conntrack(NamedTuple):
    """Connection tracking: entries, the most there may be, buckets; None where not loaded."""

    entries: int | None
    most: int | None
    buckets: int | None
    writable: bool


class Port(NamedTuple):
    """An address we listen at: `trouble` is "" where that works, `holder` who answers there."""

    what: str
    address: str
    trouble: str = ""
    holder: str = ""


class Memory(NamedTuple):
    """The memory limit of this process's control group in bytes, None for none."""

    limit: int | None


class Server(NamedTuple):
    """
    One API server: as it was named, where it turned out to be, and what became of asking it.

    `code` is what it answered, 0 where nobody did; `trouble` is "" where all is well.
    """

    url: str
    host: str
    addresses: tuple[str, ...] = ()
    code: int = 0
    trouble: str = ""


class Attempt(NamedTuple):
    """A request that nfproxy will make: what came of it. `code` 0 and no trouble is success."""

    verb: str
    resource: str
    group: str
    code: int = 0
    trouble: str = ""
    optional: bool = False


class Api(NamedTuple):
    """
    What the API servers told.

    `credentials` says where ours are from, `borrowed` that they are kubectl's and not the
    daemon's. `node` is None where there is no such Node, `node_asked` whether that could be asked.
    `kubernetes` are the cluster IPs of Service default/kubernetes, `env_host` is what
    KUBERNETES_SERVICE_HOST says. Numbers of objects are None where they are not known.
    """

    trouble: str = ""
    servers: tuple[Server, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    credentials: str = ""
    borrowed: bool = False
    node: Node | None = None
    node_asked: bool = False
    kubernetes: tuple[bytes, ...] = ()
    service_cidrs: tuple[Prefix, ...] = ()
    env_host: str = ""
    services: int | None = None
    slices: int | None = None
