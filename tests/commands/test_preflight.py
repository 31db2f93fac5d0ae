"""``nfproxy preflight`` on nodes that are fit, and on others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from support.processes.apidaemon import Site, site_in
from support.processes.commands import (
    ROOT,
    Commands,
    Result,
    endpoint_slice,
    node_object,
    package_copy,
    service,
)

from nfproxy.tools.lab import Lab
from nfproxy.tools.preflight.findings import Finding, Level, NodeReport

#: Leave settings of the whole machine alone.
FLAGS = ("--conntrack-max-per-core=0", "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48")
FORWARDS = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
NO_NET_ADMIN = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--")
NET_ADMIN_ALONE = (
    *("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin"),
    *("--no-new-privs", "--"),
)

#: kube-proxy's tables in nftables mode and, made by iptables-nft, in iptables mode; and a firewall
#: that drops forwarded packets.
OTHERS = """
table ip kube-proxy {
    chain services { }
}
table ip nat {
    chain KUBE-SERVICES { }
    chain KUBE-SVC-NPX46M4PTMTKRN6Y { }
    chain DOCKER { }
}
table inet filter {
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
    }
}
"""

CALL = "        code, output, errors = nft.cmd(text)\n"
#: Makes libnftables' child print what nft 1.0.6 prints on a kernel without the fib expression.
LACK_FIB = """
        if "fib daddr" in text:
            _answer(1, "", "Error: Could not process rule: No such file or directory")
            continue
        code, output, errors = nft.cmd(text)
"""


@pytest.fixture
def site(namespaces_allowed: None, tmp_path: Path) -> Iterator[Site]:
    """A node that is fit: it forwards, has its Node and an API server."""
    with Lab() as lab, site_in(lab.namespace("node"), tmp_path / "site") as made:
        made.namespace.set_sysctls(FORWARDS)
        for address in ("192.168.77.11/32", "fd77::11/128"):
            made.namespace.run(["ip", "address", "add", address, "dev", "lo"])
        made.api.apply(node_object(), service(), endpoint_slice("web", "10.244.1.5"))
        yield made


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The root directory of a host, with nothing in it."""
    root = tmp_path / "host"
    (root / "etc").mkdir(parents=True)
    return root


def preflight(site: Site, *flags: object, host: Path, prefix: tuple[str, ...] = ()) -> Result:
    """Run the command with the site's kubeconfig."""
    given = ("--kubeconfig", site.kubeconfig, *FLAGS, "--host-root", host, *flags)
    return site.commands.run("preflight", *given, prefix=prefix)


def report(result: Result) -> NodeReport:
    """Return what ``-o json`` printed; nothing but the fields of the report may be in it."""
    assert result.err == ""
    found = msgspec.json.decode(result.out, type=NodeReport)
    assert msgspec.json.decode(msgspec.json.encode(found)) == result.data
    assert (result.code == 1) is (found.result is Level.FAIL)
    return found


def of(found: NodeReport, check: str) -> list[Finding]:
    """Return the lines of one check."""
    return [finding for finding in found.checks if finding.check == check]


def one(found: NodeReport, check: str, level: Level) -> Finding:
    """Return the line of a check that has a level; there is just one."""
    lines = [finding for finding in of(found, check) if finding.level is level]
    assert len(lines) == 1, of(found, check)
    return lines[0]


def test_a_node_that_is_fit(site: Site, host: Path) -> None:
    """Every line is ok, so --strict passes, too; and neither node nor cluster has changed."""
    generation, version = site.commands.generation(), site.api.version
    result = preflight(site, "-o", "json", "--strict", host=host)
    found = report(result)

    assert [line for line in found.checks if line.level is not Level.OK] == []
    assert (result.code, found.result, found.node) == (0, Level.OK, "node-1")
    assert "was loaded into a network namespace of its own" in of(found, "program")[0].found
    assert "may list and watch services; list and watch" in of(found, "access")[0].found
    assert "create and patch events" in of(found, "access")[0].found
    assert "192.168.77.11, fd77::11" in of(found, "node")[0].found
    assert (site.commands.generation(), site.api.version) == (generation, version)
    assert site.commands.tables() == []
    for request in site.api.requests("services", "list") + site.api.requests(
        "endpointslices", "list"
    ):
        assert request.query.get("limit") == "1" or "/namespaces/default/" in request.path


def test_a_node_with_all_sorts_of_trouble(site: Site, host: Path) -> None:
    """Each trouble has a line with its remedy; -o yaml and text say the same."""
    site.commands.nft(OTHERS)
    site.namespace.set_sysctls(
        {"ipv4/ip_forward": "0", "ipv4/ip_local_port_range": "20000 40000"},
    )
    (host / "etc/nftables.conf").write_text('#!/usr/sbin/nft -f\ninclude "/etc/nftables.d/*.nft"\n')
    (host / "etc/nftables.d").mkdir()
    (host / "etc/nftables.d/all.nft").write_text("flush ruleset # of all software\n")
    wants = host / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True)
    (wants / "nftables.service").symlink_to("/lib/systemd/system/nftables.service")
    result = preflight(site, "-o", "yaml", host=host)
    found = msgspec.convert(yaml.safe_load(result.out), NodeReport)

    assert result.code == 1
    kube_proxy = one(found, "kube-proxy", Level.WARN)
    assert "nftables ip: 1 table; iptables-nft nat: 2 chains" in kube_proxy.found
    assert "nfproxy cleanup --kube-proxy" in kube_proxy.remedy
    forward = one(found, "forward-policy", Level.WARN)
    assert "chain FORWARD of table inet filter drops" in forward.found
    assert "--ctstate DNAT" in forward.remedy
    flush = one(found, "ruleset-flush", Level.WARN)
    assert "/etc/nftables.conf flushes the whole ruleset, and nftables.service" in flush.found
    assert "net.ipv4.ip_forward is 0" in one(found, "forwarding", Level.FAIL).found
    ports = one(found, "node-ports", Level.WARN)
    assert "30000-32767 is both" in ports.found
    assert "ip_local_reserved_ports=30000-32767" in ports.remedy
    assert {line.check for line in found.checks if line.level is Level.FAIL} == {"forwarding"}

    text = preflight(site, host=host)
    rows = [line.split("\t") for line in text.out.splitlines()]
    assert text.code == 1
    assert [row[:2] for row in rows] == [[line.level, line.check] for line in found.checks]
    assert ["warn", "node-ports", ports.found, ports.remedy] in rows


def test_requests_that_are_forbidden(site: Site, host: Path) -> None:
    """A line names each resource, its verbs and the rule to add; an optional one only warns."""
    site.api.forbid("services", "watch")
    site.api.forbid("nodes")
    site.api.forbid("events", "patch")
    found = report(preflight(site, "-o", "json", host=host))

    fails = [line for line in of(found, "access") if line.level is Level.FAIL]
    assert [line.found.partition(" 403")[0] + " 403" for line in fails] == [
        "may not watch services: 403",
        "may not list and watch nodes: 403",
    ]
    assert 'apiGroups: [""], resources: ["services"], verbs: ["watch"]' in fails[0].remedy
    assert "ClusterRole nfproxy" in fails[0].remedy
    assert "may not patch events" in one(found, "access", Level.WARN).found
    assert "list services" in one(found, "access", Level.OK).found
    assert "whether there is a Node" in one(found, "node", Level.SKIP).found


def test_several_api_servers(site: Site, host: Path) -> None:
    """
    A server that refuses is worth a look while another answers. It is a failure where none can be
    asked, for its certificate, say.
    """
    masters = f"https://127.0.0.1:{site.api.port},https://127.0.0.1:9"
    found = report(preflight(site, "-o", "json", "--master", masters, host=host))

    assert f"127.0.0.1:{site.api.port} answers" in one(found, "api-server", Level.OK).found
    assert "127.0.0.1:9 refuses connections" in one(found, "api-server", Level.WARN).found
    assert found.result is Level.WARN

    site.api.renew_server_certificate(other_ca=True)
    found = report(preflight(site, "-o", "json", "--master", masters, host=host))

    assert [line.level for line in of(found, "api-server")] == [Level.FAIL, Level.FAIL]
    assert "is not trusted" in of(found, "api-server")[0].found
    assert "check certificate-authority" in of(found, "api-server")[0].remedy
    assert "check that the API server runs there" in of(found, "api-server")[1].remedy
    assert "no API server answers" in one(found, "access", Level.SKIP).found
    assert one(found, "program", Level.OK)


def test_an_api_server_behind_a_service(site: Site, host: Path) -> None:
    """No proxy serves the Service's address yet."""
    site.api.apply(service("kubernetes", "10.96.0.1"))
    masters = f"https://127.0.0.1:{site.api.port},https://10.96.0.1:443"
    found = report(preflight(site, "-o", "json", "--master", masters, host=host))

    line = one(found, "api-server", Level.FAIL)
    assert "10.96.0.1:443 is the cluster IP 10.96.0.1 of Service default/kubernetes" in line.found
    assert "--master (apiServers in the chart)" in line.remedy


def test_a_configuration_that_cannot_be_used(site: Site, host: Path) -> None:
    """That is one line; the other checks go on."""
    os.mkfifo(host / "etc/nftables.conf")  # opening it must not wait for a writer
    result = preflight(site, "-o", "json", "--cluster-cidr=nonsense", host=host)
    found = report(result)

    assert "'nonsense' cannot be used" in one(found, "configuration", Level.FAIL).found
    assert "/etc/nftables.conf: not a regular file" in one(found, "ruleset-flush", Level.WARN).found
    assert one(found, "program", Level.OK)


def test_without_cap_net_admin(site: Site, host: Path) -> None:
    """A line names the capability. Checks that need it say so; the others go on."""
    found = report(preflight(site, "-o", "json", host=host, prefix=NO_NET_ADMIN))

    line = one(found, "privileges", Level.FAIL)
    assert "CAP_NET_ADMIN is missing" in line.found
    assert "add: [NET_ADMIN]" in line.remedy
    assert "not looked at" in one(found, "forward-policy", Level.WARN).found
    assert one(found, "api-server", Level.OK)
    assert [line.level for line in of(found, "forwarding")] == [Level.OK, Level.OK]


def test_with_cap_net_admin_alone(site: Site, host: Path) -> None:
    """As in the daemon's container: the kernel validates the program without loading it."""
    site.commands.nft("add table ip nfproxy")
    before = site.commands.generation()
    found = report(preflight(site, "-o", "json", host=host, prefix=NET_ADMIN_ALONE))

    assert "accepted by the kernel" in one(found, "program", Level.OK).found
    assert found.result is Level.OK, found
    assert "tables ip nfproxy are here already" in of(found, "own-tables")[0].found
    assert site.commands.generation() == before


def test_a_kernel_that_lacks_something(site: Site, host: Path, tmp_path: Path) -> None:
    """A line for each family names the missing feature and the module to load."""
    child = (ROOT / "nfproxy/dataplane/libnftables_child.py").read_text()
    assert child.count(CALL) == 1
    changed = {"dataplane/libnftables_child.py": child.replace(CALL, LACK_FIB)}
    site.commands = Commands(site.namespace, tmp_path, package_copy(tmp_path / "copy", changed))
    found = report(preflight(site, "-o", "json", host=host))

    lines = [line for line in of(found, "program") if line.level is Level.FAIL]
    assert [line.found for line in lines] == [
        "this kernel or libnftables lacks the fib expression for IPv4",
        "this kernel or libnftables lacks the fib expression for IPv6",
    ]
    assert "modprobe nft_fib_ipv6" in lines[1].remedy
