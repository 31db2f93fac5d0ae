"""
What was asked about: the WHAT of ``nfproxy explain`` and of other commands, parsed.

::

    NAMESPACE/NAME[:PORT]      a Service, PORT by name or number
    NAME[:PORT]                the same in the namespace of -n
    ADDRESS[:PORT[/PROTOCOL]]  a cluster IP, load-balancer IP, external IP, pod or node
    [ADDRESS]:PORT[/PROTOCOL]  the same for IPv6
    NAME.NAMESPACE.svc[:PORT]  a Service by its name in DNS
    SCHEME://…/…               the host and port of a URL, as one of the above
    :PORT[/PROTOCOL]           a node port
"""

from __future__ import annotations

import re

import msgspec

from nfproxy.errors import InputError
from nfproxy.kube.identity import DEFAULT_NAMESPACE, label
from nfproxy.model.addresses import Family, family_of, format_address, parse_address
from nfproxy.model.service import ObjectName, Protocol
from nfproxy.text import quoted

_FORMS = "write NAMESPACE/NAME[:PORT], ADDRESS[:PORT[/udp]], [IPV6]:PORT or :NODEPORT"
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/@]*@)?([^/?#]*).*", re.DOTALL)
_IN_DNS = re.compile(r"([^./]+)\.([^./]+)(?:\.svc(?:\.[^/]*)?)?")
#: As in ``kubectl -n shop get svc/web``.
_KUBECTL_KINDS = ("svc", "service", "services")
_PROTOCOLS = {protocol.word: protocol for protocol in Protocol}


class ServiceQuestion(msgspec.Struct, frozen=True):
    """About a Service; `port` is a port's name or number as text, "" for all its ports."""

    name: ObjectName
    port: str = ""

    def __str__(self) -> str:
        """Return ``shop/web:http``."""
        return f"{self.name}:{self.port}" if self.port else str(self.name)


class AddressQuestion(msgspec.Struct, frozen=True):
    """
    About an address, `port` 0 for all ports; or a node port, where `address` is b"".

    `protocol` is None where none was named.
    """

    address: bytes
    port: int = 0
    protocol: Protocol | None = None

    @property
    def family(self) -> Family | None:
        """The address's family, None for a node port."""
        return family_of(self.address) if self.address else None

    def __str__(self) -> str:
        """Return ``10.96.0.10:80/udp``, ``[fd00::1]:80`` or ``:30080``."""
        if not self.address:
            text = ""
        elif self.port and len(self.address) == Family.IPV6.size:
            text = f"[{format_address(self.address)}]"
        else:
            text = format_address(self.address)
        tail = f":{self.port}" if self.port else ""
        return text + tail + (f"/{self.protocol.word}" if self.protocol else "")


Question = ServiceQuestion | AddressQuestion


def parse_question(text: str, namespace: str = "") -> Question:
    """
    Return what a text asks about; a name alone is a Service in `namespace`, "" for the default.

    A text that is an address is never taken as a name. Raises InputError.
    """
    asked = _URL.sub(r"\1", text.strip())
    if asked.startswith("[") or (asked.startswith(":") and not asked.startswith("::")):
        return _address_and_port(asked, text)
    if _is_address(asked):
        return AddressQuestion(parse_address(asked))
    for sign, why in (("%", "an address of a Service has no zone"), ("/", "name one address")):
        address, found, _ = asked.partition(sign)
        if found and _is_address(address):
            raise InputError(f"{quoted(text)}: {why}", _FORMS)
    head, colon, _ = asked.partition(":")
    if colon and _is_address(head):
        return _address_and_port(asked, text)
    return _service(asked, text, namespace)


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except InputError:
        return False
    return True


def _address_and_port(asked: str, text: str) -> AddressQuestion:
    host, colon, tail = asked.rpartition(":")
    if asked.endswith("]"):  # [fd00::1]
        host, colon, tail = asked, "", ""
    number, slash, word = tail.partition("/")
    address = b""
    if host:
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            address = parse_address(bare)
        except InputError as error:
            raise InputError(f"{quoted(text)}: {error.what}", _FORMS) from None
    if not colon:
        return AddressQuestion(address)
    if not (number.isascii() and number.isdigit() and len(number) < 6 and 0 < int(number) < 65536):
        raise InputError(f"{quoted(text)}: {quoted(number)} is not a port (1 to 65535)", _FORMS)
    protocol = _PROTOCOLS.get(word.lower()) if slash else None
    if slash and protocol is None:
        raise InputError(f"{quoted(text)}: {quoted(word)} is not tcp, udp or sctp", _FORMS)
    return AddressQuestion(address, int(number), protocol)


def _service(asked: str, text: str, namespace: str) -> ServiceQuestion:
    path, _, port = asked.partition(":")
    before, slash, after = path.partition("/")
    if found := _IN_DNS.fullmatch(path):  # no name of a Service has a dot
        before, slash, after = found[2], "/", found[1]
    elif before in _KUBECTL_KINDS and namespace:
        before, after = namespace, after
    space, name = (before, after) if slash else (namespace or DEFAULT_NAMESPACE, before)
    try:
        return ServiceQuestion(ObjectName(label(space), label(name)), port)
    except InputError as error:
        raise InputError(f"{quoted(text)}: {error.what}", _FORMS) from None
