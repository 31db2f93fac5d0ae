"""
Frontends that take traffic which would otherwise go to the node, a pod or another Service.

They are programmed, as kube-proxy programs them, and reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nfproxy.model.addresses import Family, Prefix
from nfproxy.model.nodeconfig import KeptAddresses, NodeConfig
from nfproxy.model.service import ObjectName
from nfproxy.plan.claims import ClaimFinding, ClaimFindings, ClaimReason
from nfproxy.plan.frontends import Frontend, FrontendKey, FrontendKind

_OUTER = (FrontendKind.EXTERNAL_IP, FrontendKind.LOAD_BALANCER_IP)

_NodePortPrefixes = Mapping[Family, tuple[Prefix, ...] | None]


class Shadows:
    """
    Which external and load-balancer IPs in force shadow something. Keeps the findings up to date.

    A change of one frontend costs that frontend's, and a node port's those of the node's addresses.
    """

    def __init__(self, frontends: Mapping[FrontendKey, Frontend], findings: ClaimFindings) -> None:
        """Read the frontends in force from `frontends`; report into `findings`."""
        self._frontends = frontends
        self._findings = findings
        self._known: dict[FrontendKey, ClaimFinding] = {}
        self._outer: dict[bytes, set[FrontendKey]] = {}  # by address
        self._cluster_ips: dict[bytes, tuple[ObjectName, ...]] = {}  # nearly always one
        self._kept = KeptAddresses()
        self._node_ports: _NodePortPrefixes = {}

    def reconfigure(self, config: NodeConfig) -> None:
        """Take the node's addresses and ranges."""
        new = config.kept, config.node_port_prefixes
        if new == (self._kept, self._node_ports):
            return
        self._kept, self._node_ports = new
        self._look_at([key for keys in self._outer.values() for key in keys])

    def frontend_changed(self, key: FrontendKey) -> None:
        """Take the frontend that is in force at a key now, or that there is none."""
        if not key.address:
            family, _, protocol, port = key
            own = (a for a in self._kept.own_addresses if len(a) == family.size)
            self._look_at([FrontendKey(family, a, protocol, port) for a in own if a in self._outer])
            return
        frontend = self._frontends.get(key)
        if frontend is not None and frontend.kind in _OUTER:
            self._outer.setdefault(key.address, set()).add(key)
        elif key in self._outer.get(key.address, ()):
            self._outer[key.address].discard(key)
            if not self._outer[key.address]:
                del self._outer[key.address]
        elif key not in self._known:
            return
        self._look_at((key,))

    def cluster_ips_changed(
        self, service: ObjectName, old: Iterable[bytes], new: Iterable[bytes]
    ) -> None:
        """Take the cluster IPs of a Service."""
        before, after = set(old), set(new)
        for address in before - after:
            left = tuple(name for name in self._cluster_ips.pop(address) if name != service)
            if left:
                self._cluster_ips[address] = left
        for address in after - before:
            self._cluster_ips[address] = (*self._cluster_ips.get(address, ()), service)
        for address in before ^ after if self._outer else ():
            self._look_at(tuple(self._outer.get(address, ())))

    def _look_at(self, keys: Iterable[FrontendKey]) -> None:
        for key in keys:
            frontend = self._frontends.get(key)
            finding = None
            if frontend is not None and frontend.kind in _OUTER:
                finding = self._finding(key, frontend)
            self._findings.replace(key, self._known.get(key), finding)
            if finding is not None:
                self._known[key] = finding
            else:
                self._known.pop(key, None)

    def _finding(self, key: FrontendKey, frontend: Frontend) -> ClaimFinding | None:
        """Return what a frontend shadows, None for nothing."""
        service = frontend.claim.service
        what, other = "", None
        kept = self._kept
        # A load balancer's IP may be bound to an interface: that is how some of them work.
        is_balancer = frontend.kind is FrontendKind.LOAD_BALANCER_IP
        if key.address in (kept.node_addresses if is_balancer else kept.own_addresses):
            what = "is an address of this node; the Service takes what arrives there"
            other = self._node_port_of_another(key, service)
            if other is not None:
                what = (
                    "is also a node port of {other} at this node's address; it gets nothing there"
                )
        elif others := set(self._cluster_ips.get(key.address, ())) - {service}:
            what, other = "is at the cluster IP of {other}, which has no such port", min(others)
        elif any(key.address in prefix for prefix in kept.pod_prefixes):
            what = (
                "is in the range of pods' addresses; the Service takes what is sent to a pod there"
            )
        if not what:
            return None
        return ClaimFinding(ClaimReason.SHADOWS, service, frontend.kind.field, what, other)

    def _node_port_of_another(self, key: FrontendKey, service: ObjectName) -> ObjectName | None:
        """Return the Service whose node port is reached at an address of the node, if another's."""
        prefixes = self._node_ports.get(key.family)
        if prefixes is not None and not any(key.address in prefix for prefix in prefixes):
            return None
        node_port = self._frontends.get(key._replace(address=b""))
        if node_port is None or node_port.claim.service == service:
            return None
        return node_port.claim.service
