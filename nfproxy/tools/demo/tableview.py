"""Reads nfproxy's tables in a node's kernel: sizes, endpoint counts, the elements of a frontend."""

from __future__ import annotations

from typing import NamedTuple

from nfproxy.closing import Closing
from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.libnftables import load_text
from nfproxy.model.addresses import FAMILIES, Family, family_of, parse_address
from nfproxy.model.service import Protocol
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft import schema
from nfproxy.nft.chains import shape_of
from nfproxy.tools.demo.results import TableSize
from nfproxy.tools.lab import LabNode


class ElementRow(NamedTuple):
    """An element in nft's notation, and its map."""

    map: str
    element: str


class Tables(Closing):
    """Reads the nfproxy tables of a node. A context manager; one thread at a time uses it."""

    def __init__(self, node: LabNode) -> None:
        self.node = node
        # The socket stays in the node's network namespace, whichever thread uses it.
        self._kernel: Kernel = node.namespace.call(Kernel)

    def close(self) -> None:
        """Close its socket. Idempotent."""
        self._kernel.close()

    def size(self, when: str) -> TableSize:
        """Count chains, rules and elements of both families."""
        return TableSize(
            when,
            chains=sum(len(self._kernel.chains(family)) for family in FAMILIES),
            rules=self.node.namespace.call(_count_rules),
            elements=sum(
                self.count(family, name) for family in FAMILIES for name in schema.SCHEMAS
            ),
        )

    def count(self, family: Family, name: str) -> int:
        """Return how many elements a set or map has."""
        return sum(1 for _ in self._kernel.elements(family, name))

    def frontends(self) -> tuple[int, int]:
        """Return the numbers of frontends without node ports, and of TCP slots."""
        names = (schema.FRONTENDS, schema.ENDPOINTS[Protocol.TCP])
        frontends, slots = (sum(self.count(f, name) for f in FAMILIES) for name in names)
        return frontends, slots

    def endpoints(self, address: str, port: int) -> int:
        """Return the number of endpoints of a TCP frontend, 0 where there is none."""
        packed = parse_address(address)
        key = packed + schema.protocol_bytes(Protocol.TCP) + schema.port_bytes(port)
        verdict = dict(self._kernel.elements(family_of(packed), schema.FRONTENDS)).get(key)
        shape = shape_of(verdict) if isinstance(verdict, schema.Verdict) else None
        return shape.cluster if shape else 0

    def rows(self, address: str, port: int) -> list[ElementRow]:
        """Return the elements that make up a TCP frontend."""
        packed = parse_address(address)
        family = family_of(packed)
        numbers = schema.port_bytes(port)
        tcp = schema.protocol_bytes(Protocol.TCP)
        slots = schema.ENDPOINTS[Protocol.TCP]
        starts = [
            (schema.FRONTENDS, packed + tcp + numbers),
            (slots, packed + numbers),
            (schema.CLUSTER_IPS, packed),
        ]
        return [
            ElementRow(name, schema.format_element(schema.SCHEMAS[name], key, value, family))
            for name, start in starts
            for key, value in sorted(self._kernel.elements(family, name))
            if key.startswith(start)
        ]

    def chain(self, family: Family, name: str) -> str:
        """Return a chain as nft lists it."""
        text = self.node.namespace.call(
            load_text, f"list chain {family.table} {schema.TABLE} {name}\n"
        )
        lines = text.splitlines()[1:-1]  # without the table's own line and brace
        return "\n".join(line.removeprefix("\t").replace("\t", "    ") for line in lines)

    def run_nft(self, command: str) -> None:
        """Run an nft command on the node, as any other program there could."""
        self.node.namespace.call(load_text, f"{command}\n")


def _count_rules() -> int:
    """Return how many rules the nfproxy tables of this network namespace have."""
    with NftSocket() as netlink:
        return sum(1 for family in FAMILIES for _ in netlink.rules(family, schema.TABLE))
