"""
What some packets meet of the tables that a node should have: their rules, and elements by key.

They hold only the frontends that a packet may ask for, so that their cost does not depend on the
number of Services. The evaluator reads them as any table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nfproxy.insight.expressions import Find, Held
from nfproxy.insight.packet import Packet
from nfproxy.insight.tabletext import RuleTable
from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import ProgramConfig
from nfproxy.model.service import Protocol
from nfproxy.nft import ruleset, schema
from nfproxy.nft.chains import parse_chain
from nfproxy.nft.schema import Interval, Value
from nfproxy.plan.desired import Desired
from nfproxy.plan.frontends import AffinityListKey, Frontend, FrontendKey, SharedElement
from nfproxy.reconcile.lists import NO_LIST, list_transition
from nfproxy.reconcile.transition import ABSENT, elements_of, transition

_SHARED = {
    schema.CLUSTER_IPS: Interval.NO,
    schema.LOOPBACK_REJECTS: Interval.NO,
    schema.SOURCE_RANGES: Interval.NO,
    schema.EQUAL_HASHES: Interval.NO,
    schema.SERVICE_CIDRS: Interval.ENDS,
    schema.NODE_PORT_ADDRESSES: Interval.ENDS,
}


def table_for(
    family: Family, met: Iterable[FrontendKey], desired: Desired, config: ProgramConfig
) -> RuleTable:
    """Return the table that packets to some addresses and ports, or node ports, meet."""
    frontends = [desired.frontends[key] for key in met if key in desired.frontends]
    chains = {chain.name: chain for frontend in frontends for chain in frontend.chains}
    text = ruleset.table_text(config, family)
    text += ruleset.chains_text(chains.values(), config, family)

    def chain_text(name: str) -> str:
        chain = parse_chain(name)
        return ruleset.chain_text(chain, config, family) if chain else ""

    return RuleTable(text, family, _finder(family, desired, frontends), chain_text)


def met_by(packet: Packet) -> Iterator[FrontendKey]:
    """Yield the frontends that may be at a packet's destination: by address, and by node port."""
    if packet.protocol in {*Protocol}:
        for address in (packet.destination, b""):
            yield FrontendKey(packet.family, address, Protocol(packet.protocol), packet.port)


def _finder(family: Family, desired: Desired, frontends: list[Frontend]) -> Find:
    held = dict(_elements(desired, frontends))

    def find(name: str, key: bytes) -> Held | None:
        if name not in _SHARED:
            return Held(held[name, key]) if (name, key) in held else None
        if _SHARED[name] is Interval.NO:
            return Held() if SharedElement(family, name, key) in desired.shared_elements else None
        size = family.size
        ranges = (
            one.key for one in desired.shared_elements if one.set == name and one.family is family
        )
        return Held() if any(r[:size] <= key <= r[size:] for r in ranges) else None

    return find


def _elements(
    desired: Desired, frontends: list[Frontend]
) -> Iterator[tuple[tuple[str, bytes], Value]]:
    """Yield all elements that frontends need and do not share with other Services."""
    for frontend in frontends:
        key = frontend.key
        for operation in elements_of(key, transition(key, ABSENT, frontend).state):
            yield (operation.set, operation.key), operation.value
        if frontend.list is not None and frontend.list in desired.lists:
            slots = list_transition(frontend.list, NO_LIST, desired.lists[frontend.list])
            for operation in slots.operations:
                yield (operation.set, operation.key), operation.value
        for number in _affinity_lists(frontend):
            for element in desired.affinity_lists.get(number, ()):
                yield (element.set, element.key), element.value


def _affinity_lists(frontend: Frontend) -> set[AffinityListKey]:
    return {
        AffinityListKey(frontend.key.family, one.number)
        for chain in frontend.chains
        for one in getattr(chain, "lists", ())
    }
