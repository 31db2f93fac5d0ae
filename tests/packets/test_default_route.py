"""
A node without a default route: its own processes cannot reach Services until there is some route.
"""

from support.packets.scenes import CLUSTER_IP, PORT, Scene
from support.packets.sending import Protocol
from support.packets.steps import families

from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.tools.lab.cluster import SERVICE_CIDRS, UNDERLAY_GATEWAY
from nfproxy.tools.preflight.apiserver import ApiServers
from nfproxy.tools.preflight.reach import judge_service_routes, read_service_routes


def route(scene: Scene, family: Family, *words: str) -> None:
    """Change the node's routes."""
    scene.node.namespace.run(["ip", "-4" if family is Family.IPV4 else "-6", "route", *words])


@families
def test_preflight_finds_it_and_its_remedy_works(scene: Scene, family: Family) -> None:
    """Pods reach Services all the time. The remedy is a route for the ServiceCIDR."""
    scene.program(scene.web(), *scene.slices(scene.remote))
    address, cidr = CLUSTER_IP.of(family), SERVICE_CIDRS.of(family)
    found = ApiServers(kubernetes=(parse_address(address),), service_cidrs=(parse_prefix(cidr),))
    node, pod = (scene.probe_to(source, address, PORT, Protocol.TCP) for source in ("node", "pod"))

    def remedy() -> str:
        (finding,) = judge_service_routes(scene.node.namespace.call(read_service_routes, found))
        return finding.remedy

    assert remedy() == ""
    route(scene, family, "del", "default")
    try:
        assert scene.ask(node)[0].startswith("unreachable")
        assert scene.ask(pod) == ["remote"]
        _, _, command = remedy().partition(": ip ")
        words = command.replace("-6 ", "").split()[1:]
        words = ["eth0" if w == "INTERFACE" else w for w in words]
        words = [scene.node.address(family) if w == "NODE-IP" else w for w in words]
        route(scene, family, *words)
        assert scene.ask(node)[0].startswith("remote")
        assert remedy() == ""
        route(scene, family, "del", cidr)
    finally:
        route(scene, family, "add", "default", "via", UNDERLAY_GATEWAY.of(family))
