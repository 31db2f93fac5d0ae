"""
Hypothesis strategies: clusters small enough that everything collides, and what happens to them.

Names, addresses and ports come from pools of two to four, so Services claim each other's
frontends, endpoints sit in several slices, slices change their Service, and shapes are shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from nfproxy.model.addresses import FAMILIES, Family, Prefix, collapse, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import Endpoint, EndpointSlice, SlicePort
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort
from nfproxy.reconcile.chainuses import IDLE_S

Object = Service | EndpointSlice | ServiceCIDR

NODE = "node-1"
NAMESPACE = "ns"
SERVICE_NAMES = ("alpha", "beta")
SLICE_NAMES = ("one", "two", "three", "four")
CLUSTER_IPS = {
    Family.IPV4: tuple(parse_address(f"10.96.0.{i}") for i in (1, 2, 3)),
    Family.IPV6: tuple(parse_address(f"fd00:96::{i}") for i in (1, 2, 3)),
}
OUTSIDE_IPS = tuple(map(parse_address, ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")))
POD_IPS = {
    Family.IPV4: tuple(parse_address(f"10.244.1.{i}") for i in (1, 2, 3, 4)),
    Family.IPV6: tuple(parse_address(f"fd00:244::{i}") for i in (1, 2, 3, 4)),
}
RANGES = tuple(
    parse_prefix(text)
    for text in (
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.2.0.0/16",
        "128.0.0.0/1",
        "203.0.113.7/32",
        "fd00::/16",
        "fd00:1::/32",
        "8000::/1",
    )
)
CIDRS = tuple(
    parse_prefix(text)
    for text in (
        "10.96.0.0/16",
        "10.96.0.0/24",
        "10.97.0.0/16",
        "fd00:96::/112",
        "fd00:96::1:0/112",
    )
)

# A port and its endpoints meet by name and protocol; few combinations, so that they do.
_named = st.sampled_from(
    [
        ("", Protocol.TCP),
        ("", Protocol.TCP),
        ("a", Protocol.TCP),
        ("b", Protocol.UDP),
        ("c", Protocol.SCTP),
    ]
)
_rarely = st.sampled_from([False, False, False, True])


def _some(pool: Sequence[Any], most: int) -> SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(pool), unique=True, max_size=most).map(tuple)


service_names = st.sampled_from(SERVICE_NAMES).map(lambda name: ObjectName(NAMESPACE, name))
slice_names = st.sampled_from(SLICE_NAMES).map(lambda name: ObjectName(NAMESPACE, name))


def _service_port(named: tuple[str, Protocol], port: int, node_port: int) -> ServicePort:
    return ServicePort(*named, port, node_port)


service_ports = st.builds(
    _service_port,
    _named,
    st.sampled_from([80, 443]),
    st.sampled_from([0, 0, 30001, 30002]),
)
cluster_ips = (
    st.fixed_dictionaries(
        {}, optional={family: st.sampled_from(CLUSTER_IPS[family]) for family in FAMILIES}
    )
    .filter(bool)
    .map(lambda found: tuple(found.values()))
)
_BOTH = tuple(CLUSTER_IPS[family][0] for family in FAMILIES)
services = st.builds(
    Service,
    name=service_names,
    created=st.sampled_from(["", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
    cluster_ips=st.one_of(st.just(_BOTH), cluster_ips),
    ports=st.lists(service_ports, min_size=1, max_size=3, unique_by=lambda p: p.name).map(tuple),
    external_ips=_some((*OUTSIDE_IPS, CLUSTER_IPS[Family.IPV4][0]), 2),
    load_balancer_ips=_some(OUTSIDE_IPS, 2),
    source_ranges=st.one_of(st.just(()), _some(RANGES, 3)).map(
        lambda ranges: tuple(
            p for f in FAMILIES for p in collapse([r for r in ranges if r.family is f])
        )
    ),
    affinity_timeout_s=st.sampled_from([None, None, 30, 10800]),
    internal_local=_rarely,
    external_local=st.booleans(),
    health_check_node_port=st.just(0),
)

_hints = st.sampled_from([(), (), ("here",), ("there",), ("here", "there")])


def _endpoints(family: Family) -> SearchStrategy[Endpoint]:
    return st.builds(
        Endpoint,
        address=st.sampled_from(POD_IPS[family]),
        ready=st.sampled_from([True, True, True, True, False]),
        serving=st.booleans(),
        terminating=_rarely,
        node=st.sampled_from([None, NODE, NODE, "node-2"]),
        zone_hints=_hints,
        node_hints=_hints.map(
            lambda names: tuple({"here": NODE, "there": "node-2"}[name] for name in names)
        ),
    )


_ALL_PORTS = tuple(
    SlicePort(name, protocol, 8080)
    for name, protocol in (
        ("", Protocol.TCP),
        ("a", Protocol.TCP),
        ("b", Protocol.UDP),
        ("c", Protocol.SCTP),
    )
)
_MANY_PORTS = (*_ALL_PORTS, *(SlicePort(p.name, p.protocol, 8443) for p in _ALL_PORTS))


def _slices(family: Family) -> SearchStrategy[EndpointSlice]:
    return st.builds(
        EndpointSlice.of,
        name=slice_names,
        service=service_names,
        family=st.just(family),
        ports=st.one_of(st.just(_ALL_PORTS), st.just(_ALL_PORTS), _some(_MANY_PORTS, 3)),
        endpoints=st.lists(_endpoints(family), min_size=1, max_size=5).map(tuple),
    )


slices = st.sampled_from(FAMILIES).flatmap(_slices)
service_cidrs = st.builds(
    ServiceCIDR, name=st.sampled_from(["kubernetes", "more"]), cidrs=_some(CIDRS, 3)
)
objects: SearchStrategy[Object] = st.one_of(services, slices, slices, service_cidrs)


def _prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(parse_prefix, texts))


configs = st.builds(
    NodeConfig,
    node_name=st.just(NODE),
    zone=st.sampled_from(["", "here", "there"]),
    node_ips=st.sampled_from(
        [{}, {Family.IPV4: parse_address("10.1.0.1"), Family.IPV6: parse_address("fd00:1::1")}]
    ),
    local_pods=st.sampled_from(
        [
            LocalPods(),
            LocalPods(prefixes={Family.IPV4: parse_prefix("10.244.1.0/24")}),
            LocalPods(bridge="cni0"),
            LocalPods(interface_prefix="veth"),
        ]
    ),
    masquerade_all=_rarely,
    masquerade_mark=st.sampled_from([0x4000, 0x2]),
    external_ips=st.sampled_from([True, True, False]),
    node_port_prefixes=st.sampled_from(
        [
            {},
            {Family.IPV4: _prefixes("10.1.0.1/32"), Family.IPV6: None},
            {Family.IPV4: _prefixes("10.0.0.0/8", "192.0.2.0/24"), Family.IPV6: ()},
        ]
    ),
)


@dataclass(frozen=True)
class Put:
    """Objects appear or change, in one batch."""

    objects: tuple[Object, ...]


@dataclass(frozen=True)
class Remove:
    """Objects go away, if they are there, in one batch."""

    services: tuple[ObjectName, ...] = ()
    slices: tuple[ObjectName, ...] = ()
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rescale:
    """A Service's first slice keeps only some endpoints, or gets all there are."""

    slice: ObjectName
    keep: int


@dataclass(frozen=True)
class Reconfigure:
    """The node's configuration changes."""

    config: NodeConfig


@dataclass(frozen=True)
class Restart:
    """The process ends, and another takes over."""


@dataclass(frozen=True)
class Sync:
    """A synchronisation though nothing changed; catches up after a failure."""


@dataclass(frozen=True)
class Tidy:
    """What is due is removed."""


@dataclass(frozen=True)
class Wait:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Fail:
    """The coming calls of the dataplane fail in these ways; see FlakyKernel."""

    faults: tuple[str, ...]


@dataclass(frozen=True)
class Connect:
    """A client begins a connection to a sticky service port; `pick` chooses which."""

    pick: int


Step = Put | Remove | Rescale | Reconfigure | Restart | Sync | Tidy | Wait | Fail | Connect

puts = st.lists(objects, min_size=1, max_size=4).map(lambda given: Put(tuple(given)))
settlements = st.lists(objects, min_size=6, max_size=12).map(lambda given: Put(tuple(given)))
removes = st.builds(
    Remove,
    services=st.lists(service_names, max_size=2).map(tuple),
    slices=st.lists(slice_names, max_size=2).map(tuple),
    cidrs=_some(["kubernetes", "more"], 1),
)
rescales = st.builds(Rescale, slice=slice_names, keep=st.integers(0, 4))
waits = st.builds(Wait, seconds=st.sampled_from([0.001, 0.05, 0.2, IDLE_S + 10.0]))
faults = st.builds(
    Fail, faults=st.lists(st.sampled_from(["", "", "before", "after"]), max_size=6).map(tuple)
)
connects = st.builds(Connect, pick=st.integers(0, 1000))

calm_steps: SearchStrategy[Step] = st.one_of(
    puts, puts, removes, rescales, rescales, waits, st.just(Tidy())
)
wild_steps: SearchStrategy[Step] = st.one_of(
    calm_steps,
    calm_steps,
    calm_steps,
    st.builds(Reconfigure, config=configs),
    st.just(Restart()),
    st.just(Sync()),
    faults,
    connects,
)


def _from_a_settlement(steps: SearchStrategy[Step]) -> SearchStrategy[list[Step]]:
    return st.builds(
        lambda first, rest: [first, *rest], settlements, st.lists(steps, min_size=4, max_size=25)
    )


calm_histories = _from_a_settlement(calm_steps)
wild_histories = _from_a_settlement(wild_steps)


def populations() -> SearchStrategy["Population"]:
    """Return whole clusters: up to three Services with their slices."""
    return st.lists(objects, min_size=4, max_size=14).map(lambda given: Population().put(given))


@dataclass(frozen=True)
class Population:
    """The objects of a cluster at one moment."""

    services: dict[ObjectName, Service] = field(default_factory=dict)
    slices: dict[ObjectName, EndpointSlice] = field(default_factory=dict)
    cidrs: dict[str, ServiceCIDR] = field(default_factory=dict)

    def put(self, given: Sequence[Object]) -> "Population":
        """Return the cluster with more or changed objects."""
        return Population(
            {**self.services, **{o.name: o for o in given if isinstance(o, Service)}},
            {**self.slices, **{o.name: o for o in given if isinstance(o, EndpointSlice)}},
            {**self.cidrs, **{o.name: o for o in given if isinstance(o, ServiceCIDR)}},
        )

    def remove(self, gone: Remove) -> "Population":
        """Return the cluster without some objects."""
        return Population(
            {name: o for name, o in self.services.items() if name not in gone.services},
            {name: o for name, o in self.slices.items() if name not in gone.slices},
            {name: o for name, o in self.cidrs.items() if name not in gone.cidrs},
        )

    def rescale(self, step: Rescale) -> "Population":
        """Return the cluster with another number of endpoints in one slice."""
        old = self.slices.get(step.slice)
        if old is None:
            return self
        whole = tuple(Endpoint(address, node=NODE) for address in POD_IPS[old.family])
        kept = (old.endpoints + whole)[: step.keep]
        new = EndpointSlice.of(old.name, old.service, old.family, old.ports, kept)
        return replace(self, slices={**self.slices, old.name: new})

    def after(self, step: Step) -> "Population":
        """Return the cluster after a step."""
        match step:
            case Put(objects):
                return self.put(objects)
            case Remove():
                return self.remove(step)
            case Rescale():
                return self.rescale(step)
        return self

    def all(self) -> tuple[Object, ...]:
        """Return every object."""
        return (*self.services.values(), *self.slices.values(), *self.cidrs.values())

    def since(self, old: "Population") -> Changes:
        """Return what a source would report after `old`."""
        return Changes(
            services=_difference(old.services, self.services),
            slices=_difference(old.slices, self.slices),
            service_cidrs=_difference(old.cidrs, self.cidrs),
        )


def _difference(old: dict[Any, Any], new: dict[Any, Any]) -> dict[Any, Any]:
    """Return the new value of each key that differs, None where it is gone."""
    return {
        key: new.get(key)
        for key in [*old, *(k for k in new if k not in old)]
        if old.get(key) != new.get(key)
    }
