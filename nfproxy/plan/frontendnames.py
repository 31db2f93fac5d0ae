"""
What frontends are called in the kernel: their elements carry the service port as a comment.

So ``nft list map ip nfproxy frontends`` reads, and a reader needs neither nfproxy nor the API
server. A comment is no part of what is compared: elements of tables without comments stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nfproxy.model.addresses import Family
from nfproxy.model.service import Claim
from nfproxy.plan.frontends import Frontend, FrontendKey

#: nft takes comments of at most 128 bytes.
_LONGEST = 127

_CUT = "..."

#: Names of objects and ports that were read are like this; nothing else comes into a script.
_HARMLESS = re.compile(r"[a-z0-9./:-]+")


class FrontendNames:
    """
    The comments that frontends' elements should have, and which may have another.

    `changed` are frontends that may have the name of another service port in the kernel: they are
    written again with their next transition. One thread at a time.
    """

    def __init__(self, frontends: Mapping[FrontendKey, Frontend]) -> None:
        """Name these frontends, as they are when they are asked for."""
        self._frontends = frontends
        self.changed: set[FrontendKey] = set()

    def comment(self, family: Family, map_name: str, element_key: bytes) -> str:
        """Return the comment of an element; "" for an element of no frontend."""
        key = FrontendKey.of_element(family, map_name, element_key)
        found = self._frontends.get(key) if key else None
        return comment_of(found.claim) if found else ""

    def found(self, family: Family, map_name: str, element_key: bytes, comment: str) -> None:
        """Take it that the kernel has this comment; "" is no wrong name."""
        if comment and comment != self.comment(family, map_name, element_key):
            key = FrontendKey.of_element(family, map_name, element_key)
            if key is not None:
                self.changed.add(key)


def comment_of(claim: Claim) -> str:
    """Return ``namespace/name:port``, without the port's name where it has none."""
    (namespace, name), port_name = claim.service, claim.port_name
    text = f"{namespace}/{name}:{port_name}" if port_name else f"{namespace}/{name}"
    if not _HARMLESS.fullmatch(text):
        return ""
    return text if len(text) <= _LONGEST else text[: _LONGEST - len(_CUT)] + _CUT
