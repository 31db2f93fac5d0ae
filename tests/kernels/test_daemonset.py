"""The DaemonSet as it is rendered, where the kernel has no module of the packet filter loaded."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernels import modules
from kernels.node import (
    ADDRESSES,
    CLUSTER_IPS,
    NEEDED,
    PER_CORE,
    api_server,
    check_confined,
    running,
)
from support.containers.pods import KubeletPod

NETFILTER = Path("/proc/sys/net/netfilter")


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeletPod]:
    """The DaemonSet's pod, ready."""
    with api_server() as api, running(api, tmp_path_factory.mktemp("node")) as started:
        yield started


def test_the_kernel_loads_what_the_containers_need(pod: KubeletPod) -> None:
    """
    With one capability, no new privileges and no modules to be seen, they get them all loaded.
    """
    assert modules.loaded() >= NEEDED
    assert pod.restarts == 0
    check_confined(pod)


@pytest.mark.parametrize("family", CLUSTER_IPS)
def test_a_service_answers(pod: KubeletPod, family: str) -> None:
    """What was loaded works: the node's own connection finds its endpoint."""
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
