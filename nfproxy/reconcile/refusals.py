"""
Finds what the kernel refuses in a transaction, so that the rest of it is applied.

A kernel takes a transaction as a whole or not at all. One element that it refuses, for a cause that
nfproxy does not know, would keep a node from all further changes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nfproxy.errors import TransactionError
from nfproxy.model.service import ObjectName
from nfproxy.plan.frontends import AffinityListKey, FrontendKey, ListKey, Part
from nfproxy.reconcile.backlog import ServicePart

# More than these in one transaction have a common cause, such as a table that was deleted.
_MOST_REFUSED = 16

# A kernel without memory, or nfproxy without rights, says nothing about what it was given.
_OTHER_CAUSES = frozenset(
    errno.errorcode[number]
    for number in (
        *(errno.ENOMEM, errno.ENOBUFS, errno.EMSGSIZE, errno.EAGAIN, errno.EINTR),
        *(errno.EPERM, errno.EACCES),
    )
)


class Refused(NamedTuple):
    """A part of the desired state that the kernel refuses; the kernel keeps what it has of it."""

    service: ObjectName
    part: Part
    reason: str

    @property
    def text(self) -> str:
        """What it is and why, for people."""
        return f"{_name(self.part)}: {self.reason}; it stays as it was until it changes"


def may_be_about_contents(error: TransactionError) -> bool:
    """Return whether a transaction may have been refused for what it holds."""
    return error.code not in _OTHER_CAUSES


def apply_apart(
    parts: Sequence[ServicePart], apply: Callable[[Sequence[ServicePart]], None]
) -> list[Refused]:
    """
    Apply the parts of a refused transaction in halves; return those that the kernel refuses.

    `apply` commits parts as one transaction. Parts keep their order. Raises TransactionError where
    the cause is another one, or too many parts are refused; others are applied then.
    """
    refused: list[Refused] = []
    waiting = [parts]
    while waiting:
        some = waiting.pop()
        try:
            apply(some)
        except TransactionError as error:
            is_one = len(some) == 1
            if not may_be_about_contents(error) or (is_one and len(refused) == _MOST_REFUSED):
                raise
            if is_one:
                refused.append(Refused(*some[0], str(error)))
            else:
                half = len(some) // 2
                waiting += [some[half:], some[:half]]
    return refused


def _name(part: Part) -> str:
    if isinstance(part, FrontendKey):
        return str(part)
    if isinstance(part, ListKey):
        return "the shared list of endpoints"
    if isinstance(part, AffinityListKey):
        return "the endpoints for session affinity"
    return f"an element of {part.set}"
