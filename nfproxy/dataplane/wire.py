"""
nf_tables messages as bytes: element batches, dumps.

Source: ``linux/netfilter/nf_tables.h`` and ``nfnetlink.h``. Written for bulk: an element
of fixed layout is one concatenation of byte strings.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import groupby

from nfproxy.model.addresses import Family
from nfproxy.netlink.messages import (
    ATTRIBUTE,
    HEADER,
    NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    TYPE_MASK,
    attribute,
    attributes,
    string,
)
from nfproxy.nft.schema import (
    SCHEMAS,
    TABLE,
    Interval,
    SetSchema,
    Value,
    Verdict,
    length,
    verdict,
)
from nfproxy.reconcile.transition import Operation

_GENERIC = struct.Struct("=BB2s")  # nfgenmsg: family, version, resource id (big endian)

SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
GETTABLE, GETCHAIN, DELTABLE, GETRULE, GETSET = 1, 4, 2, 7, 10
_NEWSETELEM, GETSETELEM, _DELSETELEM = 12, 13, 14

#: The type of the message that announces that elements were deleted.
ELEMENT_DELETED = (SUBSYSTEM << 8) | _DELSETELEM

_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEM = 1
_ELEM_KEY, _ELEM_DATA, _ELEM_FLAGS, _ELEM_EXPRESSION, _ELEM_KEY_END = 1, 2, 3, 7, 10
_EXPRESSION_DATA, _COUNTER_PACKETS = 2, 2
_DATA_VALUE, _DATA_VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_INTERVAL_END, _CATCH_ALL = 1, 2

#: An attribute's length has 16 bits; an element list stays below that.
_LIST_LIMIT = 60_000


def message(kind: int, flags: int, sequence: int, family: int, payload: bytes) -> bytes:
    """Return an nf_tables message."""
    return _frame((SUBSYSTEM << 8) | kind, flags, sequence, family, b"\0\0", payload)


def _frame(
    kind: int, flags: int, sequence: int, family: int, resource: bytes, payload: bytes
) -> bytes:
    return (
        HEADER.pack(20 + len(payload), kind, flags | NLM_F_REQUEST, sequence, 0)
        + _GENERIC.pack(family, 0, resource)
        + payload
    )


def batch(messages: Iterable[bytes], sequence: int, last: int) -> bytes:
    """Return messages wrapped as one transaction: begin with `sequence`, end with `last`."""
    resource = struct.pack("!H", SUBSYSTEM)
    return b"".join(
        (
            _frame(_BATCH_BEGIN, 0, sequence, 0, resource, b""),
            *messages,
            _frame(_BATCH_END, 0, last, 0, resource, b""),
        )
    )


def verdict_attribute(verdict: Verdict) -> bytes:
    """Return the data attribute of a verdict."""
    inner = attribute(_VERDICT_CODE, struct.pack("!i", verdict.code))
    if verdict.chain:
        inner += string(_VERDICT_CHAIN, verdict.chain)
    return attribute(_ELEM_DATA | NESTED, attribute(_DATA_VERDICT | NESTED, inner))


def _data(kind: int, payload: bytes) -> bytes:
    return attribute(kind | NESTED, attribute(_DATA_VALUE, payload))


def _element(body: bytes) -> bytes:
    return ATTRIBUTE.pack(len(body) + 4, _LIST_ELEM | NESTED) + body


class _Encoder:
    """Encodes elements of one set; parts that do not vary are made once."""

    def __init__(self, schema: SetSchema, family: Family) -> None:
        size = length(schema.key, family)
        self._interval = schema.interval
        self._family = family
        self._key_head = _data(_ELEM_KEY, b"\0" * size)[:8]
        self._set_head = ATTRIBUTE.pack(size + 12, _LIST_ELEM | NESTED) + self._key_head
        value = length(schema.value, family) if schema.value else 0
        self._data_head = _data(_ELEM_DATA, b"\0" * value)[:8]
        self._map_head = ATTRIBUTE.pack(size + value + 20, _LIST_ELEM | NESTED) + self._key_head
        self._verdicts: dict[Verdict, bytes] = {}

    def encode(self, key: bytes, value: Value) -> bytes:
        if not key:
            return self._catch_all(value)
        if self._interval is not Interval.NO:
            return self._ranges(key)
        if value is None:
            return self._set_head + key
        if isinstance(value, bytes):
            return self._map_head + key + self._data_head + value
        data = self._verdicts.get(value)
        if data is None:
            data = self._verdicts[value] = verdict_attribute(value)
        return _element(self._key_head + key + data)

    def _catch_all(self, value: Value) -> bytes:
        body = attribute(_ELEM_FLAGS, struct.pack("!I", _CATCH_ALL))
        if isinstance(value, bytes):
            body += self._data_head + value
        elif value is not None:
            body += verdict_attribute(value)
        return _element(body)

    def _ranges(self, key: bytes) -> bytes:
        half = len(key) // 2
        first, last = key[:half], key[half:]
        if self._interval is Interval.PAIRS:
            return _element(_data(_ELEM_KEY, first) + _data(_ELEM_KEY_END, last))
        start = _element(_data(_ELEM_KEY, first))
        behind = int.from_bytes(last, "big") + 1
        if behind >> (8 * half):  # the range ends with the highest address: no end element
            return start
        flags = attribute(_ELEM_FLAGS, struct.pack("!I", _INTERVAL_END))
        return start + _element(_data(_ELEM_KEY, behind.to_bytes(half, "big")) + flags)


_encoders: dict[tuple[Family, str], _Encoder] = {}


def _encoder(family: Family, name: str) -> _Encoder:
    encoder = _encoders.get((family, name))
    if encoder is None:
        encoder = _encoders[family, name] = _Encoder(SCHEMAS[name], family)
    return encoder


def element_messages(operations: Iterable[Operation], sequence: int) -> list[bytes]:
    """
    Return the messages of element operations, numbered from `sequence`; the last asks for an ACK.

    The order is kept; neighbours of one set share a message of at most 64 KB.
    """
    parts: list[tuple[int, int, bytes]] = []
    for (add, family, name), group in groupby(operations, key=lambda o: (o[0], o[1], o[2])):
        encode = _encoder(family, name).encode
        kind = _NEWSETELEM if add else _DELSETELEM
        head = string(_LIST_TABLE, TABLE) + string(_LIST_SET, name)
        for chunk in _chunks(encode(o[3], o[4] if add else None) for o in group):
            listed = ATTRIBUTE.pack(len(chunk) + 4, _LIST_ELEMENTS | NESTED) + chunk
            parts.append((kind, family, head + listed))
    final = len(parts) - 1
    return [
        message(
            kind,
            (NLM_F_CREATE if kind == _NEWSETELEM else 0) | (NLM_F_ACK if i == final else 0),
            sequence + i,
            family,
            payload,
        )
        for i, (kind, family, payload) in enumerate(parts)
    ]


def _chunks(elements: Iterable[bytes]) -> Iterator[bytes]:
    chunk: list[bytes] = []
    size = 0
    for element in elements:
        if size + len(element) > _LIST_LIMIT:
            yield b"".join(chunk)
            chunk, size = [], 0
        chunk.append(element)
        size += len(element)
    if chunk:
        yield b"".join(chunk)


def dump_request(kind: int, sequence: int, family: int, *names: str) -> bytes:
    """Return the request that lists a set's elements, a table's chains …: table, then set."""
    payload = b"".join(string(i + 1, name) for i, name in enumerate(names))
    return message(kind, NLM_F_DUMP, sequence, family, payload)


RawElement = tuple[bytes, Value, bytes | None, bool]


def raw_elements(data: bytes, at: int, end: int) -> Iterator[RawElement]:
    """
    Yield the elements of one message of a set's dump.

    Each is (key, value, last key of a range or None, is the end of a range).
    """
    for kind, start, stop in attributes(data, at, end):
        if kind == _LIST_ELEMENTS:
            for _, elem_start, elem_stop in attributes(data, start, stop):
                yield _raw_element(data, elem_start, elem_stop)


def _raw_element(data: bytes, at: int, end: int) -> RawElement:
    key = b""
    value: Value = None
    last: bytes | None = None
    is_end = False
    for kind, start, stop in attributes(data, at, end):
        if kind == _ELEM_KEY:
            key = data[start + 4 : stop]
        elif kind == _ELEM_DATA:
            if ATTRIBUTE.unpack_from(data, start)[1] & TYPE_MASK == _DATA_VALUE:
                value = data[start + 4 : stop]
            else:
                value = _verdict(data, start + 4, stop)
        elif kind == _ELEM_KEY_END:
            last = data[start + 4 : stop]
        elif kind == _ELEM_FLAGS:
            is_end = bool(int.from_bytes(data[start:stop], "big") & _INTERVAL_END)
    return key, value, last, is_end


def _verdict(data: bytes, at: int, end: int) -> Verdict:
    code, chain = 0, ""
    for kind, start, stop in attributes(data, at, end):
        if kind == _VERDICT_CODE:
            (code,) = struct.unpack_from("!i", data, start)
        elif kind == _VERDICT_CHAIN:
            chain = data[start:stop].rstrip(b"\0").decode("ascii", "replace")
    return verdict(code, chain)


def generation(data: bytes, at: int) -> int:
    """Return the low 16 bits of the ruleset's generation, from the nfgenmsg at an offset."""
    return int.from_bytes(data[at + 2 : at + 4], "big")


def set_of(data: bytes) -> str:
    """Return the name of the set that a message about elements of our table is about, else ""."""
    found = {kind: data[a:b] for kind, a, b in attributes(data, 0, len(data))}
    if found.get(_LIST_TABLE, b"").rstrip(b"\0") != TABLE.encode():
        return ""
    return found.get(_LIST_SET, b"").rstrip(b"\0").decode("ascii", "replace")


def counted_elements(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield (key, packets) of the elements in one message whose counter is not at 0."""
    for kind, start, stop in attributes(data, at, end):
        if kind != _LIST_ELEMENTS:
            continue
        for _, elem_start, elem_stop in attributes(data, start, stop):
            key, packets = b"", 0
            for field, a, b in attributes(data, elem_start, elem_stop):
                if field == _ELEM_KEY:
                    key = data[a + 4 : b]
                elif field == _ELEM_EXPRESSION:
                    packets = _packets(data, a, b)
            if packets:
                yield key, packets


def _packets(data: bytes, at: int, end: int) -> int:
    """Return what an element's expression counts: the only one of ours is a counter."""
    for kind, start, stop in attributes(data, at, end):
        if kind == _EXPRESSION_DATA:
            for field, a, b in attributes(data, start, stop):
                if field == _COUNTER_PACKETS:
                    return int.from_bytes(data[a:b], "big")
    return 0


def join_ranges(elements: Iterable[RawElement], schema: SetSchema) -> Iterator[tuple[bytes, Value]]:
    """
    Yield (key, value) with a range's two ends joined, as Operation has them.

    An element for everything else (``*``) has an empty key; we never make one.
    """
    if schema.interval is Interval.NO:
        for key, value, _, _ in elements:
            yield key, value
        return
    if schema.interval is Interval.PAIRS:
        for key, value, last, _ in elements:
            yield key + (last if last is not None else key), value
        return
    points = sorted((key, not is_end) for key, _, _, is_end in elements)
    while points and not points[0][0]:
        yield points.pop(0)[0], None
    for index, (key, is_start) in enumerate(points):
        if not is_start:
            continue
        following = points[index + 1][0] if index + 1 < len(points) else None
        if following is None:
            last = b"\xff" * len(key)
        else:
            last = (int.from_bytes(following, "big") - 1).to_bytes(len(key), "big")
        yield key + last, None
