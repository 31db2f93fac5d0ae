"""
Nft's notation read back into values: the opposite of ``nfproxy.nft.schema.format_element``.

Knows what nfproxy writes and what `nft list` makes of it, nothing more.
"""

from nfproxy.errors import TransactionError
from nfproxy.model.addresses import Family, parse_address, parse_prefix
from nfproxy.model.service import Protocol
from nfproxy.nft.schema import (
    DROP,
    Field,
    Interval,
    SetSchema,
    Value,
    Verdict,
    goto,
    jump,
    number_bytes,
    port_bytes,
    protocol_bytes,
)


def parse_element(schema: SetSchema, text: str) -> tuple[bytes, Value]:
    """Return (key, value) of a row: ``10.96.0.1 . tcp . 80 : goto reject-connection``."""
    key_text, colon, value_text = text.partition(" : ")
    parts = key_text.partition(" comment ")[0].strip().split(" . ")
    if len(parts) != len(schema.key):
        raise TransactionError(f"{text!r} does not fit the set {schema.name}")
    if schema.interval is Interval.NO:
        key = _fields(schema.key, parts)
    else:
        first, last = parse_span(parts[0])
        rest = _fields(schema.key[1:], parts[1:])
        key = first + rest + last + rest
    if not colon:
        return key, None
    if schema.verdicts:
        return key, parse_verdict(value_text.strip())
    return key, _fields(schema.value or (), value_text.strip().split(" . "))


def parse_verdict(text: str) -> Verdict:
    """Return a verdict: ``drop``, ``goto CHAIN``, ``jump CHAIN``."""
    word, _, chain = text.partition(" ")
    return DROP if text == "drop" else {"goto": goto, "jump": jump}[word](chain)


def parse_span(text: str) -> tuple[bytes, bytes]:
    """Return the first and last address of ``a``, ``a/length`` or ``a-b``."""
    if "/" in text:
        prefix = parse_prefix(text)
        return prefix.network, prefix.last
    first, dash, last = text.partition("-")
    return parse_address(first), parse_address(last if dash else first)


def _fields(fields: tuple[Field, ...], parts: list[str]) -> bytes:
    return b"".join(_field(*pair) for pair in zip(fields, parts, strict=True))


def _field(field: Field, text: str) -> bytes:
    if field is Field.ADDRESS:
        return parse_address(text)
    if field is Field.PROTOCOL:
        return protocol_bytes(int(text) if text.isdigit() else Protocol[text.upper()])
    if field is Field.PORT:
        return port_bytes(int(text))
    if field is Field.PRIORITY:
        high, low = (int(part, 16) for part in text.split(":"))
        return number_bytes(high << 16 | low)
    return number_bytes(int(text))


FAMILY_OF_WORD = {family.table: family for family in Family}
