"""
What is wrong with a Service, or worth a look: a stable code, words, and where to look.

``deploy/docs/troubleshooting.md`` has a heading for each code. Alerts, tickets and tests quote
codes, never messages.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec


class Severity(enum.StrEnum):
    """How bad it is: connections fail, some may or will, or it is only worth knowing."""

    FAIL = "fail"
    WARN = "warn"
    NOTE = "note"


class Code(enum.StrEnum):
    """The stable name of a cause. `meaning` is its sentence in lists of codes."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Code:
        """Make the code `value`."""
        made = str.__new__(cls, value)
        made._value_ = value
        made.meaning = meaning
        return made

    # --- which object was asked about ---
    UNKNOWN_SERVICE = "UnknownService", "There is no Service of this name."
    UNKNOWN_PORT = "UnknownPort", "The Service exists and has no such port."
    UNALLOCATED_ADDRESS = (
        "UnallocatedAddress",
        "The address is in a range of cluster IPs, and no Service has it.",
    )
    NOT_A_SERVICE = "NotAService", "No Service answers at this address: it is a pod's, a node's …"
    HEADLESS = "Headless", "The Service has no cluster IP: clients connect to pods by DNS."
    EXTERNAL_NAME = "ExternalName", "The Service is a DNS alias, and no proxy serves it."
    PROXIED_BY_OTHER = "ProxiedByOther", "A label gives the Service to another proxy."
    INVALID_FIELD = "InvalidField", "A field of an object cannot be used and is left out."
    UNKNOWN_NODE = "UnknownNode", "There is no Node of this node's name."

    # --- endpoints ---
    NO_SLICES = "NoSlices", "No EndpointSlice belongs to the Service."
    NO_ENDPOINTS = "NoEndpoints", "EndpointSlices belong to the Service, and none has an endpoint."
    PORT_NOT_IN_SLICES = (
        "PortNotInSlices",
        "Endpoints are there, and no container port of theirs has the targetPort's name.",
    )
    PORT_NAME_DIFFERS = "PortNameDiffers", "EndpointSlices give the port another name."
    PORT_PROTOCOL_DIFFERS = "PortProtocolDiffers", "EndpointSlices give the port another protocol."
    NONE_READY = "NoneReady", "Endpoints are there, and none of them is ready."
    TERMINATING_ONLY = (
        "TerminatingOnly",
        "Only endpoints that terminate still serve, and new connections go to them.",
    )
    NO_LOCAL_EXTERNAL = (
        "NoLocalExternal",
        "externalTrafficPolicy is Local, and this node has no endpoint: outside clients are "
        "dropped here.",
    )
    NO_LOCAL_INTERNAL = (
        "NoLocalInternal",
        "internalTrafficPolicy is Local, and this node has no endpoint: clients here are dropped.",
    )
    HINTS_ELSEWHERE = (
        "HintsElsewhere",
        "Topology hints give some endpoints to other zones or nodes only.",
    )
    HINTS_IGNORED = (
        "HintsIgnored",
        "Topology hints name no endpoint for this node's zone, so all endpoints are used.",
    )
    FAMILY_NOT_SERVED = (
        "FamilyNotServed",
        "Addresses are of an IP family in which the Service has no cluster IP, or no endpoint.",
    )

    ENDPOINT_IS_SERVICE = (
        "EndpointIsService",
        "An endpoint is an address of a Service: connections to it are lost.",
    )

    # --- frontends ---
    FRONTEND_CONFLICT = "FrontendConflict", "Two Services ask for one address and port."
    FRONTEND_REFUSED = "FrontendRefused", "A Service asks for what no Service may have."
    FRONTEND_SHADOWS = (
        "FrontendShadows",
        "An address of the Service is also a node's, a pod's or another Service's.",
    )
    SERVICE_LIMITED = "ServiceLimited", "The Service has more than one Service may have."
    EXTERNAL_IPS_OFF = "ExternalIPsOff", "The configuration does not serve external IPs."
    NODE_PORT_LOOPBACK = (
        "NodePortLoopback",
        "The kernel cannot serve node ports on loopback addresses.",
    )
    NODE_PORT_OTHER_ADDRESS = (
        "NodePortOtherAddress",
        "nodePortAddresses leaves this address of the node out.",
    )
    NO_LOAD_BALANCER = (
        "NoLoadBalancer",
        "The Service asks for a load balancer, and none has given it an address.",
    )
    IP_MODE_PROXY = (
        "IPModeProxy",
        "The load balancer answers at its IP itself, and nfproxy has no part in it.",
    )
    SOURCE_RANGE = "SourceRange", "loadBalancerSourceRanges does not hold the client's address."

    # --- the node's configuration ---
    CLUSTER_CIDR_MISSES_PODS = (
        "ClusterCIDRMissesPods",
        "clusterCIDR does not hold this node's pods: they count as outside clients.",
    )
    CLUSTER_CIDR_HOLDS_NODE = (
        "ClusterCIDRHoldsNode",
        "clusterCIDR holds this node's own address: nodes count as pods.",
    )
    NO_CLUSTER_CIDR = "NoClusterCIDR", "nfproxy cannot recognise pods of this node."

    # --- on the node ---
    KERNEL_DIFFERS = "KernelDiffers", "The kernel holds something else than it should."
    NOT_PROGRAMMED = "NotProgrammed", "The kernel does not have this Service port."
    NO_NFPROXY = "NobodyRuns", "No nfproxy runs on this node."
    LAYOUT_CHANGE = (
        "LayoutChange",
        "Tables of another version's layout are being replaced, or that did not end.",
    )
    NFPROXY_SILENT = "NfproxySilent", "nfproxy runs on this node, and does not answer."
    OTHER_PROXY_RULES = (
        "OtherProxyRules",
        "Rules of kube-proxy are on this node, too, and may answer first.",
    )
    HEALTH_CHECK_PORT = (
        "HealthCheckPort",
        "The health check node port does not answer load balancers as it should.",
    )
    CONNTRACK_FULL = "ConntrackFull", "The kernel's table of connections is full, or nearly so."
    NO_ROUTE = "NoRoute", "This node has no route to an endpoint."
    POD_NOT_HERE = "PodNotHere", "An endpoint should be on this node, and its address is not."
    NO_HAIRPIN = "NoHairpin", "The bridge does not send a pod's packets back to it."
    BRIDGE_NETFILTER_OFF = (
        "BridgeNetfilterOff",
        "Bridged packets pass nftables by: answers of pods on this node keep the pod's address.",
    )
    MTU_SMALLER = "MTUSmaller", "The way to an endpoint takes smaller packets than its own network."
    UNANSWERED = "Unanswered", "Connections to an endpoint get no answer."
    ENDPOINT_REFUSES = "EndpointRefuses", "Nothing listens at an endpoint's port."
    STALE_TCP = "StaleTCP", "Open connections lead to an endpoint that left."
    AFFINITY_PINS = "AffinityPins", "Session affinity keeps most clients at few endpoints."
    NO_NEIGHBOUR = (
        "NoNeighbour",
        "No machine on the link answers for an endpoint, or for the next hop to it.",
    )
    NOT_TRACKED = (
        "NotTracked",
        "A rule of another program hides packets from connection tracking, which nfproxy needs.",
    )
    TRANSLATED_BY_OTHERS = (
        "TranslatedByOthers",
        "A rule of another program sends the packets elsewhere, before nfproxy has them.",
    )
    SOURCE_CHANGED = (
        "SourceChanged",
        "A rule of another program changes clients' addresses on the way to endpoints.",
    )
    NOT_MASQUERADED = (
        "NotMasqueraded",
        "Connections keep the client's address where this node should give them its own.",
    )
    DROPPED_BY_OTHERS = "DroppedByOthers", "A rule of another program drops the packets."
    REVERSE_PATH = (
        "ReversePath",
        "The kernel drops packets whose sender it would reach another way (rp_filter).",
    )
    NOT_FOLLOWED = (
        "NotFollowed",
        "A program at an interface (XDP, tc) may drop the packets, and is not followed.",
    )
    LOST_ON_NODE = "LostOnNode", "Packets of this Service do not leave this node."
    FORWARD_POLICY = "ForwardPolicy", "The node forwards no packets."


#: What happens to packets outside nfproxy's rules, for all clients.
ON_THE_WAY = frozenset(
    {
        *(Code.NO_ROUTE, Code.NO_NEIGHBOUR, Code.UNANSWERED, Code.ENDPOINT_REFUSES),
        *(Code.NOT_TRACKED, Code.TRANSLATED_BY_OTHERS, Code.SOURCE_CHANGED),
        *(Code.DROPPED_BY_OTHERS, Code.REVERSE_PATH, Code.LOST_ON_NODE, Code.FORWARD_POLICY),
    }
)


class ObjectField(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object, and the path of a field such as ``spec.ports[0].port``, "" for the whole."""

    kind: str
    namespace: str = ""
    name: str = ""
    field: str = ""

    def __str__(self) -> str:
        """Return ``Service shop/web: spec.ports``."""
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {name}" + (f": {self.field}" if self.field else "")


class Diagnosis(msgspec.Struct, frozen=True, rename="camel"):
    """
    One thing that is wrong or worth a look.

    `message` is one line for people, with harmless text only. `because` are facts behind it, and
    `look` commands to type or places to look at, each one line. `about` is the object at fault,
    None for none. `service` is ``namespace/name``, `port` the service port's name and `family` the
    IP family; each is "" where it concerns all or none. `brief` is the message for a table's cell.
    """

    level: Severity
    code: Code
    message: str
    because: tuple[str, ...] = ()
    look: tuple[str, ...] = ()
    about: ObjectField | None = None
    service: str = ""
    port: str = ""
    family: str = ""
    brief: str = ""


def worst(diagnoses: Iterable[Diagnosis]) -> Severity | None:
    """Return the worst level of some, None for none."""
    levels = {one.level for one in diagnoses}
    return next((level for level in Severity if level in levels), None)


def in_order(diagnoses: Iterable[Diagnosis]) -> tuple[Diagnosis, ...]:
    """Return each once, the worst first, otherwise in the order given."""
    order = list(Severity)
    return tuple(sorted(dict.fromkeys(diagnoses), key=lambda one: order.index(one.level)))


def exit_status(diagnoses: Iterable[Diagnosis], *, strict: bool) -> int:
    """Return 1 if something fails, with `strict` also for what is worth a look; else 0."""
    counted = (Severity.FAIL, Severity.WARN) if strict else (Severity.FAIL,)
    return int(any(one.level in counted for one in diagnoses))
