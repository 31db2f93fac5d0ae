"""
The pod of the DaemonSet, as it is rendered, on a node that is the guest.

Its containers are on the network that the kernel began with, which alone has all sysctls of
connection tracking. They see of the guest what a pod sees of a node: its own root serves as their
image, the repository being what is installed there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from kernels import modules
from support.apiserver import StandIn
from support.containers.pods import Kubelet, KubeletPod, ServiceAccount
from support.containers.spec import Image, Node
from support.manifests import compose, find
from support.objects.api import endpoint_slice, service

from nfproxy.tools.lab import Lab

API_SERVER = "put-the-api-server-here.invalid"  # of the base's kubeconfig.conf
ADDRESSES = {"IPv4": "192.0.2.1", "IPv6": "2001:db8::1"}
CLUSTER_IPS = {"IPv4": "10.96.0.10", "IPv6": "fd00:10:96::10"}
CLUSTER_CIDRS = "10.244.0.0/16,fd00:10:244::/56"
IMAGE = Image(["python3", "-P", "-m", "nfproxy"], ["PATH=/usr/bin", "PYTHONPATH=/nfproxy"])
PER_CORE = 1 << 18  # more than the kernel allows by itself, going by the machine's memory

#: Loading the modules takes most of it, on a machine that is emulated, by one that is busy.
READY_S = 240.0

#: What the ruleset and connection tracking need, by the names Linux gives its modules.
NEEDED = {
    *("nf_tables", "nfnetlink", "nf_conntrack", "nf_conntrack_netlink", "nf_nat"),
    *("nft_chain_nat", "nft_nat", "nft_masq", "nft_ct", "nft_numgen", "nft_hash"),
    *("nft_fib", "nft_fib_ipv4", "nft_fib_ipv6"),
    *("nft_reject", "nft_reject_ipv4", "nft_reject_ipv6"),
}


@contextmanager
def uplink() -> Iterator[None]:
    """Give the guest addresses of its own, and a way to everywhere."""
    commands = ["link add uplink type dummy", "link set uplink up"]
    for family, address in ADDRESSES.items():
        bits = 24 if family == "IPv4" else 64
        option = "" if family == "IPv4" else " nodad"
        commands.append(f"address add {address}/{bits} dev uplink{option}")
        commands.append(f"{'' if family == 'IPv4' else '-6 '}route add default dev uplink")
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "delete", "uplink"], check=True)


@contextmanager
def api_server() -> Iterator[StandIn]:
    """Run an API server, with a Service whose endpoints are on the node itself."""
    with uplink(), StandIn(port=6443, names=(API_SERVER,)) as made:
        made.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": "node-1"},
                "status": {
                    "addresses": [
                        {"type": "InternalIP", "address": address} for address in ADDRESSES.values()
                    ]
                },
            },
            service(
                "web",
                CLUSTER_IPS["IPv4"],
                clusterIPs=[*CLUSTER_IPS.values()],
                ipFamilies=[*CLUSTER_IPS],
                sessionAffinity="ClientIP",
            ),
            *(endpoint_slice("web", address) for address in ADDRESSES.values()),
        )
        yield made


@contextmanager
def running(api: StandIn, scratch: Path, *components: str) -> Iterator[KubeletPod]:
    """
    Run the pod of the DaemonSet with these components until it is ready.

    No module of the packet filter is loaded before. Its configuration asks for more entries of
    connection tracking than the kernel has.
    """
    objects = compose(*components)
    api.set_rbac(list(objects))
    configmap = dict(find(objects, "ConfigMap")["data"])
    configuration = yaml.safe_load(configmap["config.conf"])
    configuration |= {"clusterCIDR": CLUSTER_CIDRS, "conntrack": {"maxPerCore": PER_CORE}}
    configmap["config.conf"] = yaml.safe_dump(configuration)
    hosts = scratch / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {API_SERVER}\n")
    files = {"/etc/hosts": hosts, "/nfproxy": Path("/nfproxy")}
    api.add_token("token", "system:serviceaccount:kube-system:nfproxy")
    account = ServiceAccount("token", api.ca_file.read_text())
    modules.unload()
    with Lab() as lab:
        facts = Node("node-1", ["127.0.0.1"], files)
        kubelet = Kubelet(lab.here("node"), facts, scratch, Path("/"), IMAGE)
        template = find(objects, "DaemonSet")["spec"]["template"]["spec"]
        started = kubelet.start(template, {"nfproxy": configmap}, account)
        try:
            started.wait_ready(READY_S)
            yield started
        finally:
            started.delete()
            subprocess.run(["nft", "flush", "ruleset"], check=True)


def check_confined(pod: KubeletPod) -> None:
    """Check that the pod's container has one capability, cannot get others, and has no modules."""
    assert pod.container is not None
    status = pod.container.status()
    names = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
    only_net_admin = f"{1 << 12:016x}"
    assert [status[name] for name in names] == [only_net_admin, only_net_admin, "1", "2"]
    root = Path(f"/proc/{pod.container.pid}/root")
    assert list(Path("/usr/lib/modules").iterdir())
    assert not list((root / "usr/lib/modules").iterdir())
