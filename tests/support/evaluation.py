"""
Packets to everything that a script serves, and what the evaluator says becomes of them.

Each address and port of a script is asked for by a pod, another node's pod, an outside client and a
process of the node.
"""

import re
from collections.abc import Iterator

from nfproxy.insight.evaluate import evaluate
from nfproxy.insight.packet import NodeAddresses, Packet
from nfproxy.insight.tabletext import RuleTable
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.service import Protocol

NODE_IPS = {
    Family.IPV4: parse_address("192.168.1.11"),
    Family.IPV6: parse_address("fd00:192:168:1::11"),
}
NODE = NodeAddresses(frozenset(NODE_IPS.values()))
#: Where packets come in, and from which address; the last by an interface without a pod.
CLIENTS = {
    Family.IPV4: {"10.244.1.99": "cni0", "10.244.2.99": "eth0", "203.0.113.77": "eth0"},
    Family.IPV6: {"fd00:10:244:1::99": "cni0", "fd00:10:244:2::99": "eth0", "2001:db8::7": "eth0"},
}
_FRONTEND = re.compile(r"^\s*(?:elements = \{ )?([0-9a-f.:]+) \. (tcp|udp|sctp) \. (\d+)\b", re.M)
_NODE_PORT = re.compile(r"^\s*(?:elements = \{ )?(tcp|udp|sctp) \. (\d+)\b", re.M)

Asked = tuple[Packet, list[str]]


def packets(text: str, family: Family) -> Iterator[Packet]:
    """Yield packets to every frontend in a script, and to a port next to each."""
    found = {
        (address, protocol, int(port))
        for address, protocol, port in _FRONTEND.findall(text)
        if (":" in address) == (family is Family.IPV6)
    }
    found |= {("", protocol, int(port)) for protocol, port in _NODE_PORT.findall(text)}
    found |= {(address, protocol, port + 1) for address, protocol, port in found}
    for address, protocol, port in sorted(found):
        to = parse_address(address) if address else NODE_IPS[family]
        number = Protocol[protocol.upper()]
        for source, interface in CLIENTS[family].items():
            yield Packet(parse_address(source), to, number, port, interface)
        yield Packet(NODE_IPS[family], to, number, port, "")


def evaluated(text: str, asked: str) -> list[Asked]:
    """Return what becomes of each packet that `asked` suggests, in the tables of a text."""
    tables = {family: RuleTable(text, family) for family in FAMILIES}
    return [
        (packet, sorted(str(one) for one in evaluate(tables[family], packet, NODE)))
        for family in FAMILIES
        for packet in packets(asked, family)
    ]
