"""Every kind of change by another process is repaired, and then nothing differs."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from support.kernel.foreignchanges import ADDRESS, KINDS, script
from support.processes.commands import (
    Commands,
    Daemon,
    endpoint_slice,
    node_object,
    service,
    wait_until,
    write,
)

from nfproxy.errors import TransactionError
from nfproxy.model.addresses import Family
from nfproxy.netlink.messages import NLM_F_CREATE, attribute, string
from nfproxy.netlink.nftables import DELETE_TABLE, NEW_TABLE, TABLE_NAME, Request
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import TABLE
from nfproxy.tools.lab import Lab

PODS = [f"10.244.1.{number}" for number in range(1, 11)]


class Served:
    """A node with a daemon, and what its tables hold."""

    def __init__(self, commands: Commands, daemon: Daemon) -> None:
        self.commands = commands
        self.daemon = daemon
        self.tables = self.listing()

    def listing(self) -> dict[str, Counter[str]]:
        """
        Return the words of each table, as nft prints them, without what has counted.

        A table's comment cannot be added to one that is there: a table of theirs has none.
        """
        listed = self.commands.namespace.run(["nft", "--stateless", "list", "ruleset"]).stdout
        listed = re.sub(r'^\tcomment "nfproxy layout.*\n', "", listed, flags=re.MULTILINE)
        tables = re.split(r"^(?=table )", listed, flags=re.MULTILINE)
        return {text.partition("{")[0]: Counter(text.replace(",", " ").split()) for text in tables}


@pytest.fixture(scope="module")
def served(namespaces_allowed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    scratch = tmp_path_factory.mktemp("node")
    manifests = scratch / "manifests"
    manifests.mkdir()
    write(manifests / "node.json", node_object())
    write(manifests / "web.json", service(cluster_ip=ADDRESS))
    write(manifests / "slice.json", endpoint_slice("web", *PODS))
    with Lab() as lab:
        commands = Commands(lab.namespace("node"), scratch)
        commands.namespace.run(["ip", "link", "set", "lo", "up"])
        with commands.daemon(manifests) as daemon:
            yield Served(commands, daemon)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_is_undone(served: Served, kind: str) -> None:
    """Whatever it was, the tables are afterwards what they were before."""
    served.commands.nft(script(kind))
    wait_until(lambda: served.listing() == served.tables)

    assert served.listing() == served.tables


_TABLE_FLAGS = attribute(2, (2 | 4).to_bytes(4, "big"))  # NFTA_TABLE_FLAGS: owner, persist


def test_a_table_that_outlived_its_owner_is_replaced(served: Served) -> None:
    """
    The kernel refuses all that nfproxy could do with a table of flag persist, but its deletion.

    While its owner lives, nothing can be done.
    """
    name = string(TABLE_NAME, TABLE)
    with served.commands.namespace.call(NftSocket) as owner:
        try:
            owner.commit(
                [
                    Request(DELETE_TABLE, Family.IPV4, name, 0),
                    Request(NEW_TABLE, Family.IPV4, name + _TABLE_FLAGS, NLM_F_CREATE),
                ]
            )
        except TransactionError:
            pytest.skip("this kernel has no such flag: it is older than 6.9")
        assert served.listing() != served.tables
    wait_until(lambda: served.listing() == served.tables)
    assert "table ip nfproxy has the flag persist" in served.daemon.log
