"""Whose changes of nfproxy's tables are reported: in a namespace, with real commits."""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.kernel.watched import ELEMENT, PROGRAM, Watched
from support.processes.commands import ORDINARY_USER

from nfproxy.dataplane import libnftables
from nfproxy.dataplane.announcements import Alike
from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.notifications import Damage, ForeignChanges
from nfproxy.errors import DataplaneError
from nfproxy.host.processes import set_process_name
from nfproxy.model.addresses import Family
from nfproxy.netlink.elements import element_question
from nfproxy.netlink.messages import generic, message
from nfproxy.netlink.nftables import DELETE_ELEMENTS, SUBSYSTEM, batch, delete_table
from nfproxy.netlink.sockets import NETLINK_NETFILTER
from nfproxy.nft import schema
from nfproxy.nft.schema import SCHEMAS
from nfproxy.reconcile.extent import Extent
from nfproxy.reconcile.transition import Operation


def test_our_own_changes_are_not_reported(watched: Watched) -> None:
    """
    Neither elements, which this process commits, nor the program, which a child process loads.
    """
    watched.kernel.commit([ELEMENT])
    watched.load(PROGRAM)

    assert watched.reported() == ""


@pytest.mark.parametrize(
    ("text", "damage", "what"),
    [
        (
            "add element ip nfproxy cluster-ips { 10.96.0.2 }",
            Damage.ELEMENTS,
            "changed table ip nfproxy",
        ),
        (
            "add element ip nfproxy cluster-ips { 10.96.0.3 }\nflush set ip nfproxy cluster-ips",
            Damage.ELEMENTS,
            "changed table ip nfproxy",
        ),
        (
            "add rule ip nfproxy services counter",
            Damage.STRUCTURE,
            "changed table ip nfproxy",
        ),
        (
            "flush chain ip nfproxy services",
            Damage.RULES,
            "deleted rules of chain services in table ip nfproxy",
        ),
        (
            "add chain ip nfproxy x\ndelete chain ip nfproxy x",
            Damage.STRUCTURE,
            "changed table ip nfproxy",
        ),
        ("delete table ip nfproxy", Damage.TABLE, "deleted table ip nfproxy"),
        ("flush ruleset", Damage.TABLE, "deleted table ip nfproxy"),
        (
            "flush chain ip nfproxy nat-output\ndelete chain ip nfproxy nat-output",
            Damage.BASE_CHAIN,
            "deleted base chain nat-output of table ip nfproxy",
        ),
        (
            "add table ip nfproxy { flags dormant; }",
            Damage.TABLE,
            "switched off (flag dormant) table ip nfproxy",
        ),
        (
            "add table ip zzz\nadd table ip other\nadd table ip6 nfproxy",
            Damage.STRUCTURE,
            "changed table ip6 nfproxy",
        ),
        (
            "add table ip nfproxy-next\ndelete table ip nfproxy-next",
            Damage.STRUCTURE,
            "deleted table nfproxy-next beside table ip nfproxy",
        ),
        (
            "add rule ip nfproxy services counter\nadd table ip6 nfproxy",
            Damage.STRUCTURE,
            "changed table ip nfproxy and ip6 nfproxy",
        ),
    ],
)
def test_changes_by_others_are_reported_with_process_damage_and_table(
    watched: Watched, text: str, damage: Damage, what: str
) -> None:
    """Changes to any part of the table, and transactions that begin with something else."""
    watched.nft(text)
    change = watched.change()

    assert change is not None
    assert change.text.startswith("nft (pid ")
    assert change.text.endswith(f") {what}")
    assert change.damage is damage
    assert change.families == {f for f in Family if f"{f.table} nfproxy" in what}
    assert watched.reported() == ""


def test_of_several_changes_the_worst_is_reported(watched: Watched) -> None:
    """A harmless change after a deletion must not hide it."""
    watched.nft("delete table ip nfproxy")
    watched.nft("add table ip6 nfproxy")
    change = watched.change()

    assert change is not None
    assert change.damage is Damage.TABLE
    assert change.families == set(Family)
    assert change.text.endswith("deleted table ip nfproxy")


@pytest.mark.parametrize(
    "text",
    [
        "add table ip other\nadd chain ip other nfproxy",
        "add table inet nfproxy",  # nfproxy has no table of this family
        "add table ip nfproxy-probe",
        'add table ip other { comment "nfproxy"; }',
    ],
)
def test_changes_to_other_tables_are_not_reported(watched: Watched, text: str) -> None:
    """Whatever their parts are called."""
    watched.nft(text)

    assert watched.reported() == ""


def test_lost_notifications_are_reported(watched: Watched) -> None:
    """One of them may have been about nfproxy's table."""
    watched.rest()
    small = watched.namespace.call(ForeignChanges, 0, 4096)
    rows = ", ".join(f"10.0.{i >> 8}.{i & 255}" for i in range(20_000))
    watched.nft(
        f"table ip other {{\n set s {{\n typeof ip daddr\n elements = {{ {rows} }}\n }}\n}}"
    )
    reported = small.read()
    small.close()

    assert reported is not None
    assert reported.damage is Damage.UNKNOWN
    assert (
        reported.text
        == "the kernel dropped announcements of changes, perhaps of table ip nfproxy or ip6 nfproxy"
    )
    assert watched.reported() == ""


def test_an_odd_process_name_is_quoted(watched: Watched, tmp_path: Path) -> None:
    """A process chooses its name, so a line break in it must not end the log line."""
    command = tmp_path / "nft\nERROR"
    command.symlink_to(shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin") or "")
    watched.namespace.run([str(command), "delete table ip nfproxy"])

    assert watched.reported().startswith(r"'nft\nERROR' (pid ")


def test_a_second_nfproxy_is_named(watched: Watched) -> None:
    """It commits elements itself, and loads rules in a child process."""
    second: Kernel = watched.namespace.call(Kernel)
    process = thread_name()
    try:
        set_process_name("nfproxy")
        second.commit([ELEMENT])
    finally:
        set_process_name(process)
    one = watched.reported()
    assert re.fullmatch(r"another nfproxy \(pid \d+.*\) changed table ip nfproxy", one)

    watched.namespace.call(second.load, PROGRAM)
    second.close()
    other = watched.reported()
    assert re.fullmatch(r"another nfproxy \(pid \d+.*\) .*table ip nfproxy", other)


def thread_name() -> str:
    """Return the name of this thread."""
    return Path("/proc/thread-self/comm").read_text().strip()


def test_a_program_that_we_load_does_not_fill_the_buffer(watched: Watched) -> None:
    """
    Without privileges over the machine the buffer is small, and its overflow would hide changes.
    """
    watched.rest()
    small = watched.namespace.call(ForeignChanges, 0, 4096)
    watched.kernel._foreign_changes, real = small, watched.foreign
    rows = ", ".join(f"10.0.{i >> 8}.{i & 255}" for i in range(20_000))
    watched.load(f"add element ip nfproxy cluster-ips {{ {rows} }}")
    watched.kernel._foreign_changes = real

    assert small.read() is None
    watched.nft("add element ip nfproxy cluster-ips { 10.96.0.2 }")
    reported = small.read()
    small.close()
    assert reported is not None
    assert reported.text.startswith("nft (pid ")


#: Deletes the table from a socket whose port is this process's id, as sockets' ports usually are.
DELETE_TABLE = """
import os, sys
sys.path[:0] = {path}
from nfproxy.netlink.nftables import delete_table
from nfproxy.netlink.sockets import NftSocket
with NftSocket() as netlink:
    assert netlink.port == os.getpid()
    netlink.commit([delete_table(2, "nfproxy")])
"""

#: Holds the ports that the next processes here would get, and says when it has them.
HOLD_PORTS = """
import os, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
held = []
for port in range(os.getpid() + 1, os.getpid() + 900):
    held.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
    held[-1].bind((port, 0))
print("ready", flush=True)
input()
"""


def test_a_process_with_the_id_of_our_child_is_not_taken_for_us(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pid namespaces suffice for that. Whose socket commits decides, not a process id."""
    stranger = tmp_path / "stranger.py"
    stranger.write_text(DELETE_TABLE.format(path=sys.path))
    watched.rest()
    monkeypatch.setattr(libnftables, "_CHILD", stranger)
    with pytest.raises(DataplaneError, match="ended with status 0"):
        watched.load("")

    assert "deleted table ip nfproxy" in watched.reported()


def test_held_ports_do_not_make_our_own_changes_look_foreign(watched: Watched) -> None:
    """Any user may bind a netlink socket to any free port, such as our next child's process id."""
    holder = watched.namespace.start(
        [*ORDINARY_USER, sys.executable, "-c", HOLD_PORTS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"ready\n"
        for _ in range(3):
            watched.load(PROGRAM)
            watched.kernel.commit([ELEMENT])
        assert watched.reported() == ""
    finally:
        watched.namespace.stop(holder)


def test_after_a_load_its_port_is_a_strangers_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port belongs to us as long as our socket has it, and no longer."""
    ports: list[int] = []
    run = libnftables.Child

    def recorded(*, netlink: socket.socket) -> libnftables.Child:
        ports.append(netlink.getsockname()[0])
        return run(netlink=netlink)

    monkeypatch.setattr(libnftables, "Child", recorded)
    watched.rest()
    watched.load(PROGRAM)
    watched.load(PROGRAM)
    watched.rest()
    assert len(ports) == 1
    assert watched.reported() == ""
    stranger = watched.namespace.call(bound_to, ports[0])
    stranger.send(batch([delete_table(Family.IPV4, "nfproxy")], 2))
    stranger.close()

    assert "deleted table ip nfproxy" in watched.reported()


def bound_to(port: int) -> socket.socket:
    """Return a netlink socket with a port."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    opened.bind((port, 0))
    return opened


ALL_SETS = {(Family.IPV4, name) for name in SCHEMAS}
FRONTEND = bytes((10, 96, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0))


@pytest.mark.parametrize(
    ("text", "extent"),
    [
        (
            "add element ip nfproxy cluster-ips { 10.96.0.1, 10.96.0.2 }",
            Extent({(Family.IPV4, "cluster-ips"): {b"\n`\0\1", b"\n`\0\2"}}),
        ),
        (
            "add element ip nfproxy frontends { 10.96.0.1 . tcp . 80 : drop }",
            Extent({(Family.IPV4, "frontends"): {FRONTEND}}),
        ),
        ("add set ip nfproxy theirs { typeof ip saddr; }", Extent()),
        ("add counter ip nfproxy theirs", Extent()),
        ("insert rule ip nfproxy services drop", Extent(rules=True)),
        ("add chain ip nfproxy theirs", Extent(rules=True, chains=True)),
        ("rename chain ip nfproxy services theirs", Extent(rules=True, chains=True)),
        ("flush chain ip nfproxy services", Extent(rules=True)),
        ("add table ip nfproxy { flags dormant; }", Extent(rules=True)),
        ("delete table ip nfproxy", Extent(sets=ALL_SETS, rules=True, chains=True)),
        (
            "delete table ip nfproxy\nadd table ip nfproxy\n"
            "add map ip nfproxy frontends { typeof ip saddr : verdict; }",
            Extent(everything=True),
        ),
    ],
)
def test_a_change_says_what_its_repair_has_to_look_at(
    watched: Watched, text: str, extent: Extent
) -> None:
    """Single elements, the rules, the verdicts that lead to chains, or everything."""
    watched.nft(text)
    change = watched.change()

    assert change is not None
    if extent.everything:
        assert change.extent.everything
    else:
        assert change.extent == extent


def test_several_changes_are_looked_at_together(watched: Watched) -> None:
    """Whatever commits they came in."""
    watched.nft("add element ip nfproxy cluster-ips { 10.96.0.1 }")
    watched.nft("add element ip nfproxy cluster-ips { 10.96.0.2 }")
    watched.nft("insert rule ip nfproxy services drop")
    change = watched.change()

    assert change is not None
    keys = {b"\n`\0\1", b"\n`\0\2"}
    assert change.extent == Extent({(Family.IPV4, "cluster-ips"): keys}, rules=True)


@pytest.mark.parametrize(("count", "map_name"), [(1000, "cluster-ips"), (5000, "endpoints-tcp")])
def test_a_flush_says_which_elements_it_deleted(
    watched: Watched, count: int, map_name: str
) -> None:
    """And what was changed behind them in the same transaction; of very many, which set."""
    value = bytes((10, 244, 0, 1, 0, 80, 0, 0)) if map_name in schema.ENDPOINTS.values() else None
    slot = bytes((0, 80, 0, 0, 0, 0, 0, 0)) if value else b""
    keys = {number.to_bytes(4, "big") + slot for number in range(count)}
    family = Family.IPV4
    watched.kernel.commit([Operation(True, family, map_name, key, value) for key in keys])
    watched.nft(
        f"flush {'map' if value else 'set'} ip nfproxy {map_name}\n"
        "insert rule ip nfproxy services drop\n"
        "add element ip nfproxy frontends { 10.96.0.1 . tcp . 80 : drop }\n"
    )
    change = watched.change()

    assert change is not None
    assert change.extent.rules
    assert change.extent.elements[family, "frontends"] == {FRONTEND}
    if count == 1000:
        assert change.extent.elements[family, map_name] == keys
    else:
        assert change.extent.sets == {(family, map_name)}


def test_messages_that_differ_in_more_than_the_key_are_not_alike() -> None:
    """One of another set, of another length, or cut short."""
    one = Alike.of(deletion("cluster-ips", b"\n`\0\1"))

    assert one is not None
    assert one.keys(deletion("cluster-ips", b"\n`\0\2") * 2) == [b"\n`\0\2"] * 2
    for other in (
        deletion("cluster-ipz", b"\n`\0\1"),
        deletion("cluster-ips", b"\n`\0\1\0\0\0\0"),
        deletion("cluster-ips", b"\n`\0\1")[:-4],
    ):
        assert one.keys(other) is None
        assert one.keys(deletion("cluster-ips", b"\n`\0\1") + other) is None


def deletion(name: str, key: bytes) -> bytes:
    """Return a message as the kernel announces a deleted element."""
    payload = generic(Family.IPV4) + element_question(Family.IPV4, "cluster-ips", key)
    return message(SUBSYSTEM << 8 | DELETE_ELEMENTS, 0, 1, payload).replace(
        b"cluster-ips", name.encode()
    )
