"""
``nfproxy run`` as in the DaemonSet's main container, with an API server: CAP_NET_ADMIN alone, and
a read-only file system.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.apiserver.credentials import Kind
from support.containers.restrictions import CONTAINER
from support.processes.apidaemon import Site
from support.processes.commands import endpoint_slice, errors_in, eventually, node_object, service

WEB = "10.96.0.1:80/tcp"
TIMEOUT = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established")


@pytest.fixture(autouse=True)
def objects(site: Site) -> None:
    """A Service with an endpoint, on a node with its addresses."""
    site.add_node_addresses()
    site.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))


@pytest.mark.parametrize("kind", ["tokenFile", "clientcert-data"])
def test_it_serves(site: Site, kind: Kind) -> None:
    """
    Credentials and new shapes need no writable directory. A token file may be root's alone: root
    owns it, also without CAP_DAC_OVERRIDE.
    """
    site.api.write_kubeconfig(site.kubeconfig, kind)
    for path in site.kubeconfig.parent.glob("kubeconfig*"):
        path.chmod(0o600)
    with site.daemon(prefix=CONTAINER) as daemon:
        site.serves({WEB: ("10.244.1.5:8080",)})
        site.api.apply(endpoint_slice("web", "10.244.1.6", "10.244.1.7", "10.244.1.8"))
        site.serves({WEB: ("10.244.1.6:8080", "10.244.1.7:8080", "10.244.1.8:8080")})
        eventually(200, lambda: site.code("/readyz"))
        assert daemon.end() == 0
    assert errors_in(daemon.log) == []
    assert "WARNING" not in daemon.log


def test_sysctls_that_it_may_not_write_cost_a_line(site: Site) -> None:
    """The line names each sysctl and how to set it, and omits those that fit already."""
    before = site.namespace.call(TIMEOUT.read_text)
    flags = (
        "--conntrack-tcp-timeout-established=22h",
        "--conntrack-udp-timeout=33s",
        f"--conntrack-udp-timeout-stream={_stream_timeout(site)}s",
    )
    with site.daemon(*flags, prefix=CONTAINER) as daemon:
        site.serves({WEB: ("10.244.1.5:8080",)})
        (line,) = [line for line in daemon.log.splitlines() if "WARNING" in line]
        assert (
            "tcp_timeout_established to 79200 (Read-only file system), "
            "udp_timeout to 33 (Read-only file system); run `nfproxy run --init-only"
        ) in line
        assert "udp_timeout_stream" not in line
        assert site.namespace.call(TIMEOUT.read_text) == before


def _stream_timeout(site: Site) -> str:
    path = TIMEOUT.with_name("nf_conntrack_udp_timeout_stream")
    return site.namespace.call(path.read_text).strip()
