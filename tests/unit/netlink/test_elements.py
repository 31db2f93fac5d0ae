"""Elements as netlink bytes: encoded for the kernel, and decoded from a listing."""

import struct

import pytest
from support.kernel.real import RealKernel

from nfproxy.errors import DataplaneError, TransactionError
from nfproxy.model.addresses import FAMILIES, Family, parse_address, parse_prefix
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import Protocol
from nfproxy.netlink.elements import element_requests, join_ranges, raw_elements
from nfproxy.netlink.messages import attributes, messages, string
from nfproxy.netlink.nftables import batch
from nfproxy.nft import ruleset, schema
from nfproxy.nft.schema import SCHEMAS, Value
from nfproxy.reconcile.transition import Operation

V4, V6 = Family.IPV4, Family.IPV6
IP, TCP, PORT = parse_address("10.96.0.1"), schema.protocol_bytes(6), schema.port_bytes(80)
POD = parse_address("10.244.1.5") + schema.port_bytes(8080)
TCP_SLOTS = schema.ENDPOINTS[Protocol.TCP]
SLOT = Operation(True, V4, TCP_SLOTS, IP + PORT + schema.number_bytes(2), POD)


def span(text: str) -> bytes:
    return schema.prefix_key(parse_prefix(text))


def head(length: int, kind: int) -> str:
    """Return an attribute's length and type."""
    return struct.pack("=HH", length, kind).hex()


NESTED = 0x8000

# (operation, the bytes of its element in a list)
GOLDEN = [
    (
        Operation(True, V4, schema.CLUSTER_IPS, IP),
        head(16, 1 | NESTED) + head(12, 1 | NESTED) + head(8, 1) + "0a600001",
    ),
    (
        SLOT,
        head(40, 1 | NESTED)
        + (head(20, 1 | NESTED) + head(16, 1) + "0a600001" + "00500000")
        + struct.pack("=I", 2).hex()
        + (head(16, 2 | NESTED) + head(12, 1) + "0af40105" + "1f900000"),
    ),
    (
        Operation(True, V4, schema.NODE_PORTS, TCP + PORT, schema.goto("web")),
        head(44, 1 | NESTED)
        + (head(16, 1 | NESTED) + head(12, 1) + "06000000" + "00500000")
        + head(24, 2 | NESTED)
        + (head(20, 2 | NESTED) + head(8, 1) + "fffffffc" + head(8, 2) + "77656200"),
    ),
    (
        Operation(True, V4, schema.NODE_PORTS, TCP + PORT, schema.DROP),
        head(36, 1 | NESTED)
        + (head(16, 1 | NESTED) + head(12, 1) + "06000000" + "00500000")
        + head(16, 2 | NESTED)
        + (head(12, 2 | NESTED) + head(8, 1) + "00000000"),
    ),
    (
        Operation(True, V4, schema.SERVICE_CIDRS, span("10.96.0.0/16")),
        head(16, 1 | NESTED)
        + (head(12, 1 | NESTED) + head(8, 1) + "0a600000")
        + head(24, 1 | NESTED)
        + (head(12, 1 | NESTED) + head(8, 1) + "0a610000")
        + (head(8, 3) + "00000001"),
    ),
    (
        Operation(True, V4, schema.SERVICE_CIDRS, span("128.0.0.0/1")),
        head(16, 1 | NESTED) + head(12, 1 | NESTED) + head(8, 1) + "80000000",
    ),
]


def sent(operations: list[Operation], first: int) -> list[bytes]:
    """Return the messages of a transaction, its begin and end included."""
    data = batch(element_requests(operations), first)
    return [data[start - 16 : end] for _, _, _, start, end, _ in messages(data)]


@pytest.mark.parametrize(("operation", "element"), GOLDEN, ids=lambda v: getattr(v, "set", ""))
def test_elements_are_packed_as_nf_tables_holds_them(operation: Operation, element: str):
    """Key, verdict or value, and both ends of a range; one end if it is the highest address."""
    _, message, _ = sent([operation], 7)

    assert message.endswith(bytes.fromhex(head(len(element) // 2 + 4, 3 | NESTED) + element))
    length, kind, flags, number, port = struct.unpack_from("=IHHII", message)
    assert (length, kind, number, port) == (len(message), 0x0A0C, 7, 0)
    assert flags == 0x1 | 0x4 | 0x400  # request, ack, create
    assert message[16:20] == bytes([V4, 0, 0, 0])
    assert string(1, "nfproxy") + string(2, operation.set) in message


def test_a_deletion_names_the_key_and_no_value():
    """The kernel would compare the value, which is not needed."""
    _, message, _ = sent([SLOT._replace(add=False)], 1)

    assert struct.unpack_from("=IHH", message)[1:] == (0x0A0E, 0x1 | 0x4)
    assert POD not in message
    assert SLOT.key in message


def test_neighbours_of_one_set_share_a_message_and_the_order_is_kept():
    """Delete, add, delete are three messages, numbered in that order; the last asks for an ACK."""
    gone = SLOT._replace(add=False)
    _, *found_messages, _ = sent([gone, SLOT, SLOT, gone._replace(family=V6)], 5)
    heads = [struct.unpack_from("=IHHI", m)[1:] for m in found_messages]

    assert [(kind, number) for kind, _, number in heads] == [(0x0A0E, 5), (0x0A0C, 6), (0x0A0E, 7)]
    assert [bool(flags & 0x4) for _, flags, _ in heads] == [False, False, True]
    assert found_messages[1].count(POD) == 2


def test_an_element_list_fits_its_16_bit_length():
    """Several messages hold many elements, and none is lost."""
    operations = [
        Operation(True, V4, schema.CLUSTER_IPS, number.to_bytes(4, "big")) for number in range(9000)
    ]
    _, *found_messages, _ = sent(operations, 1)
    found = [key for message in found_messages for key, *_ in raw_elements(message[16:])]

    assert len(found_messages) > 1
    assert all(len(message) < 65536 for message in found_messages)
    assert found == [o.key for o in operations]


def test_no_operation_makes_no_message():
    """An empty transaction is not sent."""
    assert element_requests([]) == []


ELEMENTS: list[tuple[str, bytes, Value]] = [
    (schema.CLUSTER_IPS, IP, None),
    (TCP_SLOTS, SLOT.key, POD),
    (schema.NODE_PORTS, TCP + PORT, schema.DROP),
    (schema.NODE_PORTS, TCP + PORT, schema.goto("reject-connection")),
    (schema.STICKY_NODE_PORTS, TCP + PORT, schema.jump("reject-connection")),
    (schema.SERVICE_CIDRS, span("10.96.0.0/16"), None),
    (schema.SERVICE_CIDRS, span("0.0.0.0/0"), None),
    (schema.SERVICE_CIDRS, span("255.255.255.255/32"), None),
    (schema.SERVICE_CIDRS, span("0.0.0.0/32"), None),
    (schema.AFFINITY_ENDPOINTS[Protocol.TCP][0], IP + b"\1\0\0\0\2\0\0\0", POD),
]


@pytest.mark.parametrize(("name", "key", "value"), ELEMENTS)
def test_what_was_encoded_is_decoded(name: str, key: bytes, value: Value):
    """A listing has the layout of an addition."""
    _, message, _ = sent([Operation(True, V4, name, key, value)], 1)
    raw = raw_elements(message[16:])

    assert list(join_ranges(raw, SCHEMAS[name])) == [(key, value)]


@pytest.mark.parametrize(("name", "key", "value"), ELEMENTS)
def test_the_kernel_gives_back_what_was_sent(real: RealKernel, name: str, key: bytes, value: Value):
    """And forgets it when the element is deleted."""
    real.load(ruleset.program_text(NodeConfig(node_name="n").program, V4, []))
    real.commit([Operation(True, V4, name, key, value)])
    assert list(real.elements(V4, name)) == [(key, value)]

    real.commit([Operation(False, V4, name, key)])
    assert not list(real.elements(V4, name))


RANGES = ["10.96.0.0/16", "10.97.0.0/24", "10.97.1.0/24", "0.0.0.0/32", "255.255.255.0/24"]


def test_adjacent_ranges_stay_apart(real: RealKernel):
    """The end of one is the start of the next; each can be deleted alone."""
    real.load(ruleset.program_text(NodeConfig(node_name="n").program, V4, []))
    keys = [span(text) for text in RANGES]
    real.commit([Operation(True, V4, schema.SERVICE_CIDRS, key) for key in keys])
    assert {key for key, _ in real.elements(V4, schema.SERVICE_CIDRS)} == set(keys)

    real.commit([Operation(False, V4, schema.SERVICE_CIDRS, keys[1])])
    assert {key for key, _ in real.elements(V4, schema.SERVICE_CIDRS)} == {*keys} - {keys[1]}


def test_a_large_transaction_is_one_transaction(real: RealKernel):
    """Several megabytes, both families; refused at the last element, it changes nothing."""
    for family in FAMILIES:
        real.load(ruleset.program_text(NodeConfig(node_name="n").program, family, []))
    many = [
        Operation(True, family, schema.CLUSTER_IPS, n.to_bytes(family.size, "big"))
        for family in FAMILIES
        for n in range(1, 30_001)
    ]
    absent = Operation(False, V4, schema.CLUSTER_IPS, bytes(4))
    with pytest.raises(TransactionError, match="ENOENT"):
        real.commit([*many, absent])
    assert not real.elements(V4, schema.CLUSTER_IPS)

    real.commit(many)
    assert len(real.elements(V4, schema.CLUSTER_IPS)) == 30_000
    assert len(real.elements(V6, schema.CLUSTER_IPS)) == 30_000


@pytest.mark.parametrize("data", [b"\3\0\1\0", b"\xff\xff\1\0", b"\0\0\0\0", b"\x0c\0\1\0\0\0\0\0"])
def test_a_malformed_attribute_is_an_error_and_no_endless_loop(data: bytes):
    """The length is too short, or leads beyond the message."""
    with pytest.raises(DataplaneError, match="malformed"):
        list(attributes(data, 0, len(data)))
