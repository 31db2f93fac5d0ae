"""
A Service on a node of the lab, reached in every way there is.

nfproxy programs node-1. The Service ``web`` has one port over each protocol, all of one
number, and every kind of frontend in both families. Its endpoints are as a rule `local`,
a pod of node-1, and `remote`, one of node-2. Four sources ask, all through node-1:

    pod       another pod of node-1
    node      a process on node-1, from an address that masquerading would not choose
    outside   the client
    far pod   a pod of node-3, whose packets come to node-1 as it sent them

What became of them is said in words, so that a test compares tables::

    scene.program(scene.web(), *scene.slices())
    expected = table(pod=("both", "both masqueraded"), outside=…)
    assert expected == scene.reached(expected, Family.IPV4, Protocol.TCP)

``both``, ``local`` or ``remote`` answered and saw who asked; ``masqueraded``: it saw the
node instead; ``dropped`` and ``refused`` as in `support.packets.sending`.
"""

import contextlib
from collections.abc import Iterable, Iterator

import msgspec
from support.kernel.nodeproxy import NodeProxy
from support.objects.model import endpoint, endpoint_slice
from support.packets.sending import Outcome, Probe, probe_many
from support.responders import Responders

from nfproxy.model.addresses import FAMILIES, Family, Prefix, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import EndpointSlice, SlicePort
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort
from nfproxy.plan.frontends import FrontendKind
from nfproxy.tools.lab import Addresses, Cluster, Host, Pod

CLUSTER_IP = Addresses("10.96.0.1", "fd00:10:96::1")
LOAD_BALANCER_IP = Addresses("198.51.100.2", "2001:db8:1::2")
EXTERNAL_IP = Addresses("198.51.100.3", "2001:db8:1::3")
#: A further address of node-1 that is not its node IP.
SECOND_IP = Addresses("192.168.77.61", "fd77::61")
#: Addresses routed to node-1 that no host has to begin with.
VIRTUAL_CIDRS = Addresses("198.51.100.0/24", "2001:db8:1::/64")

PORT = 80
NODE_PORT = 30080
TARGET_PORT = 8080

#: How often a frontend is asked at a time, and how many times at most. That one of two
#: endpoints is drawn in none of them has a chance of 1 to 10^19.
DRAWS = 8
ROUNDS = 8

EXTERNAL_KINDS = (FrontendKind.NODE_PORT, FrontendKind.LOAD_BALANCER_IP, FrontendKind.EXTERNAL_IP)


#: Words that say two answers.
BOTH = {
    "both": ("local", "remote"),
    "both masqueraded": ("local masqueraded", "remote masqueraded"),
}

#: From source and kind of frontend to what became of the packets, in words.
Table = dict[tuple[str, FrontendKind], str]


def both_families(*texts: str) -> dict[Family, Prefix]:
    """Return prefixes written as text by family."""
    prefixes = map(parse_prefix, texts)
    return {prefix.family: prefix for prefix in prefixes}


#: The ranges of node-1's pods, as its Node object has them.
OWN_PODS = {f: (p,) for f, p in both_families("10.244.1.0/24", "fd00:10:244:1::/64").items()}
CLUSTER_CIDR = LocalPods(prefixes=both_families("10.244.0.0/16", "fd00:10:244::/48"), own=OWN_PODS)
NO_DETECTOR = LocalPods()

NODE_IPS = {
    Family.IPV4: parse_address("192.168.77.11"),
    Family.IPV6: parse_address("fd77::11"),
}

#: As with ``nodePortAddresses: [primary]`` and ``detectLocalMode: ClusterCIDR``.
CONFIG = NodeConfig(
    node_name="node-1",
    node_ips=NODE_IPS,
    local_pods=CLUSTER_CIDR,
    node_port_prefixes={f: (Prefix(a, len(a) * 8),) for f, a in NODE_IPS.items()},
)


def table(**rows: tuple[str, str]) -> Table:
    """
    Return a table, given for each source what its cluster IP and all other frontends do.

    ``far_pod`` stands for "far pod".
    """
    made: Table = {}
    for source, (internal, external) in rows.items():
        name = source.replace("_", " ")
        made[name, FrontendKind.CLUSTER_IP] = internal
        made.update({(name, kind): external for kind in EXTERNAL_KINDS})
    return made


def words(text: str) -> tuple[str, ...]:
    """Return the single answers that a text of a table stands for, sorted."""
    return BOTH.get(text) or tuple(text.split(", "))


class Scene:
    """
    A cluster of three nodes in which all hosts answer on `TARGET_PORT`.

    `program` may be called any number of times; nothing of an earlier call remains.
    """

    def __init__(self, cluster: Cluster, responders: Responders, local: Pod) -> None:
        self.cluster = cluster
        self.responders = responders
        self.node = cluster.nodes[0]
        self.local = local
        self.remote = cluster.pod(2, 1)
        self.sources: dict[str, Host] = {
            "pod": cluster.pod(1, 2),
            "node": self.node,
            "outside": cluster.client,
            "far pod": cluster.pod(3, 1),
        }
        for address, length in zip(SECOND_IP, (24, 64), strict=True):
            self.node.add_address(f"{address}/{length}", as_source=False)
        for host in cluster.hosts:
            for protocol in Protocol:
                responders.listen(host, TARGET_PORT, protocol)
        self._route_through_first_node()
        self._objects: dict[ObjectName, Service | EndpointSlice] = {}
        self.proxy = NodeProxy(self.node, CONFIG)

    def close(self) -> None:
        """Remove the rules."""
        self.proxy.close()

    def _route_through_first_node(self) -> None:
        """
        Send what the far pod asks of services, and answers to it and the client, by node-1.

        The answers of pods elsewhere would go straight there otherwise, past the node that
        has to translate them back; a source that is not masqueraded looks the same
        as one that is dropped.
        """
        second, third = self.cluster.nodes[1:3]
        far = self.sources["far pod"].addresses[0]
        for family in FAMILIES:
            via = self.node.address(family)
            for destination in (far, *self.cluster.client.addresses):
                second.add_route(destination.of(family), via=via)
            third.add_route(CLUSTER_IP.of(family), via=via)
            third.add_route(VIRTUAL_CIDRS.of(family), via=via)

    def program(self, *objects: Service | EndpointSlice, config: NodeConfig = CONFIG) -> None:
        """Bring node-1 to exactly these objects and this configuration."""
        wanted = {one.name: one for one in objects if isinstance(one, Service)}
        slices = {one.name: one for one in objects if isinstance(one, EndpointSlice)}
        old_services = [n for n, one in self._objects.items() if isinstance(one, Service)]
        old_slices = [n for n, one in self._objects.items() if isinstance(one, EndpointSlice)]
        self.proxy.apply(
            Changes(
                services={**dict.fromkeys(old_services), **wanted},
                slices={**dict.fromkeys(old_slices), **slices},
            )
        )
        self._objects = {**wanted, **slices}
        if config != self.proxy.planner.config:
            self.proxy.reconfigure(config)

    def web(
        self, *, external_local: bool = False, internal_local: bool = False, name: str = "web"
    ) -> Service:
        """Return the Service with every frontend, over every protocol, in both families."""
        return Service(
            name=ObjectName("default", name),
            cluster_ips=tuple(parse_address(CLUSTER_IP.of(f)) for f in FAMILIES),
            ports=tuple(ServicePort(p.word, p, PORT, NODE_PORT) for p in Protocol),
            load_balancer_ips=tuple(map(parse_address, LOAD_BALANCER_IP)),
            external_ips=tuple(map(parse_address, EXTERNAL_IP)),
            external_local=external_local,
            internal_local=internal_local,
        )

    def slices(
        self, *hosts: Host, name: str = "web", node: str | None = ""
    ) -> tuple[EndpointSlice, ...]:
        """
        Return slices with these hosts, `local` and `remote` if none are given.

        `node` is what the endpoints say about where they are: "" the truth, None nothing.
        """
        return tuple(
            endpoint_slice(
                name,
                *(
                    endpoint(h.address(family), node_of(h) if node == "" else node)
                    for h in hosts or (self.local, self.remote)
                ),
                ports=[SlicePort(p.word, p, TARGET_PORT) for p in Protocol],
                family=family,
            )
            for family in FAMILIES
        )

    def frontend(self, kind: FrontendKind, family: Family) -> tuple[str, int]:
        """Return address and port at which the Service is reached."""
        match kind:
            case FrontendKind.CLUSTER_IP:
                return CLUSTER_IP.of(family), PORT
            case FrontendKind.LOAD_BALANCER_IP:
                return LOAD_BALANCER_IP.of(family), PORT
            case FrontendKind.EXTERNAL_IP:
                return EXTERNAL_IP.of(family), PORT
            case FrontendKind.NODE_PORT:
                return self.node.address(family), NODE_PORT

    def probe(self, source: str, family: Family, protocol: Protocol, kind: FrontendKind) -> Probe:
        """Return a probe from one of the four sources to a frontend of the Service."""
        address, port = self.frontend(kind, family)
        return self.probe_to(source, address, port, protocol)

    def probe_to(self, source: str, address: str, port: int, protocol: Protocol) -> Probe:
        """Return a probe from one of the four sources to any address and port."""
        family = Family.IPV6 if ":" in address else Family.IPV4
        bound = SECOND_IP.of(family) if source == "node" else ""
        return Probe(self.sources[source], address, port, protocol, bound)

    def reached(self, expected: Table, family: Family, protocol: Protocol) -> Table:
        """
        Ask at the rows of a table and return it as it turned out.

        Asks a few times; where it depends on the draw and one of the expected answers has
        not come yet, again, so often that it never happens by chance.
        """
        probes = {
            (source, kind): self.probe(source, family, protocol, kind) for source, kind in expected
        }
        seen: dict[tuple[str, FrontendKind], list[Outcome]] = {row: [] for row in probes}
        for _ in range(ROUNDS):
            rows = [row for row in probes if self.summary(seen[row]) != expected[row]]
            asked = [row for row in rows for _ in range(DRAWS)]
            for row, outcome in zip(asked, probe_many(probes[row] for row in asked), strict=True):
                seen[row].append(outcome)
            if any(self._words(seen[row]) - set(words(expected[row])) for row in rows):
                break
        return {row: self.summary(outcomes) for row, outcomes in seen.items()}

    @contextlib.contextmanager
    def bound(self, *addresses: str) -> Iterator[None]:
        """Give addresses to the loopback interface of node-1 for a while."""
        for address in addresses:
            self.node.add_address(address, "lo", as_source=False)
        try:
            yield
        finally:
            for address in addresses:
                self.node.remove_address(address, "lo")

    @contextlib.contextmanager
    def host_listens(self, where: Iterable[tuple[str, int]], protocol: Protocol) -> Iterator[None]:
        """Let a process of node-1 answer at addresses and ports for a while."""
        with contextlib.ExitStack() as stack:
            for address, port in where:
                responder = self.responders.listen(self.node, port, protocol, addresses=[address])
                stack.callback(responder.close)
            yield

    def ask(self, *probes: Probe, draws: int = 1) -> list[str]:
        """Send each probe `draws` times and say, in words, what became of each."""
        outcomes = probe_many(one for one in probes for _ in range(draws))
        return [self.summary(outcomes[at * draws : (at + 1) * draws]) for at in range(len(probes))]

    def summary(self, outcomes: Iterable[Outcome]) -> str:
        """Say in words what became of probes that asked the same."""
        seen = tuple(sorted(self._words(outcomes)))
        return next((text for text, both in BOTH.items() if seen == both), ", ".join(seen))

    def _words(self, outcomes: Iterable[Outcome]) -> set[str]:
        return {self._word(one) for one in outcomes}

    def _word(self, outcome: Outcome) -> str:
        if not outcome.answered:
            return outcome.verdict.value
        known = {self.local.name: "local", self.remote.name: "remote"}
        name = known.get(outcome.by, outcome.by)
        if not outcome.masqueraded:
            return name
        own = {*self.node.addresses[0], *self.node.pod_addresses(1)}
        if outcome.seen_address in own:
            return f"{name} masqueraded"
        return f"{name} saw {outcome.seen_address}"


@contextlib.contextmanager
def routed_scene() -> Iterator[Scene]:
    """Build a scene whose pods have interfaces of their own on the node, ``veth-NODE-POD``."""
    with Cluster(nodes=3) as cluster, Responders() as responders:
        scene = Scene(cluster, responders, cluster.pod(1, 1))
        yield scene
        scene.close()


@contextlib.contextmanager
def bridge_scene() -> Iterator[Scene]:
    """
    Build a scene whose pods hang on the bridge ``cni0``.

    All but `local`: as an endpoint on the same bridge it would answer past the node where
    the kernel has no br_netfilter.
    """
    with Cluster(nodes=3, pod_network="bridge") as cluster, Responders() as responders:
        cluster.pod_network = "routed"
        scene = Scene(cluster, responders, cluster.add_pod(cluster.nodes[0]))
        yield scene
        scene.close()


def node_of(host: Host) -> str:
    """Return the name of the node a pod is on; a node is on itself."""
    return host.node.name if isinstance(host, Pod) else host.name


def with_pods(pods: LocalPods, **changes: object) -> NodeConfig:
    """Return `CONFIG` with another way to recognise local pods, and other changes."""
    return msgspec.structs.replace(CONFIG, local_pods=pods, **changes)
