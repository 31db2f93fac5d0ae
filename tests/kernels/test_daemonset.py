"""
The DaemonSet as it is rendered, where the kernel has no module of the packet filter loaded.

The node is the guest: its containers are on the network that the kernel began with, which alone
has all sysctls of connection tracking. They see of it what a pod sees: the guest's own root serves
as their image, the repository being what is installed there.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from kernels import modules
from support.apiobjects import endpoint_slice, service
from support.apiserver import StandIn
from support.containerpods import Kubelet, KubeletPod, ServiceAccount
from support.containerspec import Image, Node
from support.manifests import compose, find

from nfproxy.lab import Lab

API_SERVER = "put-the-api-server-here.invalid"  # of the base's kubeconfig.conf
ADDRESSES = {"IPv4": "192.0.2.1", "IPv6": "2001:db8::1"}
CLUSTER_IPS = {"IPv4": "10.96.0.10", "IPv6": "fd00:10:96::10"}
CLUSTER_CIDRS = "10.244.0.0/16,fd00:10:244::/56"
NETFILTER = Path("/proc/sys/net/netfilter")
IMAGE = Image(["python3", "-P", "-m", "nfproxy"], ["PATH=/usr/bin", "PYTHONPATH=/nfproxy"])
PER_CORE = 1 << 18  # more than the kernel allows by itself, going by the machine's memory

#: Loading the modules takes most of it, on a machine that is emulated, by one that is busy.
READY_S = 240.0

#: What the ruleset and connection tracking need, by the names Linux gives its modules.
NEEDED = {
    *("nf_tables", "nfnetlink", "nf_conntrack", "nf_conntrack_netlink", "nf_nat"),
    *("nft_chain_nat", "nft_nat", "nft_masq", "nft_ct", "nft_numgen", "nft_hash"),
    *(
        "nft_fib",
        "nft_fib_ipv4",
        "nft_fib_ipv6",
        "nft_reject",
        "nft_reject_ipv4",
        "nft_reject_ipv6",
    ),
}


@pytest.fixture(scope="module")
def node() -> Iterator[None]:
    """The guest, with addresses of its own, and a way to everywhere."""
    commands = ["link add uplink type dummy", "link set uplink up"]
    for family, address in ADDRESSES.items():
        bits = 24 if family == "IPv4" else 64
        option = "" if family == "IPv4" else " nodad"
        commands.append(f"address add {address}/{bits} dev uplink{option}")
        commands.append(f"{'' if family == 'IPv4' else '-6 '}route add default dev uplink")
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True)
    yield
    subprocess.run(["ip", "link", "delete", "uplink"], check=True)


@pytest.fixture(scope="module")
def api(node: None) -> Iterator[StandIn]:
    """The API server, with a Service whose endpoints are on the node itself."""
    with StandIn(port=6443, names=(API_SERVER,)) as made:
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


@pytest.fixture(scope="module")
def pod(api: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeletPod]:
    """The DaemonSet's pod, ready."""
    with running(api, tmp_path_factory.mktemp("node")) as started:
        yield started


def test_the_kernel_loads_what_the_main_container_needs(api: StandIn, tmp_path: Path) -> None:
    """
    It has one capability, no new privileges and no modules, and gets them all loaded.
    """
    with running(api, tmp_path, "without-prepare") as pod:
        assert modules.loaded() >= NEEDED

        assert pod.container is not None
        status = pod.container.status()
        names = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
        only_net_admin = f"{1 << 12:016x}"
        assert [status[name] for name in names] == [only_net_admin, only_net_admin, "1", "2"]
        root = Path(f"/proc/{pod.container.pid}/root")
        assert list(Path("/usr/lib/modules").iterdir())
        assert not list((root / "usr/lib/modules").iterdir())
        assert pod.restarts == 0


@pytest.mark.parametrize("family", CLUSTER_IPS)
def test_a_service_answers(pod: KubeletPod, family: str) -> None:
    """
    What was loaded works: the node's own connection finds its endpoint.
    """
    kind = socket.AF_INET if family == "IPv4" else socket.AF_INET6
    with socket.socket(kind) as listener:
        listener.bind((ADDRESSES[family], 8080))
        listener.listen()
        with socket.create_connection((CLUSTER_IPS[family], 80), timeout=10) as client:
            served, _ = listener.accept()
            with served:
                served.sendall(b"served\n")
                assert client.recv(100) == b"served\n"


def test_sysctls_are_written_by_the_init_container(pod: KubeletPod) -> None:
    """
    Through its mount of /proc/sys/net, with one capability; the size of the hash table, too, of
    connection tracking that was not loaded before.
    """
    values = {
        name: (NETFILTER / f"nf_conntrack_{name}").read_text().strip()
        for name in ("max", "buckets", "tcp_timeout_established", "tcp_timeout_close_wait")
    }
    entries = PER_CORE * (os.cpu_count() or 1)
    assert values == {
        "max": str(entries),
        "buckets": str(entries // 4),
        "tcp_timeout_established": "86400",
        "tcp_timeout_close_wait": "3600",
    }
    assert "/host/proc/sys/net/netfilter/nf_conntrack_buckets: " in pod.output
    assert " WARNING " not in pod.output
