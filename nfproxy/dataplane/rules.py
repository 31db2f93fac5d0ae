"""
Whether the program in the kernel is the one it should be: chains and their rules.

Rules are compared as the kernel holds them. What they should be is found out by loading the
program into a scratch network namespace and reading it back, so nothing here has to
understand nft's text.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from nfproxy.dataplane import wire
from nfproxy.dataplane.libnftables import load_text
from nfproxy.dataplane.netlink import Netlink
from nfproxy.errors import DataplaneError, MissingFeatureError
from nfproxy.model.addresses import Family
from nfproxy.nft.schema import TABLE

_CLONE_NEWNET = 0x40000000
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 3, 4, 5, 7

T = TypeVar("T")


class ChainContents(msgspec.Struct, frozen=True):
    """A chain's hook, policy and type (b"" where it has none), and its rules in order."""

    attachment: tuple[bytes, ...]
    rules: tuple[bytes, ...]


Program = dict[tuple[Family, str], ChainContents]


def program_in_kernel(families: tuple[Family, ...]) -> Program:
    """Return every chain of the tables in this network namespace."""
    netlink = Netlink()
    try:
        program: Program = {}
        for family in families:
            rules = _rules(netlink, family)
            for data in netlink.dump(wire.GETCHAIN, family):
                values = _values(data)
                if _text(values.get(1, b"")) != TABLE:
                    continue
                name = _text(values[_CHAIN_NAME])
                attachment = tuple(
                    values.get(kind, b"") for kind in (_CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE)
                )
                program[family, name] = ChainContents(attachment, tuple(rules.get(name, ())))
        return program
    finally:
        netlink.close()


def program_of_text(text: str, families: tuple[Family, ...]) -> Program:
    """
    Return what an nft script makes, by loading it into a new network namespace.

    Raises MissingFeatureError where none can be made (CAP_SYS_ADMIN is needed).
    """

    def inside() -> Program:
        load_text(text)
        return program_in_kernel(families)

    return in_scratch_namespace(inside)


def in_scratch_namespace(function: Callable[[], T]) -> T:
    """
    Call a function in a network namespace of its own, which is gone afterwards.

    A thread of its own goes there and ends with it.
    """
    result: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET):
                code = ctypes.get_errno()
                raise MissingFeatureError(
                    f"cannot make a scratch network namespace ({os.strerror(code)}): "
                    "run with CAP_SYS_ADMIN"
                )
            result.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="scratch-namespace")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


def _rules(netlink: Netlink, family: Family) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for data in netlink.dump(wire.GETRULE, family, TABLE):
        values = _values(data)
        if _text(values.get(_RULE_TABLE, b"")) == TABLE:
            expressions = values.get(_RULE_EXPRESSIONS, b"")
            found.setdefault(_text(values[_RULE_CHAIN]), []).append(expressions)
    return found


def _values(data: bytes) -> dict[int, bytes]:
    try:
        return {kind: data[a:b] for kind, a, b in wire.attributes(data, 0, len(data))}
    except (IndexError, KeyError) as error:
        raise DataplaneError(f"cannot read the kernel's rules: {error!r}") from error


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii", "replace")
