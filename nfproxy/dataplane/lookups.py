"""Single elements of nfproxy's tables in the kernel, for what follows one packet."""

from __future__ import annotations

from collections.abc import Callable

from nfproxy.insight.expressions import Find, Held
from nfproxy.model.addresses import Family
from nfproxy.netlink.elements import join_ranges, raw_elements
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft.schema import TABLE, Interval, schema_of


def kernel_lookups(netlink: NftSocket) -> Callable[[Family], Find]:
    """
    Return what looks up elements of a family's table: one request for each, however many there are.

    Sets of ranges are few elements, and read once. A look-up raises DataplaneError where the kernel
    cannot be asked.
    """
    spans: dict[tuple[Family, str], list[bytes]] = {}

    def of_family(family: Family) -> Find:
        def find(name: str, key: bytes) -> Held | None:
            schema = schema_of(name)
            if schema.interval is Interval.NO:
                found = netlink.find_elements(family, name, [key])
                return Held(found[0].value) if found else None
            if (family, name) not in spans:
                listed = netlink.elements(family, TABLE, name)
                raw = (element for data in listed for element in raw_elements(data))
                spans[family, name] = [span for span, _ in join_ranges(raw, schema)]
            size = len(key)
            held = spans[family, name]
            return Held() if any(s[:size] <= key <= s[size:] for s in held) else None

        return find

    return of_family
