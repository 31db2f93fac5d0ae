"""
The API server: can it be reached without a Service, and may we ask what we have to?
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from nfproxy.errors import InputError
from nfproxy.model.addresses import FAMILIES, Family, family_of, format_address, parse_address
from nfproxy.model.node import Node
from nfproxy.tools.preflight.facts import Api, Attempt, Server
from nfproxy.tools.preflight.findings import Verdict, fail, ok, warn

_DIRECT = (
    "name an address that needs no proxy, such as that of a control plane node or of its load "
    "balancer: --master (apiServers in the chart), or `server` in the kubeconfig"
)
_ROLE = (
    "kubectl apply the ClusterRole nfproxy and its binding (deploy/kustomize/base), or bind "
    "system:node-proxier"
)


def servers(api: Api) -> list[Verdict]:
    """Each server has to answer, and by an address that is nobody's Service."""
    if api.trouble:
        text, _, remedy = api.trouble.partition("; ")
        return [fail(text, remedy or "give --kubeconfig, or --master with addresses")]
    verdicts = [_server(api, server) for server in api.servers]
    if api.borrowed:
        verdicts.append(
            warn(
                f"asked with the credentials of kubectl ({api.credentials}), which are not the "
                "daemon's",
                "give --kubeconfig; with `as: system:serviceaccount:kube-system:nfproxy` under "
                "`user` an administrator's shows what the daemon may do",
            )
        )
    return verdicts


def _server(api: Api, server: Server) -> Verdict:
    name = server.host or server.url
    inside = sorted(filter(None, (_service(api, address) for address in server.addresses)))
    if inside:
        works = (
            "which answers only as long as another proxy serves it"
            if not server.trouble
            else ("which nobody serves here")
        )
        return fail(f"{name} is {inside[0]}, {works}", _DIRECT)
    if server.trouble and not server.code:
        text, _, remedy = server.trouble.partition("; ")
        judge = warn if any(other.code == 200 for other in api.servers) else fail
        return judge(text, remedy or "check the address, routes and firewalls")
    if server.code == 401:
        text, _, remedy = server.trouble.partition("; ")
        return fail(text, remedy or "check the credentials")
    if server.code >= 500 or server.code == 404:
        return fail(f"{name}: {server.trouble}", "look at the API server's log")
    return ok(f"{name} answers, without a Service in between")


def _service(api: Api, text: str) -> str:
    """Return what an address is of Services, "" if it is nothing of the kind."""
    try:
        address = parse_address(text)
    except InputError:
        return ""
    if address in api.kubernetes:
        return f"the cluster IP {text} of Service default/kubernetes"
    cidr = next((cidr for cidr in api.service_cidrs if address in cidr), None)
    if cidr is not None:
        return f"an address of the Service range {cidr}"
    if text == api.env_host and not (api.kubernetes or api.service_cidrs):
        return f"KUBERNETES_SERVICE_HOST {text}, a cluster IP"
    return ""


def access(attempts: Sequence[Attempt]) -> list[Verdict]:
    """Every request that nfproxy makes was made: what is refused is named, with the rule."""
    if not attempts:
        return [warn("access was not tried: no API server answers", "see `api-server`")]
    refused = _alike(attempt for attempt in attempts if attempt.trouble)
    granted = _alike(attempt for attempt in attempts if not attempt.trouble)
    may = "; ".join(f"{_verbs(alike)} {_resource(alike[0])}" for alike in granted)
    return [*map(_refused, refused), *([ok(f"may {may}")] if may else [])]


def _alike(attempts: Iterable[Attempt]) -> Sequence[Sequence[Attempt]]:
    """Return attempts in groups: one resource, one answer."""
    found: dict[tuple[str, int], list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault((_resource(attempt), attempt.code), []).append(attempt)
    return list(found.values())


def _refused(alike: Sequence[Attempt]) -> Verdict:
    first = alike[0]
    name = _resource(first)
    judge = warn if first.optional else fail
    if first.code in (401, 403):
        verbs = ", ".join(f'"{attempt.verb}"' for attempt in alike)
        return judge(
            f"may not {_verbs(alike)} {name}: {first.trouble}",
            f'needs a rule with apiGroups: ["{first.group}"], resources: ["{first.resource}"], '
            f"verbs: [{verbs}]: {_ROLE}",
        )
    if first.code == 404 and first.optional:
        return ok(f"the API server has no {name}: nfproxy does without")
    return judge(f"cannot {_verbs(alike)} {name}: {first.trouble}", "look at the API server's log")


def _verbs(alike: Iterable[Attempt]) -> str:
    return " and ".join(attempt.verb for attempt in alike)


def _resource(attempt: Attempt) -> str:
    return f"{attempt.resource}.{attempt.group}" if attempt.group else attempt.resource


def node(api: Api, name: str, warnings: Iterable[str]) -> list[Verdict]:
    """The Node of this name tells who is local, and where node ports are accepted."""
    if not api.node_asked:
        return [warn(f"whether there is a Node {name!r} could not be asked", "see `access`")]
    if api.node is None:
        return [
            fail(
                f"there is no Node {name!r}",
                "name this node as `kubectl get nodes` does: --hostname-override (in the "
                "DaemonSet from spec.nodeName)",
            )
        ]
    verdicts = [warn(text, "see the Node object and the configuration") for text in warnings]
    addresses = ", ".join(format_address(address) for address in api.node.addresses)
    cidrs = ", ".join(map(str, api.node.pod_cidrs))
    if not api.node.addresses:
        return [*verdicts, warn(f"Node {name!r} has no address", "wait for the kubelet to set it")]
    return [*verdicts, ok(f"Node {name!r} has {addresses}; podCIDRs {cidrs or 'none'}")]


def node_families(found: Node | None) -> Collection[Family]:
    """Return the families that a Node has addresses or pods of, nothing where it is unknown."""
    if found is None:
        return ()
    here = {family_of(address) for address in found.addresses}
    here |= {cidr.family for cidr in found.pod_cidrs}
    return tuple(family for family in FAMILIES if family in here)
