"""Which proxies run on a node, by fake processes and pages."""

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from nfproxy.host.kubeproxy import kube_proxy_traces, proxies_running

NO_PAGES = 9


def made(proc, processes):
    """Make a proc file system with some processes: pid, network namespace, command line."""
    own = (os.getpid(), "net:[1]", ["nfproxy", "cleanup"])
    for pid, network, words in (*processes, own):
        ns = proc / str(pid) / "ns"
        ns.mkdir(parents=True)
        (ns / "net").symlink_to(network)
        (proc / str(pid) / "cmdline").write_text("\0".join((*words, "")))
    (proc / "self").symlink_to(str(os.getpid()))
    (proc / "self/ns/pid").symlink_to("pid:[4026531836]")
    return proc


@pytest.mark.parametrize(
    ("words", "kube_proxy", "nfproxy"),
    [
        (["/usr/local/bin/kube-proxy", "--config", "x"], "process 4711", ""),
        (["python3", "-m", "nfproxy", "run", "--config", "x"], "", "process 4711"),
        (["/opt/nfproxy/bin/python", "/opt/nfproxy/bin/nfproxy", "run"], "", "process 4711"),
        (["nfproxy", "run", "--cleanup"], "", ""),
        (["nfproxy", "render"], "", ""),
        (["kube-proxy-watcher"], "", ""),
        (["vi", "/etc/kube-proxy"], "", ""),
        ([], "", ""),
    ],
)
def test_processes_are_known_by_their_command(tmp_path, words, kube_proxy, nfproxy):
    """The program's name counts, not its arguments."""
    found = proxies_running(made(tmp_path, [(4711, "net:[1]", words)]), NO_PAGES)

    assert (kube_proxy, nfproxy, False) == found


def test_other_networks_do_not_count(tmp_path):
    """kind's nodes share a machine: each has its kube-proxy in a namespace of its own."""
    found = proxies_running(made(tmp_path, [(4711, "net:[2]", ["kube-proxy"])]), NO_PAGES)

    assert found == ("", "", False)


def test_hidden_processes_are_reported(tmp_path):
    """A container without hostPID has a pid namespace of its own."""
    proc = made(tmp_path, [])
    (proc / "self/ns/pid").unlink()
    (proc / "self/ns/pid").symlink_to("pid:[4026532000]")

    assert proxies_running(proc, NO_PAGES).hidden


@pytest.mark.parametrize(
    ("mode", "server", "found"),
    [
        ("iptables", "", True),
        ("nftables", "", True),
        ("nftables", "nfproxy", False),
        ("hello", "", False),
    ],
)
def test_an_answer_like_kube_proxys_for_metrics_counts(tmp_path, mode, server, found):
    """In a container its process is hidden, and k3s runs kube-proxy inside its own process."""

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(mode.encode() if self.path == "/proxyMode" else b"")

        def version_string(self):
            return server

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Pages) as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        answer = proxies_running(made(tmp_path, []), pages.server_port).kube_proxy
        pages.shutdown()
        thread.join()

    assert (f"it answers at 127.0.0.1:{pages.server_port}" if found else "") == answer


def test_traces_are_tables_and_chains_of_every_mode(lab):
    """Of kube-proxy's nftables mode and of iptables-nft; other tables and chains do not count."""
    namespace = lab.namespace("traces")
    namespace.run(["nft", "-f", "-"], input="table ip nat { chain KUBE-OTHER { }; }")
    assert namespace.call(kube_proxy_traces) == []

    text = "table ip6 kube-proxy { }\ntable ip nat { chain KUBE-SERVICES { }; }\n"
    namespace.run(["nft", "-f", "-"], input=text)
    assert namespace.call(kube_proxy_traces) == ["table ip6 kube-proxy", "chains of iptables-nft"]
