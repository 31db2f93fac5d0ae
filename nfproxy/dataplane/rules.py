"""
Whether the program in the kernel is the one it should be: chains with their rules, and sets.

Rules are compared as the kernel holds them. What they should be is found out by loading the
program into a scratch network namespace and reading it back, so nothing here has to
understand nft's text.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from nfproxy.dataplane import wire
from nfproxy.dataplane.libnftables import load_text
from nfproxy.dataplane.netlink import Netlink
from nfproxy.errors import DataplaneError, MissingFeatureError
from nfproxy.model.addresses import Family
from nfproxy.netlink.messages import attributes
from nfproxy.nft.schema import TABLE

_CLONE_NEWNET = 0x40000000
_TABLE_NAME, _TABLE_FLAGS = 1, 2
_RULE_CHAIN, _RULE_EXPRESSIONS = 2, 4
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 3, 4, 5, 7
_SET_NAME, _SET_FLAGS, _SET_KEY_LENGTH, _SET_DATA_TYPE, _SET_DATA_LENGTH = 2, 3, 5, 6, 7
_DORMANT, _ANONYMOUS = 1, 1
_VERDICT = 0xFFFFFF00  # NFT_DATA_VERDICT

T = TypeVar("T")


class ChainContents(msgspec.Struct, frozen=True):
    """
    A chain's rules in order and, for a base chain, where it is attached.

    `hook` is type, hook and priority, `policy` what becomes of packets that reach the
    end; both are b"" for a regular chain.
    """

    rules: tuple[bytes, ...]
    hook: bytes = b""
    policy: bytes = b""


class SetLayout(msgspec.Struct, frozen=True):
    """
    How a set or map is laid out; lengths in bytes.

    Types are left out but for verdicts: nft versions number them differently, and
    lengths and flags are what elements have to fit.
    """

    flags: int
    key_length: int
    verdicts: bool
    data_length: int


class Program(msgspec.Struct, frozen=True):
    """One family's table without its elements. A `dormant` table does nothing."""

    dormant: bool
    chains: dict[str, ChainContents]
    sets: dict[str, SetLayout]


Programs = dict[Family, Program]


def programs_in_kernel(families: Iterable[Family]) -> Programs:
    """Return the tables in this network namespace, for each family that has one."""
    netlink = Netlink()
    try:
        found = {family: _program(netlink, family) for family in families}
        return {family: program for family, program in found.items() if program is not None}
    finally:
        netlink.close()


def program_in_kernel(families: Iterable[Family]) -> dict[tuple[Family, str], ChainContents]:
    """Return every chain of the tables in this network namespace."""
    return {
        (family, name): chain
        for family, program in programs_in_kernel(families).items()
        for name, chain in program.chains.items()
    }


def _program(netlink: Netlink, family: Family) -> Program | None:
    tables = list(_listed(netlink, wire.GETTABLE, family))
    if not tables:
        return None
    rules: dict[str, list[bytes]] = {}
    for values in _listed(netlink, wire.GETRULE, family, TABLE):
        rules.setdefault(_text(values[_RULE_CHAIN]), []).append(values.get(_RULE_EXPRESSIONS, b""))
    chains = {
        name: ChainContents(
            tuple(rules.get(name, ())),
            values.get(_CHAIN_TYPE, b"") + values.get(_CHAIN_HOOK, b""),
            values.get(_CHAIN_POLICY, b""),
        )
        for values in _listed(netlink, wire.GETCHAIN, family)
        for name in (_text(values[_CHAIN_NAME]),)
    }
    # Sets without a name are parts of rules.
    sets = {
        _text(values[_SET_NAME]): _layout(values)
        for values in _listed(netlink, wire.GETSET, family, TABLE)
        if not _number(values, _SET_FLAGS) & _ANONYMOUS
    }
    return Program(bool(_number(tables[0], _TABLE_FLAGS) & _DORMANT), chains, sets)


def _layout(values: dict[int, bytes]) -> SetLayout:
    return SetLayout(
        _number(values, _SET_FLAGS),
        _number(values, _SET_KEY_LENGTH),
        _number(values, _SET_DATA_TYPE) == _VERDICT,
        _number(values, _SET_DATA_LENGTH),
    )


def _listed(netlink: Netlink, kind: int, family: Family, *names: str) -> Iterator[dict[int, bytes]]:
    """Yield the attributes of what belongs to our table; its name is always the first."""
    for data in netlink.dump(kind, family, *names):
        values = _values(data)
        if _text(values.get(_TABLE_NAME, b"")) == TABLE:
            yield values


def programs_of_text(text: str, families: Iterable[Family]) -> Programs:
    """
    Return what an nft script makes, by loading it into a new network namespace.

    Raises MissingFeatureError where none can be made (CAP_SYS_ADMIN is needed).
    """

    def inside() -> Programs:
        load_text(text)
        return programs_in_kernel(families)

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


def _values(data: bytes) -> dict[int, bytes]:
    try:
        return {kind: data[a:b] for kind, a, b in attributes(data, 0, len(data))}
    except (IndexError, KeyError) as error:
        raise DataplaneError(f"cannot read the kernel's rules: {error!r}") from error


def _number(values: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(values.get(kind, b""), "big")


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii", "replace")
