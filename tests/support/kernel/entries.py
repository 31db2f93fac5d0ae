"""
Conntrack entries put into a namespace, and read back, by pyroute2: another reader than ours.

::

    entries = Entries(namespace)
    entries.add("10.96.0.1:53", "10.244.1.1:5353")
    assert entries.listed() == {"10.96.0.1:53 > 10.244.1.1:5353"}
"""

from __future__ import annotations

import itertools
import socket
from typing import Any

from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import port_bytes
from nfproxy.tools.lab import Namespace

_STATUS = 0x2 | 0x8  # IPS_SEEN_REPLY, IPS_CONFIRMED
_CLIENTS = {Family.IPV4: "192.0.2.1", Family.IPV6: "2001:db8::1"}
_SYN_SENT = {"attrs": [["CTA_PROTOINFO_TCP", {"attrs": [["CTA_PROTOINFO_TCP_STATE", 1]]}]]}


def destination(text: str) -> bytes:
    """Return ``address:port`` as the kernel's maps hold it; the last colon is the port's."""
    address, _, port = text.rpartition(":")
    return parse_address(address) + port_bytes(int(port))


class Entries:
    """The entries of one namespace, written ``whom the client asked > who answers it``."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._client_ports = itertools.count(1024)

    def add(
        self,
        asked: str,
        answers: str,
        protocol: Protocol = Protocol.UDP,
        *,
        zone: int | None = None,
        client_port: int = 0,
    ) -> None:
        """Make an entry of a new client port, as if a packet had been translated."""
        address, _, port = asked.rpartition(":")
        source, _, source_port = answers.rpartition(":")
        family = Family.IPV6 if ":" in address else Family.IPV4
        client, client_port = _CLIENTS[family], client_port or next(self._client_ports)
        fields: dict[str, Any] = {
            "tuple_orig": NFCTAttrTuple(
                family, client, address, protocol.value, client_port, int(port)
            ),
            "tuple_reply": NFCTAttrTuple(
                family, source, client, protocol.value, int(source_port), client_port
            ),
            "status": _STATUS,
            "timeout": 600,
            "zone": zone,
        }
        if protocol is Protocol.TCP:
            fields["protoinfo"] = _SYN_SENT
        self._namespace.call(_change, family, "add", fields)

    def listed(self) -> set[str]:
        """Return all entries of both families; those of another protocol than UDP name it."""
        return {text for family in FAMILIES for text in self._namespace.call(_list, family)}


def _change(family: Family, command: str, fields: dict[str, Any]) -> None:
    with NFCTSocket(nfgen_family=family.value) as netlink:
        netlink.entry(command, **fields)


def _list(family: Family) -> list[str]:
    with NFCTSocket(nfgen_family=family.value) as netlink:
        return [_text(family, message) for message in netlink.dump()]


def _text(family: Family, message: Any) -> str:
    asked = NFCTAttrTuple.from_netlink(family, message.get_attr("CTA_TUPLE_ORIG"))
    answers = NFCTAttrTuple.from_netlink(family, message.get_attr("CTA_TUPLE_REPLY"))
    text = f"{asked.daddr}:{asked.dport} > {answers.saddr}:{answers.sport}"
    return text if asked.proto == socket.IPPROTO_UDP else f"{text} {asked.proto_name().lower()}"
