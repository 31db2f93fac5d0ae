"""Objects that between them fill every set and map of both families."""

from __future__ import annotations

from typing import Any

from support.processes.commands import endpoint_slice, node_object, service


def everything() -> list[dict[str, Any]]:
    """Return objects that between them fill every set and map of both families."""
    both = {"ipFamilies": ["IPv4", "IPv6"], "clusterIPs": ["10.96.0.2", "fd00:10:96::2"]}
    sticky = {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
    }
    ports = [
        {"name": word.lower(), "port": 90 + i, "nodePort": 30090 + i, "protocol": word}
        for i, word in enumerate(("TCP", "UDP", "SCTP"))
    ]
    slice_ports = [
        {"name": word.lower(), "port": 9090 + i, "protocol": word}
        for i, word in enumerate(("TCP", "UDP", "SCTP"))
    ]
    ingress = {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"ip": "2001:db8:7::7"}]}}
    return [
        node_object(),
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": ["10.96.0.0/16", "fd00:10:96::/112"]},
        },
        service("web", "10.96.0.1", type="NodePort", ports=[{"port": 80, "nodePort": 30080}]),
        endpoint_slice("web", "10.244.1.5", "10.244.1.6", "10.244.1.7"),
        service(
            "all",
            "10.96.0.2",
            type="LoadBalancer",
            ports=ports,
            externalIPs=["203.0.113.9", "2001:db8:9::9"],
            externalTrafficPolicy="Local",
            loadBalancerSourceRanges=["192.0.2.0/24", "2001:db8::/64"],
            status=ingress,
            **both,
            **sticky,
        ),
        endpoint_slice("all", "10.244.1.8", ports=slice_ports, name="all-a"),
        endpoint_slice("all", "10.244.2.8", ports=slice_ports, name="all-b", node="node-2"),
        endpoint_slice("all", "fd00:10:244:1::8", ports=slice_ports, name="all-c"),
        endpoint_slice("all", "fd00:10:244:2::8", ports=slice_ports, name="all-d", node="node-2"),
        # Many addresses and endpoints: its frontends share lists.
        service(
            "wide",
            "10.96.0.5",
            ports=[
                {"name": p["name"], "port": p["port"], "protocol": p["protocol"]} for p in ports
            ],
            externalIPs=[a for n in range(8) for a in (f"203.0.113.{30 + n}", f"2001:db8:9::{n}")],
            **(both | {"clusterIPs": ["10.96.0.5", "fd00:10:96::5"]}),
        ),
        *(
            endpoint_slice(
                "wide", *(f"{prefix}{n}" for n in range(20, 28)), ports=slice_ports, name=name
            )
            for name, prefix in (("wide-a", "10.244.3."), ("wide-b", "fd00:10:244:3::"))
        ),
        service("empty", "10.96.0.3"),
        service("six", "fd00:10:96::4"),
        endpoint_slice("six", "fd00:10:244:1::5", "fd00:10:244:2::5"),
    ]
