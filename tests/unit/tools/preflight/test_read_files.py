"""
Files of a host, below a directory that stands for its root.
"""

import os
from pathlib import Path

import pytest

from nfproxy.errors import InputError
from nfproxy.tools.preflight.read.files import Root
from nfproxy.tools.preflight.read.hostfiles import read_host_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with an /etc, beside a file that is none of its business."""
    (tmp_path / "outside").write_text("secret")
    made = tmp_path / "root"
    (made / "etc").mkdir(parents=True)
    return made


def test_links_never_lead_out(root: Path) -> None:
    """
    Absolute ones start at the host's root, and .. ends there.
    """
    (root / "outside").write_text("the host's")
    (root / "etc/absolute").symlink_to("/outside")
    (root / "etc/relative").symlink_to("../../../../outside")
    (root / "etc/folder").symlink_to("/etc")
    host = Root(root)

    assert host.read("/etc/absolute") == "the host's"
    assert host.read("/etc/relative") == "the host's"
    assert host.read("/etc/folder/folder/absolute") == "the host's"
    assert host.read("../outside") == "the host's"


def test_what_cannot_be_read_is_said(root: Path) -> None:
    """
    A circle of links, a pipe without a writer, a directory: none of them hangs or crashes.
    """
    (root / "etc/a").symlink_to("b")
    (root / "etc/b").symlink_to("a")
    os.mkfifo(root / "etc/pipe")
    host = Root(root)

    assert host.read("/etc/none") is None
    assert host.read("/etc/none/at/all") is None
    troubles = {"/etc/a": "symbolic links", "/etc/pipe": "no file", "/etc": "no file"}
    for path, words in troubles.items():
        with pytest.raises(InputError, match=words):
            host.read(path)
    with pytest.raises(InputError, match="null"):
        host.read("/etc/\0")


def test_contents_are_bounded_and_need_not_be_text(root: Path) -> None:
    """
    A megabyte is enough of a configuration.
    """
    (root / "etc/large").write_bytes(b"\xff" + b"a" * (2 << 20))

    text = Root(root).read("/etc/large")
    assert text is not None
    assert len(text) == 1 << 20
    assert text.startswith("\N{REPLACEMENT CHARACTER}a")


def test_an_empty_host_says_nothing(root: Path) -> None:
    """
    Nor does one whose root is not there.
    """
    for directory in (root, root / "none"):
        found = read_host_files(Root(directory), seen=True)
        assert (found.flushing, found.reloaded, found.troubles) == ((), (), ())


@pytest.mark.parametrize(
    ("text", "flushes"),
    [
        ("flush ruleset\n", True),
        ("#!/usr/sbin/nft -f\n\tflush\t ruleset ip\n", True),
        ("# flush ruleset\ntable inet filter { }\n", False),
        ("flush table inet filter\n", False),
        ("\x00\xff flush rulesets", False),
        ('include "/etc/nft.d/*.conf"\n', True),
        ("include 'nft.d/b.conf'\n", True),
        ('include "/etc/nft.d/a.conf"\n', False),
        ('include "/etc/../../../etc/nft.d/b.conf"\n', True),
        ('include "/etc/main.conf"\ninclude "/etc/loop"\n', False),
    ],
)
@pytest.mark.parametrize("place", ["nftables.conf", "sysconfig/nftables.conf"])
def test_files_that_flush(root: Path, place: str, text: str, flushes: bool) -> None:
    """
    Itself, or by what it includes; comments do not count.
    """
    for path, content in {
        "etc/nft.d/a.conf": "add table ip a\n",
        "etc/nft.d/b.conf": "flush ruleset\n",
        "etc/main.conf": f'include "/etc/{place}"\n',
        f"etc/{place}": text,
    }.items():
        (root / path).parent.mkdir(exist_ok=True, parents=True)
        (root / path).write_text(content)

    found = read_host_files(Root(root), seen=True)
    assert found.flushing == ((f"/etc/{place}",) if flushes else ())


def test_services_that_are_enabled(root: Path) -> None:
    """
    systemd's way of saying so, and OpenRC's; other services are nobody's business.
    """
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    for name in ("nftables.service", "firewalld.service", "ssh.service", "iptables.service"):
        (wants / name).symlink_to(f"/usr/lib/systemd/system/{name}")
    (root / "etc/runlevels/default").mkdir(parents=True)
    (root / "etc/runlevels/default/nftables").symlink_to("/etc/init.d/nftables")
    (root / "etc/firewalld").mkdir()
    (root / "etc/firewalld/firewalld.conf").write_text(
        "# FlushAllOnReload=no\nFlushAllOnReload=yes\nFirewallBackend = iptables\n=\n"
    )
    found = read_host_files(Root(root), seen=True)

    assert found.reloaded == ("nftables", "nftables.service")
    assert found.iptables == ("iptables.service",)
    assert found.firewalld_enabled
    assert found.firewalld == {"FlushAllOnReload": "yes", "FirewallBackend": "iptables"}


def test_what_takes_for_ever_to_look_through_is_looked_through_once(root: Path) -> None:
    """
    A megabyte of empty lines, of which each could be the beginning of something.
    """
    (root / "etc/firewalld").mkdir()
    (root / "etc/firewalld/firewalld.conf").write_text("\n" * 600_000 + "FlushAllOnReload=yes\n")
    (root / "etc/nftables.conf").write_text("\n" * 600_000 + "flush ruleset\n")

    found = read_host_files(Root(root), seen=True)

    assert found.firewalld == {"FlushAllOnReload": "yes"}
    assert found.flushing == ("/etc/nftables.conf",)


def test_what_network_plugins_have_pinned(root: Path) -> None:
    """
    Also where the rest of the host cannot be seen: /sys is the same in a container.
    """
    (root / "sys/fs/bpf/cilium/socketlb").mkdir(parents=True)
    (root / "sys/fs/bpf/tc/globals/cilium_lb4_reverse_sk").mkdir(parents=True)
    (root / "sys/fs/bpf/tc/globals/mine").mkdir()
    found = read_host_files(Root(root), seen=False)

    assert not found.seen
    assert found.pins == ("cilium/socketlb", "cilium_lb4_reverse_sk")
