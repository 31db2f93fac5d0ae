"""Service: from its wire form to the model."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from nfproxy.errors import InputError
from nfproxy.kube import identity, timestamps, wire
from nfproxy.kube.addresses import cluster_address, frontend_address, parsed_list, source_ranges
from nfproxy.kube.decoded import Decoded, Problems, namespaced_name, shared, uid_tag
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import FAMILIES, Family, family_of
from nfproxy.model.service import Protocol, Service, ServicePort
from nfproxy.text import quoted, shorten

DEFAULT_AFFINITY_TIMEOUT_S = 10800
MAX_AFFINITY_TIMEOUT_S = 86400
_PROTOCOLS = {protocol.name: protocol for protocol in Protocol}
_FAMILIES = {family.label: family for family in FAMILIES}


def decode_service(obj: wire.ServiceForm, source_file: str = "") -> Decoded[Service]:
    """
    Return the Service to proxy, or None where kube-proxy would ignore it.

    It ignores Services with the service-proxy-name label (even empty), headless ones, ExternalName,
    and those without a usable cluster IP. Items that cannot be used (an external IP, a port …) are
    left out, with a problem; the rest of the object counts. Only a name that the API would refuse
    makes the object unusable.
    """
    problems = Problems(source_file, Kind.SERVICE, obj.metadata)
    name = namespaced_name(obj.metadata, identity.label, problems)
    if name is None:
        return Decoded(None, None, problems.found, usable=False)
    if _foreign(obj):
        return Decoded(name, None)
    cluster_ips = _cluster_ips(obj.spec, problems)
    if not cluster_ips:
        return Decoded(name, None, problems.found)
    spec = obj.spec
    kind = _choice(spec.type, "spec.type", ("ClusterIP", "NodePort", "LoadBalancer"), problems)
    external_local = _external_local(spec, kind, problems)
    vips, router_ips = _load_balancer_ips(obj.status, problems)
    service = Service(
        name=name,
        created=_created(obj.metadata, problems),
        cluster_ips=tuple(cluster_ips.values()),
        ports=shared(_ports(spec.ports, problems)),
        external_ips=parsed_list(spec.external_ips, "spec.externalIPs", problems, frontend_address),
        load_balancer_ips=vips,
        router_ips=router_ips,
        source_ranges=source_ranges(spec.load_balancer_source_ranges, problems),
        affinity_timeout_s=_affinity_timeout_s(spec, problems),
        internal_local=_policy(
            spec.internal_traffic_policy, "spec.internalTrafficPolicy", problems
        ),
        external_local=external_local,
        health_check_node_port=_health_check_node_port(spec, kind, external_local, problems),
        uid_tag=uid_tag(obj.metadata),
    )
    return Decoded(name, service, problems.found)


def decode_protocol(text: str | None) -> Protocol:
    """Return a ``protocol`` field's value; absent or empty means TCP. Raises InputError."""
    if not text:
        return Protocol.TCP
    try:
        return _PROTOCOLS[text]
    except KeyError:
        raise InputError(f"{quoted(text)} is not TCP, UDP or SCTP") from None


def _foreign(obj: wire.ServiceForm) -> bool:
    """Return whether another proxy serves a Service, or none does."""
    labels = obj.metadata.labels
    return (
        (labels is not None and labels.proxy_name is not UNSET)
        or obj.spec.cluster_ip == "None"
        or obj.spec.type == "ExternalName"
        or (not obj.spec.cluster_ip and (obj.spec.cluster_ips or [""])[0] == "None")
    )


def _cluster_ips(spec: wire.ServiceSpec, problems: Problems) -> dict[Family, bytes]:
    """
    Return the cluster IP of each family that has one.

    With ``ipFamilies`` the i-th of ``clusterIPs`` belongs to the i-th family. Without it only
    ``clusterIP`` counts, for its own family. An API server makes ``clusterIP`` and the first of
    ``clusterIPs`` equal; a manifest may name either.
    """
    listed = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    first = spec.cluster_ip or (listed[0] if listed else "")
    if not first.strip():
        problems.add(
            "spec.clusterIP",
            "is empty, so the Service is not proxied; an API server would have "
            "allocated an address, a manifest file has to name one",
        )
        return {}
    if not spec.ip_families:
        if spec.cluster_ips and len(spec.cluster_ips) > 1:
            problems.add(
                "spec.ipFamilies", "is empty, so only the first of spec.clusterIPs is used"
            )
        only = _cluster_ip(first, "spec.clusterIP", problems)
        return {family_of(only): only} if only else {}
    found: dict[Family, bytes] = {}
    for index, label in enumerate(spec.ip_families):
        family = _FAMILIES.get(label)
        if family is None or family in found:
            why = "is named twice" if family else "is not IPv4 or IPv6"
            problems.add(f"spec.ipFamilies[{index}]", f"{quoted(label)} {why}; ignored")
        elif index < len(listed):
            field = f"spec.clusterIPs[{index}]" if spec.cluster_ips else "spec.clusterIP"
            address = _cluster_ip(listed[index], field, problems)
            if address and family_of(address) is not family:
                problems.add(field, f"{listed[index]!r} is not of family {label}; ignored")
            elif address:
                found[family] = address
    return found


def _cluster_ip(text: str, field: str, problems: Problems) -> bytes:
    """Return one cluster IP, b"" where it cannot be used."""
    try:
        return cluster_address(text)
    except InputError as error:
        problems.add(field, f"{error}; this family of the Service is not proxied")
        return b""


def _ports(ports: list[wire.ServicePortForm] | None, problems: Problems) -> tuple[ServicePort, ...]:
    """
    Return the service ports that can be used.

    Name and protocol lead to the endpoints, port and protocol to the frontend. So the API requires
    that each pair is unique; of two ports with one pair, the first counts.
    """
    if ports and len(ports) == 1:
        only = _port(ports[0], "spec.ports[0]", problems, is_only=True)
        return (only,) if only else ()
    found: list[ServicePort] = []
    taken: set[tuple[Protocol, str | int]] = set()
    node_ports: set[tuple[Protocol, int]] = set()
    for index, item in enumerate(ports or ()):
        field = f"spec.ports[{index}]"
        port = _port(item, field, problems)
        if port is None:
            continue
        pairs: set[tuple[Protocol, str | int]] = {
            (port.protocol, port.name),
            (port.protocol, port.port),
        }
        if pairs & taken:
            problems.add(
                field, "has the protocol and the name or number of an earlier one; ignored"
            )
            continue
        taken |= pairs
        if port.node_port and (port.protocol, port.node_port) in node_ports:
            problems.add(
                f"{field}.nodePort",
                f"{port.node_port} is that of an earlier port with the same protocol; ignored",
            )
            port = msgspec.structs.replace(port, node_port=0)
        node_ports.add((port.protocol, port.node_port))
        found.append(port)
    if not found:
        problems.add("spec.ports", "holds no port that can be used")
    return tuple(found)


def _port(
    item: wire.ServicePortForm, field: str, problems: Problems, *, is_only: bool = False
) -> ServicePort | None:
    """Return one service port, or None where it cannot be used."""
    part = "name"
    try:
        name = identity.port_name(item.name or "")
        part = "protocol"
        protocol = decode_protocol(item.protocol)
        part = "port"
        port = port_number(item.port)
    except InputError as error:
        consequence = "the Service has no other port" if is_only else "this port is not proxied"
        problems.add(f"{field}.{part}", f"{error}; {consequence}")
        return None
    return ServicePort(
        name=name,
        protocol=protocol,
        port=port,
        node_port=_optional_port(item.node_port, f"{field}.nodePort", problems),
    )


def port_number(value: int) -> int:
    """Return `value` if it is a port number. Raises InputError."""
    if not 1 <= value <= 65535:
        raise InputError(f"{shorten(_digits(value))} is not a port (1 to 65535)")
    return value


def _digits(value: int) -> str:
    """Return a number as text; ``str`` refuses numbers of thousands of digits."""
    return str(value) if value.bit_length() < 256 else "a number of hundreds of bits"


def _optional_port(value: int | None, field: str, problems: Problems) -> int:
    """Return an optional port number, 0 for none; one out of range counts as none."""
    if not value:
        return 0
    try:
        return port_number(value)
    except InputError as error:
        problems.add(field, f"{error}; ignored")
        return 0


def _load_balancer_ips(
    status: wire.ServiceStatus | None, problems: Problems
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the IPs of ``status.loadBalancer.ingress``: of mode VIP (the default), and Router."""
    balancer = status.load_balancer if status else None
    found: dict[str, dict[bytes, None]] = {"VIP": {}, "Router": {}}
    for index, ingress in enumerate((balancer.ingress if balancer else None) or ()):
        field = f"status.loadBalancer.ingress[{index}]"
        mode = "VIP" if ingress.ip_mode is None else ingress.ip_mode
        if mode not in ("VIP", "Proxy", "Router"):
            problems.add(f"{field}.ipMode", f"{quoted(mode)} is not VIP, Proxy or Router; ignored")
        if not ingress.ip or mode not in found:
            continue
        try:
            found[mode][frontend_address(ingress.ip)] = None
        except InputError as error:
            problems.add(f"{field}.ip", f"{error}; ignored")
    return tuple(found["VIP"]), tuple(a for a in found["Router"] if a not in found["VIP"])


def _affinity_timeout_s(spec: wire.ServiceSpec, problems: Problems) -> int | None:
    """Return the timeout of ClientIP affinity, None without it."""
    if (
        _choice(spec.session_affinity, "spec.sessionAffinity", ("None", "ClientIP"), problems)
        == "None"
    ):
        return None
    config = spec.session_affinity_config
    client_ip = config.client_ip if config else None
    if client_ip is None or client_ip.timeout_seconds is None:
        return DEFAULT_AFFINITY_TIMEOUT_S
    if 1 <= client_ip.timeout_seconds <= MAX_AFFINITY_TIMEOUT_S:
        return client_ip.timeout_seconds
    problems.add(
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        f"{shorten(_digits(client_ip.timeout_seconds))} is not between 1 and "
        f"{MAX_AFFINITY_TIMEOUT_S}; {DEFAULT_AFFINITY_TIMEOUT_S} is used",
    )
    return DEFAULT_AFFINITY_TIMEOUT_S


def _external_local(spec: wire.ServiceSpec, kind: str, problems: Problems) -> bool:
    """Return whether ``externalTrafficPolicy`` is Local and applies to the Service."""
    local = _policy(spec.external_traffic_policy, "spec.externalTrafficPolicy", problems)
    return local and (kind != "ClusterIP" or bool(spec.external_ips))


def _policy(value: str | None, field: str, problems: Problems) -> bool:
    """Return whether a traffic policy is Local."""
    return _choice(value, field, ("Cluster", "Local"), problems) == "Local"


def _choice(value: str | None, field: str, choices: tuple[str, ...], problems: Problems) -> str:
    """Return one of a few values; the first is the API's default, used for absent and bad ones."""
    if not value or value in choices:
        return value or choices[0]
    words = " or ".join((", ".join(choices[:-1]), choices[-1]))
    problems.add(field, f"{quoted(value)} is not {words}; taken as {choices[0]}")
    return choices[0]


def _health_check_node_port(
    spec: wire.ServiceSpec, kind: str, external_local: bool, problems: Problems
) -> int:
    """Return the health check node port, which only a local LoadBalancer has."""
    if kind != "LoadBalancer" or not external_local:
        return 0
    return _optional_port(spec.health_check_node_port, "spec.healthCheckNodePort", problems)


def _created(metadata: wire.Metadata, problems: Problems) -> str:
    """Return the creation time as a sortable string, "" (oldest) where there is none."""
    if not metadata.creation_timestamp:
        return ""
    try:
        return timestamps.normalise(metadata.creation_timestamp)
    except InputError as error:
        problems.add("metadata.creationTimestamp", f"{error}; taken as absent")
        return ""
