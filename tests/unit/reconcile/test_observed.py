"""What elements in the kernel say about frontends."""

import pytest
from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import MemoryProxy
from support.objects.model import endpoint, endpoint_slice, service

from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.nft.schema import Value
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.transition import elements_of


class Held:
    """Elements of one family that tests put together."""

    def __init__(self, *elements: tuple[str, bytes, Value]) -> None:
        self.held = elements

    def elements(self, family: Family, name: str) -> list[tuple[bytes, Value]]:
        return [(k, v) for n, k, v in self.held if n == name]


IP, TCP, PORT = parse_address("10.96.0.1"), schema.protocol_bytes(6), schema.port_bytes(80)
POD = parse_address("10.244.1.5") + schema.port_bytes(8080)
TCP_SLOTS = schema.ENDPOINTS[Protocol.TCP]


def slot(number: int) -> tuple[str, bytes, Value]:
    return TCP_SLOTS, IP + PORT + schema.number_bytes(number), POD


def test_everything_committed_is_read_back():
    """Every element belongs to a frontend or is shared; there are no strays."""
    proxy = MemoryProxy(FlakyKernel())
    proxy.put(
        service(
            cluster_ips=("10.96.0.1", "fd00:96::1"),
            node_port=30080,
            load_balancer_ips=("203.0.113.5", "2001:db8::5"),
            external_ips=("198.51.100.7",),
            source_ranges=("10.0.0.0/8", "0.0.0.0/1", "8000::/1"),
            affinity_timeout_s=30,
            external_local=True,
        ),
        endpoint_slice("web", endpoint("10.244.1.5", "node-1"), "10.244.2.6"),
        endpoint_slice("web", "fd00:244::5"),
        service("dns", cluster_ips=("10.96.0.2",), port=53, protocol=Protocol.UDP),
        endpoint_slice("dns", "10.244.1.7", protocol=Protocol.UDP),
    )
    observed = observe(proxy.kernel.elements, FAMILIES)
    kernel = {
        (family, name, key, value)
        for family in FAMILIES
        for name in schema.SCHEMAS
        for key, value in proxy.kernel.elements(family, name)
    }
    read = {tuple(o)[1:] for k, s in observed.frontends.items() for o in elements_of(k, s)}
    read |= {(*element, None) for element in observed.shared_elements}
    read |= {(k.family, *e) for k, found in observed.affinity_lists.items() for e in found}

    assert kernel == read
    assert not observed.strays
    assert observed.frontends.keys() == proxy.planner.desired.frontends.keys()


def test_slot_ranges_are_read_up_to_the_first_gap():
    """Slots after a gap are strays."""
    held = Held(*map(slot, (0, 1, 3, 32768, 32770)))
    observed = observe(held.elements, [Family.IPV4])
    (state,) = observed.frontends.values()

    assert [len(slot_range) for slot_range in state.slot_ranges] == [2, 1]
    assert sorted(schema.number_of(o.key, 8) for o in observed.strays) == [3, 32770]
    assert not any(o.add for o in observed.strays)


@pytest.mark.parametrize(
    "element",
    [
        (schema.FRONTENDS, IP + schema.protocol_bytes(136) + PORT, schema.DROP),
        (schema.NODE_PORTS, schema.protocol_bytes(1) + PORT, schema.DROP),
        (schema.STICKY_FRONTENDS, IP + schema.protocol_bytes(0) + PORT, schema.goto("x")),
        (schema.GUARDED_FRONTENDS, IP + schema.protocol_bytes(136) + PORT, schema.DROP),
    ],
    ids=lambda e: e[0],
)
def test_what_nfproxy_does_not_write_is_a_stray(element: tuple[str, bytes, Value]):
    """A protocol that Services cannot have."""
    observed = observe(Held(element).elements, [Family.IPV4])

    assert [(o.add, o.set, o.key) for o in observed.strays] == [(False, *element[:2])]
    assert not observed.frontends


def test_slots_without_a_verdict_belong_to_a_frontend():
    """They linger or are staged, and the next transition of the frontend uses or removes them."""
    observed = observe(Held(slot(0)).elements, [Family.IPV4])
    (state,) = observed.frontends.values()

    assert state.verdict is None
    assert list(state.slot_ranges[0]) == [POD]
