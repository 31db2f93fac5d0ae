"""Whose an address is: a Service's, a pod's, a node's, or in whose range it lies."""

from __future__ import annotations

import msgspec

from nfproxy.insight.diagnosis import Code, Diagnosis, ObjectField, Severity
from nfproxy.insight.explanation import Conclusion
from nfproxy.insight.frontendrows import accepted_addresses
from nfproxy.insight.question import AddressQuestion
from nfproxy.insight.sight import PortSight, Sight
from nfproxy.model.addresses import (
    FAMILIES,
    Family,
    Prefix,
    family_of,
    format_address,
    parse_prefix,
)
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.nft import schema
from nfproxy.plan.frontends import FrontendKey
from nfproxy.text import shown_name

_LOOPBACK = (parse_prefix("127.0.0.0/8"), parse_prefix("::1/128"))
_TABLE = "which rules take the packet: nfproxy trace"


class Owner(msgspec.Struct, frozen=True):
    """
    What is at an address.

    One of: `frontends` in force there, a `service` that has the address and not the port (or asks
    for it without getting it: `has_frontends` is false), the `pod_ports` of Services that list the
    address as an endpoint, or none, and `cause` says what follows. `what` says it in words.
    `conclusion` is that of a connection where it is not that of a Service. `address` is the text of
    the address.
    """

    what: str = ""
    frontends: tuple[FrontendKey, ...] = ()
    service: ObjectName | None = None
    has_frontends: bool = False
    pod_ports: tuple[PortSight, ...] = ()
    cause: Diagnosis | None = None
    conclusion: Conclusion = Conclusion.UNKNOWN
    address: str = ""


def owner_of(sight: Sight, question: AddressQuestion) -> Owner:
    """Return whose an address, or a node port, is."""
    if not question.address:
        return _node_port(sight, question)
    text = format_address(question.address)
    keys = [key for key in list(sight.planner.desired.frontends) if key.address == question.address]
    at_port = tuple(key for key in keys if _fits(key, question))
    if at_port:
        return Owner(frontends=at_port, address=text)
    if keys:
        first = sight.planner.desired.frontends[min(keys)]
        is_cluster_ip = question.address in _cluster_ips(sight)
        return Owner(
            f"an address of {first.claim.service}",
            service=first.claim.service,
            has_frontends=True,
            conclusion=Conclusion.REFUSED if is_cluster_ip else Conclusion.UNKNOWN,
            address=text,
        )
    for name, service in sorted(sight.planner.services.items()):
        outer = (*service.external_ips, *service.load_balancer_ips, *service.router_ips)
        if question.address in outer and service.ports:
            return Owner(f"which {name} asks for and does not get", service=name, address=text)
    for name, details in sorted(sight.details.services.items()):
        if question.address in details.proxied_ips:
            return _at_balancer(name, text)
    if any(question.address in prefix for prefix in _LOOPBACK):
        return _loopback(sight, question)
    for node, addresses in sorted(_nodes(sight).items()):
        if question.address in addresses:
            return _at_node(sight, question, node)
    if pods := _pod_ports(sight, question):
        return Owner(_pod_words(sight, pods, question.address), pod_ports=pods, address=text)
    return _nowhere(sight, question)


def _fits(key: FrontendKey, question: AddressQuestion) -> bool:
    return question.port in (0, key.port) and question.protocol in (None, key.protocol)


def _cluster_ips(sight: Sight) -> set[bytes]:
    shared = sight.planner.desired.shared_elements
    return {element.key for element in list(shared) if element.set == schema.CLUSTER_IPS}


def _at_balancer(name: ObjectName, text: str) -> Owner:
    cause = Diagnosis(
        Severity.NOTE,
        Code.IP_MODE_PROXY,
        f"{text} is a load-balancer IP of {name} with ipMode Proxy: the load balancer answers "
        "there, and connects to node ports or pods itself",
        look=("the load balancer: its own log and health checks",),
        about=ObjectField("Service", *name, "status.loadBalancer.ingress"),
        service=str(name),
        brief="the load balancer answers",
    )
    return Owner(f"a load-balancer IP of {name}", cause=cause, address=text)


def _nodes(sight: Sight) -> dict[str, tuple[bytes, ...]]:
    """Return the addresses of each Node that was read."""
    found = {name: node.addresses for name, node in sight.details.nodes.items()}
    own = sight.config.node_name
    found[own] = (*found.get(own, ()), *sight.config.kept.node_addresses)
    return found


# --- node ports --------------------------------------------------------------------------------


def _node_ports(
    sight: Sight, question: AddressQuestion, families: tuple[Family, ...]
) -> tuple[FrontendKey, ...]:
    protocols = [question.protocol] if question.protocol else [*Protocol]
    keys = (
        FrontendKey(f, b"", protocol, question.port) for f in families for protocol in protocols
    )
    return tuple(key for key in keys if key in sight.planner.desired.frontends)


def _node_port(sight: Sight, question: AddressQuestion) -> Owner:
    """Return the Service of a node port."""
    keys = _node_ports(sight, question, FAMILIES)
    if keys:
        return Owner(frontends=keys)
    cause = Diagnosis(
        Severity.FAIL,
        Code.UNKNOWN_PORT,
        f"no Service has node port {question.port}; the node itself answers there, or refuses",
        look=(f"kubectl get services -A | grep :{question.port}/",),
        brief="no such node port",
    )
    return Owner(cause=cause)


def _loopback(sight: Sight, question: AddressQuestion) -> Owner:
    """Return what a node port at a loopback address does."""
    text, family = format_address(question.address), family_of(question.address)
    keys = _node_ports(sight, question, (family,)) if question.port else ()
    if not keys:
        cause = Diagnosis(
            Severity.NOTE,
            Code.NOT_A_SERVICE,
            f"{text} is a loopback address: only processes of this node answer there",
            brief="loopback",
        )
        return Owner("a loopback address", cause=cause, address=text)
    config = sight.config
    if all(config.proxies_on_loopback(family, key.protocol) for key in keys):
        cause = Diagnosis(
            Severity.NOTE,
            Code.NODE_PORT_LOOPBACK,
            f"nfproxy's own proxy serves node port {question.port} at {text}, not the kernel",
            look=(f"ss -ltnp 'sport = :{question.port}'",),
            brief="served in user space",
        )
        return Owner(frontends=keys, cause=cause, conclusion=Conclusion.WORKS, address=text)
    rejects = any(config.rejects_on_loopback(family, key.protocol) for key in keys)
    what = "refuses it" if rejects else "leaves it to processes of the node"
    cause = Diagnosis(
        Severity.FAIL,
        Code.NODE_PORT_LOOPBACK,
        f"the kernel cannot serve node port {question.port} at {text}, and nfproxy {what}",
        look=(
            "use an address of the node; or nodePortAddresses with 'localhost', which serves TCP",
        ),
        brief="no node ports on loopback",
    )
    conclusion = Conclusion.REFUSED if rejects else Conclusion.UNKNOWN
    return Owner(frontends=keys, cause=cause, conclusion=conclusion, address=text)


def _at_node(sight: Sight, question: AddressQuestion, node: str) -> Owner:
    """Return what is at an address of a node: one of its node ports, or the node itself."""
    text, family = format_address(question.address), family_of(question.address)
    what = f"an address of node {shown_name(node)}"
    keys = _node_ports(sight, question, (family,)) if question.port else ()
    if not keys:
        cause = Diagnosis(
            Severity.FAIL if question.port else Severity.NOTE,
            Code.NOT_A_SERVICE,
            f"{text} is {what}, and no Service has "
            + (f"node port {question.port}" if question.port else "it")
            + ": the node itself answers there",
            brief="a node's address",
        )
        return Owner(what, cause=cause, address=text)
    if node != sight.config.node_name:
        cause = Diagnosis(
            Severity.NOTE,
            Code.NOT_A_SERVICE,
            f"{text} is {what}, whose rules decide; this is what {sight.config.node_name} does",
            look=(f"nfproxy explain {question} --node {shown_name(node)}",),
            brief="another node's address",
        )
        return Owner(what, frontends=keys, cause=cause, address=text)
    if text in accepted_addresses(sight, family):
        return Owner(what, frontends=keys, address=text)
    cause = Diagnosis(
        Severity.FAIL,
        Code.NODE_PORT_OTHER_ADDRESS,
        f"node ports are not accepted at {text}: nodePortAddresses leaves it out",
        because=(f"accepted at {', '.join(accepted_addresses(sight, family)) or 'no address'}",),
        look=("nodePortAddresses of the configuration",),
        brief="no node ports at this address",
    )
    return Owner(what, frontends=keys, cause=cause, conclusion=Conclusion.UNKNOWN, address=text)


# --- pods, and addresses that are in no object -------------------------------------------------


def _pod_ports(sight: Sight, question: AddressQuestion) -> tuple[PortSight, ...]:
    """Return the service ports whose slices list an address, at the port that was asked about."""
    family = family_of(question.address)
    found = []
    for name in sorted(sight.planner.services):
        pieces = sight.planner.slices_of(name)
        if not any(e.address == question.address for piece in pieces for e in piece.endpoints):
            continue
        for port in sight.ports_of(name):
            numbers = {
                schema.port_of(destination, family.size)
                for destination in port.found
                if destination[: family.size] == question.address
            }
            if port.family is family and (not question.port or question.port in numbers):
                found.append(port)
    return tuple(found)


def _pod_words(sight: Sight, ports: tuple[PortSight, ...], address: bytes) -> str:
    pods = {
        details.pod
        for port in ports
        for piece in port.own_slices
        if (details := sight.details.endpoint(piece.name, address)).pod
    }
    names = sorted({str(port.service.name) for port in ports})
    who = f"pod {shown_name(min(pods))}," if pods else "an endpoint"
    return f"{who} of {', '.join(names[:3])}" + (" and more" if len(names) > 3 else "")


def _nowhere(sight: Sight, question: AddressQuestion) -> Owner:
    """Return whose range an address lies in that no object has."""
    text = format_address(question.address)
    if cidr := _service_cidr(sight, question.address):
        cause = Diagnosis(
            Severity.FAIL,
            Code.UNALLOCATED_ADDRESS,
            f"no Service has {text}, which is in the range of cluster IPs {cidr}: nfproxy drops "
            "connections to it",
            because=("it was a Service's that is gone, or is not one's yet",),
            look=(f"kubectl get services -A | grep -F {text}",),
            brief="no Service has it",
        )
        return Owner(
            f"in ServiceCIDR {cidr}", cause=cause, conclusion=Conclusion.DROPPED, address=text
        )
    where = _pod_range(sight, question.address)
    last = text.rpartition(":")[2]
    is_port = not question.port and ":" in text and last.isdigit()
    cause = Diagnosis(
        Severity.FAIL,
        Code.NOT_A_SERVICE,
        f"no Service answers at {text}"
        + (f"; it is {where}, and no EndpointSlice lists it" if where else "")
        + ". nfproxy leaves connections to it alone",
        look=(
            ("kubectl get pods -A -o wide | grep -F " + text) if where else f"ip route get {text}",
            *((f"if {last} is a port: [{text.rpartition(':')[0]}]:{last}",) if is_port else ()),
            _TABLE,
        ),
        brief="no Service has it",
    )
    return Owner(where, cause=cause, address=text)


def _service_cidr(sight: Sight, address: bytes) -> Prefix | None:
    return next((cidr for cidr in sight.planner.service_cidrs if address in cidr), None)


def _pod_range(sight: Sight, address: bytes) -> str:
    """Return in whose range of pods an address lies, "" for none that is known."""
    for name, node in sorted(sight.details.nodes.items()):
        for cidr in node.pod_cidrs:
            if address in cidr:
                return f"in podCIDR {cidr} of node {shown_name(name)}"
    for prefix in sight.config.kept.pod_prefixes:
        if address in prefix:
            return f"in the range of pods {prefix}"
    return ""
