"""The kernel of a namespace of the lab, called from outside of it."""

from collections.abc import Iterable, Sequence
from typing import Self

from nfproxy.dataplane import libnftables
from nfproxy.dataplane.kernel import Kernel
from nfproxy.model.addresses import Family
from nfproxy.netlink.elements import raw_elements
from nfproxy.netlink.nftables import ChainRow, TableRow
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.chains import is_clients_map
from nfproxy.nft.schema import TABLE, Value, number_of
from nfproxy.plan.frontendnames import FrontendNames
from nfproxy.reconcile.transition import Operation
from nfproxy.tools.lab import Namespace


class RealKernel:
    """A Dataplane for the reconciler: nfproxy's own, in a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        """Open a netlink socket inside."""
        self.namespace = namespace
        self.kernel: Kernel = namespace.call(Kernel)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self.kernel.close()

    def load(self, text: str) -> None:
        """Run an nft script."""
        self.namespace.call(libnftables.load_text, text)

    @property
    def transaction_limit(self) -> int | None:
        """The most bytes of one transaction, None for no limit."""
        return self.kernel.transaction_limit

    def commit(self, operations: Sequence[Operation]) -> None:
        """Commit element operations."""
        self.kernel.commit(operations)

    def commit_all(self, transactions: Iterable[Sequence[Operation]]) -> None:
        """Commit one after the other: `load` has a socket of its own, and waits for nothing."""
        for operations in transactions:
            self.commit(operations)

    def use_names(self, names: FrontendNames) -> None:
        """Write frontends with these names."""
        self.kernel.use_names(names)

    def expect_load(self) -> None:
        """Prepare nothing: each load has a child of its own."""

    @property
    def rest_at(self) -> None:
        """Nothing is to be ended."""

    def rest(self) -> None:
        """End nothing."""

    @property
    def table(self) -> str:
        """The name of the tables that are worked on."""
        return self.kernel.table

    @table.setter
    def table(self, name: str) -> None:
        self.kernel.table = name

    def table_row(self, family: Family, table: str) -> TableRow | None:
        """Return a table, None if there is none."""
        return self.kernel.table_row(family, table)

    def chains(self, family: Family, table: str = "") -> list[ChainRow]:
        """Return the chains of a table."""
        return self.kernel.chains(family, table)

    def elements(self, family: Family, name: str) -> list[tuple[bytes, Value]]:
        """Return a set's elements."""
        return list(self.kernel.elements(family, name))

    def find(self, family: Family, name: str, keys: Iterable[bytes]) -> list[tuple[bytes, Value]]:
        """Return those elements of a set that have one of some keys."""
        return list(self.kernel.find(family, name, keys))

    def set_names(self, family: Family) -> list[str]:
        """Return the names of a table's sets and maps."""
        return self.kernel.set_names(family)

    def clients(self, family: Family) -> dict[tuple[str, bytes], int]:
        """Return the remembered clients by map and address: the numbers of their endpoints."""
        return clients_in(self.namespace, family)

    def rules(self, family: Family) -> dict[str, list[str]]:
        """Return the rules of each chain as `nft list` prints them; {} without a table."""
        done = self.namespace.run(
            ["nft", "--terse", "list", "table", family.table, "nfproxy"], check=False
        )
        return chains_of(done.stdout)


def clients_in(namespace: Namespace, family: Family) -> dict[tuple[str, bytes], int]:
    """Return remembered clients by map and address: the numbers of their endpoints."""
    found: dict[tuple[str, bytes], int] = {}
    with namespace.call(NftSocket) as netlink:
        for name in (row.name for row in netlink.sets(family, TABLE)):
            for data in netlink.elements(family, TABLE, name) if is_clients_map(name) else ():
                for key, value, _, _ in raw_elements(data):
                    assert isinstance(value, bytes)
                    found[name, key] = number_of(value, 0)
    return found


def chains_of(listing: str) -> dict[str, list[str]]:
    """Return the lines of each chain of a table's listing."""
    chains: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in map(str.strip, listing.splitlines()):
        if line.startswith("chain "):
            current = chains[line.split()[1]] = []
        elif line == "}":
            current = None
        elif current is not None:
            current.append(line)
    return chains
