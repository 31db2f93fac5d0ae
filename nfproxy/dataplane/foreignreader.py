"""
What rules of other programs do with packets of a Service, on this node.

Sample packets are followed through the chains of nf_tables and of iptables-legacy. ``nfproxy
trace`` knows what depends on the rest of a packet.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import NamedTuple

import msgspec

from nfproxy.dataplane.foreignrules import RuleReader
from nfproxy.dataplane.foreignwalk import ForeignChains, ReadRule
from nfproxy.dataplane.legacyrules import legacy_chains
from nfproxy.dataplane.samplepackets import SamplePacket
from nfproxy.errors import DataplaneError
from nfproxy.insight.nodefacts import Certainty, ForeignRule, PacketStage, RuleEffect
from nfproxy.netlink.nftables import FAMILY_WORDS, ChainRow
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import DROP, OUR_TABLES
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKey

_INET, _NETDEV, _BRIDGE = 1, 5, 7  # NFPROTO_…

#: nfproxy translates destinations at this priority, and sources at the other.
_DSTNAT, _SRCNAT = -100, 100
#: Connections are tracked from here on.
_TRACKED = -200

#: Tables with more chains than this, such as kube-proxy's in iptables mode, take too long.
_MOST_CHAINS = 2_000
_MOST_FOUND = 200

#: Hooks of the families ip, ip6 and inet at which packets of each stage are seen.
_FORWARDED = ("prerouting", "forward", "postrouting")
_HOOKS = {
    PacketStage.ASKED: ("prerouting",),
    PacketStage.OWN_ASKED: ("output",),
    PacketStage.OWN_SENT: ("output",),
    PacketStage.SENT: _FORWARDED,
    PacketStage.ANSWER: _FORWARDED,
    PacketStage.HEALTH: ("prerouting", "input"),
}
#: The same for endpoints that are processes of the node.
_LOCAL_HOOKS = {
    **_HOOKS,
    PacketStage.SENT: ("prerouting", "input"),
    PacketStage.ANSWER: ("output",),
}
#: Numbers of the hooks of devices (NF_NETDEV_…) and of bridges (NF_BR_…).
_DEVICE_HOOKS = {PacketStage.ASKED: (0,), PacketStage.SENT: (1,), PacketStage.ANSWER: (0, 1)}
_BRIDGE_HOOKS = {
    PacketStage.ASKED: (0, 1),
    PacketStage.SENT: (2, 3, 4),
    PacketStage.ANSWER: (0, 1, 2, 3, 4),
}


class Sample(NamedTuple):
    """A packet with what it belongs to; `clients` says in words whose, "" for anyone's."""

    packet: SamplePacket
    frontend: FrontendKey | None = None
    endpoint: Destination = b""
    health_port: int = 0
    clients: str = ""


class _Base(NamedTuple):
    """A base chain of any table; `table` in words, `family` NFPROTO_…, `devices` its interfaces."""

    family: int
    table: str
    chain: str
    hook: str
    hook_number: int
    priority: int
    is_nat: bool
    drops_rest: bool
    devices: tuple[str, ...] = ()

    @property
    def is_at_devices(self) -> bool:
        """Whether it sees the packets of single interfaces."""
        return self.family == _NETDEV or self.hook == "other"


def read_foreign_rules(netlink: NftSocket, samples: Collection[Sample]) -> tuple[ForeignRule, ...]:
    """Return what happens to some packets. Raises DataplaneError."""
    found: list[ForeignRule] = []
    families = {int(one.packet.family) for one in samples}
    by_table: dict[tuple[int, str], list[ChainRow]] = {}
    for row in netlink.chains():
        if row.family in (*families, _INET, _NETDEV, _BRIDGE) and row.table not in OUR_TABLES:
            by_table.setdefault((row.family, row.table), []).append(row)
    off = {(one.family, one.name) for one in netlink.tables() if one.is_dormant}
    for (family, table), rows in sorted(by_table.items(), key=lambda item: item[0]):
        bases = [base for row in rows if (base := _base_of(row)) is not None]
        if not bases or len(rows) > _MOST_CHAINS or (family, table) in off:
            continue
        try:
            chains = _nft_chains(netlink, family, table)
            for base in bases:
                found += _follow(chains, base, samples)
        except DataplaneError:  # the table has gone meanwhile
            continue
    for one, (family, chain, hook, priority, drops_rest) in legacy_chains(families):
        table = f"{FAMILY_WORDS[family]} {one.table} (iptables-legacy)"
        base = _Base(family, table, chain, hook, 0, priority, one.table == "nat", drops_rest)
        found += _follow(one.chains, base, samples)
    return _joined(found)


def _base_of(row: ChainRow) -> _Base | None:
    if row.hook is None:
        return None
    return _Base(
        row.family,
        f"{FAMILY_WORDS.get(row.family, str(row.family))} {row.table}",
        row.name,
        row.ip_hook,
        row.hook.number,
        row.hook.priority,
        row.hook.type == "nat",
        row.policy == DROP.code,
        row.hook.devices,
    )


def _nft_chains(netlink: NftSocket, family: int, table: str) -> ForeignChains:
    """Return the chains of a table of nf_tables; rules are read when a packet comes to them."""
    sets = netlink.sets(family, table, with_anonymous=True)
    lengths = {row.name: row.key_length for row in sets}
    reader = RuleReader(netlink, family, table, lengths)

    def rules_of(chain: str) -> list[ReadRule]:
        return [reader.read(rule) for rule in netlink.rules(family, table, chain)]

    return ForeignChains(rules_of)


def _follow(
    chains: ForeignChains, base: _Base, samples: Collection[Sample]
) -> Iterator[ForeignRule]:
    quiet: set[object] = set()
    for one in itertools.chain.from_iterable(_at_devices(base, one) for one in samples):
        about = (one.packet.stage, one.frontend, one.endpoint, one.health_port)
        # Nothing happens to some clients' packets where nothing may happen to any client's.
        if about in quiet or not _is_met(base, one.packet):
            continue
        if not one.clients:
            quiet.add(about)
        is_everywhere = base.family != _BRIDGE and (
            not base.is_at_devices or _device(one.packet) in base.devices
        )
        for hit in chains.walk(
            base.chain,
            one.packet,
            is_tracked=base.priority > _TRACKED,
            drops_rest=base.drops_rest,
        ):
            if not _counts(hit.effect, one.packet.stage):
                continue
            quiet.discard(about)
            rule = hit.rule
            yield ForeignRule(
                effect=hit.effect,
                stage=one.packet.stage,
                table=base.table,
                chain=rule.chain if rule else base.chain,
                frontend=one.frontend,
                endpoint=one.endpoint,
                health_port=one.health_port,
                clients=one.clients,
                handle=rule.handle if rule else 0,
                packets=rule.packets if rule else None,
                comment=rule.comment if rule else "",
                is_sure=hit.certainty is Certainty.SURE and is_everywhere,
                is_some=hit.certainty is Certainty.SOME and is_everywhere,
                is_named=hit.is_named,
                is_policy=rule is None,
                is_here=bool(one.frontend and one.frontend.address and one.packet.is_to_node),
            )


def _at_devices(base: _Base, sample: Sample) -> Iterator[Sample]:
    """Yield a sample, or where interfaces have a chain of their own, one for each way in."""
    packet = sample.packet
    if not base.is_at_devices or packet.came_by is not None or not packet.ways_in:
        yield sample
        return
    for link in packet.ways_in:
        came = msgspec.structs.replace(packet, came_by=link)
        yield sample._replace(packet=came, clients=f"clients at interface {link.name}")


def _device(packet: SamplePacket) -> str:
    """Return the interface at which chains of interfaces see a packet, "" where unknown."""
    link = packet.leaves_by if packet.stage is PacketStage.SENT else packet.came_by
    return link.name if link is not None else ""


def _is_met(base: _Base, packet: SamplePacket) -> bool:
    """Return whether a packet comes to a base chain at its stage."""
    if base.is_at_devices:
        is_here = _device(packet) in ("", *base.devices)
        return is_here and base.hook_number % 5 in _DEVICE_HOOKS.get(packet.stage, ())
    if base.family == _BRIDGE:
        return base.hook_number in _BRIDGE_HOOKS.get(packet.stage, ())
    hooks = _LOCAL_HOOKS if packet.is_local else _HOOKS
    if base.family not in (_INET, packet.family) or base.hook not in hooks[packet.stage]:
        return False
    is_before = base.priority <= _DSTNAT
    if packet.stage in (PacketStage.ASKED, PacketStage.OWN_ASKED):
        return is_before
    if base.is_nat:
        # Only the first chain that translates a connection counts.
        is_source = packet.stage is PacketStage.SENT and base.hook == "postrouting"
        return is_source and base.priority <= _SRCNAT
    is_any = packet.stage in (PacketStage.ANSWER, PacketStage.HEALTH)
    return is_any or base.hook not in ("prerouting", "output") or not is_before


def _counts(effect: RuleEffect, stage: PacketStage) -> bool:
    """Return whether an effect matters at a stage."""
    if effect is RuleEffect.TRANSLATED:
        return stage in (PacketStage.ASKED, PacketStage.OWN_ASKED)
    if effect is RuleEffect.SOURCE:
        return stage is PacketStage.SENT
    if effect in (RuleEffect.NOT_TRACKED, RuleEffect.ZONE):
        return stage not in (PacketStage.SENT, PacketStage.OWN_SENT, PacketStage.HEALTH)
    return True


def _joined(found: Collection[ForeignRule]) -> tuple[ForeignRule, ...]:
    """Return each rule once for what it concerns: the surest, and for all clients if it is."""
    best: dict[object, ForeignRule] = {}
    for one in found:
        key = (one.place, one.effect, one.stage, one.frontend, one.endpoint, one.health_port)
        known = best.get(key)
        if known is None:
            best[key] = one
        elif one.is_sure and known.is_sure:
            best[key] = msgspec.structs.replace(known, clients="")
        elif _rank(one) > _rank(known):
            best[key] = one
    return tuple(best.values())[:_MOST_FOUND]


def _rank(rule: ForeignRule) -> tuple[bool, bool, bool]:
    return rule.is_sure, rule.is_some, rule.is_named
