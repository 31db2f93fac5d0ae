"""
A small Kubernetes-like network: nodes with pods, an outside client, one switch.

::

    pod-1-1  pod-1-2      pod-2-1  pod-2-2       client
        |       |             |       |             | 192.168.77.100
        +-node-1+             +-node-2+             | fd77::100
            | .11  ::11           | .12  ::12       |
            +---------------------+-----------------+
                   underlay, 192.168.77.0/24, fd77::/64

Node i has the pod ranges 10.244.i.0/24 and fd00:10:244:i::/64. Its pod k has the addresses that end
in 10+k. The client reaches pod ranges through their nodes, and service ranges and all other
addresses outside the underlay through node-1. Packets to unknown addresses go to the underlay,
which drops them silently.

A cluster connects pods to their node in one of two ways.

*routed* (the default): each pod has a veth pair whose end on the node has its own name and a host
route, as with Calico or the ptp plugin. The node routes every packet of a pod, so translation
works between pods of one node on any kernel.

*bridge*: the veth pairs are ports of the bridge cni0, as with the bridge plugin, so packets of pods
arrive by "cni0". Pods of one node reach each other through the bridge. To translate an answer back
there, the kernel needs br_netfilter; see `bridge_netfilter`. Without it a Service fails whose
endpoint is on the client pod's node, under any proxy: the client receives an answer from an address
that it did not ask.
"""

from pathlib import Path
from typing import Literal

from nfproxy.closing import Closing
from nfproxy.model.addresses import FAMILIES
from nfproxy.tools.lab.hosts import Addresses, Host
from nfproxy.tools.lab.namespaces import Lab, Namespace

SERVICE_CIDRS = Addresses("10.96.0.0/16", "fd00:10:96::/112")
UNDERLAY_GATEWAY = Addresses("192.168.77.1", "fd77::1")
POD_GATEWAY = Addresses("169.254.1.1", "fe80::1")  # routed pods: the node's end of their cable

INTERFACE_NAME_MAX = 15  # IFNAMSIZ without the closing zero


class LabNode(Host):
    """A node: `pod_cidrs` are its pod ranges, `pods` its pods by name."""

    def __init__(self, namespace: Namespace, number: int) -> None:
        super().__init__(namespace, forwarding=True)
        self.number = number
        self.pods: dict[str, Pod] = {}
        self.pod_cidrs = Addresses(f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64")

    def pod_addresses(self, last: int) -> Addresses:
        """Return the pair of pod addresses that ends in `last`."""
        return Addresses(f"10.244.{self.number}.{last}", f"fd00:10:244:{self.number}::{last}")


class Pod(Host):
    """A pod; `interface` is the name of its veth pair's end on the node."""

    def __init__(self, namespace: Namespace, node: LabNode, interface: str) -> None:
        super().__init__(namespace)
        self.node = node
        self.interface = interface

    @property
    def hardware_address(self) -> str:
        """
        A hardware address that follows from the IPv4 address.

        So neighbours need not learn a new one when another pod takes over the IPv4 address. CNI
        plugins announce a new pod to the same end.
        """
        return "0a:58:" + ":".join(f"{int(part):02x}" for part in self.ipv4.split("."))


class Cluster(Closing):
    """
    The network above. A context manager; any thread may call it.

    A failure while it is built leaves nothing behind. The names of the pods' interfaces on their
    node begin with `pod_interface_prefix` ("veth-", "cali"). Raises MissingFeatureError where
    this process may not make namespaces.
    """

    def __init__(
        self,
        *,
        nodes: int = 2,
        pods_per_node: int = 2,
        pod_network: Literal["routed", "bridge"] = "routed",
        pod_interface_prefix: str = "veth-",
    ) -> None:
        self.pod_network = pod_network
        self._prefix = pod_interface_prefix
        self.lab = Lab()
        self.nodes: list[LabNode] = []
        try:
            self._build(nodes, pods_per_node)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove everything. Idempotent."""
        self.lab.close()

    @property
    def pods(self) -> list[Pod]:
        """All pods, node by node, oldest first."""
        return [pod for node in self.nodes for pod in node.pods.values()]

    @property
    def hosts(self) -> list[Host]:
        """Nodes, pods and the client."""
        return [*self.nodes, *self.pods, self.client]

    def host(self, name: str) -> Host:
        """Return the node, pod or client of that name. Raises LookupError."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LookupError(f"no host {name}; there are {[host.name for host in self.hosts]}")

    def pod(self, node: int, number: int) -> Pod:
        """Return pod `number` of node `node`, both counted from 1."""
        return self.nodes[node - 1].pods[f"pod-{node}-{number}"]

    def add_pod(self, node: LabNode, name: str = "") -> Pod:
        """Add a pod to `node` at the lowest free address; its default name is like the others'."""
        taken = {pod.ipv4 for pod in node.pods.values()}
        last = next(n for n in range(11, 251) if node.pod_addresses(n).ipv4 not in taken)
        name = name or f"pod-{node.number}-{last - 10}"
        if name in node.pods:
            raise ValueError(f"{node.name} has a pod {name} already")
        interface = f"{self._prefix}{node.number}-{last - 10}"[:INTERFACE_NAME_MAX]
        pod = Pod(self.lab.namespace(name), node, interface)
        pod.addresses.append(node.pod_addresses(last))
        if self.pod_network == "bridge":
            _connect_to_bridge(pod)
        else:
            _connect_by_route(pod)
        node.pods[name] = pod
        return pod

    def remove_pod(self, pod: Pod) -> None:
        """Remove a pod and end the programs in it."""
        del pod.node.pods[pod.name]
        pod.node.remove_interface(pod.interface)
        self.lab.drop(pod.namespace)

    def _build(self, nodes: int, pods_per_node: int) -> None:
        self.underlay = Host(self.lab.namespace("underlay"))
        self.underlay.addresses.append(UNDERLAY_GATEWAY)
        self.underlay.add_bridge("switch", "02:00:00:00:77:01")
        set_bridge_netfilter(self.underlay, on=False)
        for address, length in zip(UNDERLAY_GATEWAY, (24, 64), strict=True):
            self.underlay.add_address(f"{address}/{length}", "switch")
        self.underlay.add_blackhole()
        for number in range(1, nodes + 1):
            self.nodes.append(self._add_node(number))
        self.client = Host(self.lab.namespace("client"))
        self._plug_in(self.client, 100)
        self.add_client_address(101)
        self._route_between_nodes()
        self._route_from_client()
        for node in self.nodes:
            for _ in range(pods_per_node):
                self.add_pod(node)

    def add_client_address(self, last: int) -> Addresses:
        """
        Give the client another address pair, ending in `last`; it starts with 100 and 101.

        It sends from 100 by default.
        """
        return self._add_underlay_addresses(self.client, last)

    def _add_node(self, number: int) -> LabNode:
        node = LabNode(self.lab.namespace(f"node-{number}"), number)
        self._plug_in(node, 10 + number)
        node.add_route("default", via=UNDERLAY_GATEWAY.ipv4)
        node.add_route("default6", via=UNDERLAY_GATEWAY.ipv6)
        if self.pod_network == "bridge":
            node.add_bridge("cni0", f"02:00:00:00:{number:02x}:01")
            for address, length in zip(node.pod_addresses(1), (24, 64), strict=True):
                node.add_address(f"{address}/{length}", "cni0")
            set_bridge_netfilter(node, on=True)
        return node

    def _plug_in(self, host: Host, last: int) -> None:
        self.underlay.connect(host.name, host, "eth0", bridge="switch")
        self._add_underlay_addresses(host, last)

    def _add_underlay_addresses(self, host: Host, last: int) -> Addresses:
        pair = Addresses(f"192.168.77.{last}", f"fd77::{last}")
        first = not host.addresses
        host.add_address(f"{pair.ipv4}/24", as_source=first)
        host.add_address(f"{pair.ipv6}/64", as_source=first)
        host.addresses.append(pair)
        return pair

    def _route_between_nodes(self) -> None:
        for node in self.nodes:
            node.add_routes(
                (other.pod_cidrs.of(family), other.address(family), "eth0", "")
                for other in self.nodes
                if other is not node
                for family in FAMILIES
            )

    def _route_from_client(self) -> None:
        first = self.nodes[0]
        self.client.add_routes(
            (node.pod_cidrs.of(family), node.address(family), "eth0", "")
            for node in self.nodes
            for family in FAMILIES
        )
        for default, family in zip(("default", "default6"), FAMILIES, strict=True):
            self.client.add_route(SERVICE_CIDRS.of(family), via=first.address(family))
            self.client.add_route(default, via=first.address(family))


def bridge_netfilter() -> bool:
    """Return whether this kernel can show bridged packets to nftables (br_netfilter)."""
    return Path("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()


def set_bridge_netfilter(host: Host, *, on: bool) -> None:
    """Let nftables rules of `host` see bridged packets or not, where the kernel can."""
    value = "1" if on else "0"
    host.namespace.set_sysctls(
        {f"?bridge/bridge-nf-call-{name}tables": value for name in ("ip", "ip6")}
    )


def _connect_to_bridge(pod: Pod) -> None:
    pod.node.connect(
        pod.interface,
        pod,
        "eth0",
        bridge="cni0",
        hairpin=True,
        hardware_address=pod.hardware_address,
    )
    gateway = pod.node.pod_addresses(1)
    for address, length in zip(pod.addresses[0], (24, 64), strict=True):
        pod.add_address(f"{address}/{length}")
    pod.add_route("default", via=gateway.ipv4)
    pod.add_route("default6", via=gateway.ipv6)


def _connect_by_route(pod: Pod) -> None:
    node = pod.node
    node.connect(pod.interface, pod, "eth0", hardware_address=pod.hardware_address)
    for gateway in POD_GATEWAY:
        node.add_address(gateway, pod.interface, as_source=False)
    for address in pod.addresses[0]:
        pod.add_address(address)
    node.add_routes(
        (pod.address(family), "", pod.interface, node.address(family)) for family in FAMILIES
    )
    pod.add_route("default", via=POD_GATEWAY.ipv4)
    pod.add_route("default6", via=POD_GATEWAY.ipv6)
