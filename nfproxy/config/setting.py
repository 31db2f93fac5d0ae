"""
What a setting is: its flag, its field in the file, its values, and what nfproxy does with it.

A setting is declared once, as the default of a struct's field::

    _conntrack = Settings(Group.CONNTRACK)
    …
    min: int = _conntrack(131072, "conntrack-min", integer(0), help="…")

:class:`~nfproxy.config.kubeproxy.KubeProxyConfiguration` has the fields of the configuration file,
:class:`~nfproxy.config.commandline.CommandLine` the flags that no field of the file carries.
Everything else is derived from these two: see :mod:`nfproxy.config.lookup`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from nfproxy.config.valuetypes import STRING, TYPE_OF_FIELD, ValueType

T = TypeVar("T")


class Group(enum.Enum):
    """Headings of the help, in the order of the help."""

    GENERAL = "General"
    API_SERVER = "API server"
    NODE = "Node"
    LOCAL_PODS = "Local pods and source NAT"
    SYNC = "Synchronisation"
    SERVERS = "Health and metrics"
    CONNTRACK = "Connection tracking"
    LOGGING = "Logging"
    IPTABLES = "iptables mode"
    IPVS = "ipvs mode"
    WINDOWS = "Windows"
    UNUSED = "Without function"


class Treatment(enum.Enum):
    """What nfproxy does with a setting of kube-proxy."""

    HONOURED = "works as in kube-proxy"
    OTHER_MODE = "no effect: it belongs to another proxy mode or platform"
    NOT_NEEDED = "no effect: nfproxy has no use for it"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """
    One setting: a flag, a field of the file, or both.

    `flag` is written without dashes, `short` is its one-letter form; "" means there is none.
    `type` says which values it takes; it may be left out where the field's own type says it.
    `keeps_zero`: the field is a pointer in the API, so an explicit zero is a value. In all other
    fields zero and "" mean unset (kube-proxy's defaulting).
    `overrides_file`: the flag counts even with ``--config``.
    `for_node`: the setting bears on the dataplane, so ``render`` and ``diff`` show its flag.
    `is_deprecated`: kube-proxy calls the flag so; the help says it, and has it last in its group.
    `warn_about` is, for a setting without effect, the only value worth a warning; None means every
    value except zero and the default. `replacement` is the field to use in nfproxy.

    The struct's field supplies the rest: `field` is the path in the file (``conntrack.min``, ""
    for a flag only), `names` the path of attribute names. `default` is kube-proxy's default; as the
    field's ``default_factory``, the setting gives it.
    """

    group: Group
    help: str
    flag: str = ""
    short: str = ""
    type: ValueType = STRING
    treatment: Treatment = Treatment.HONOURED
    keeps_zero: bool = False
    overrides_file: bool = False
    for_node: bool = False
    is_deprecated: bool = False
    warn_about: Any = None
    replacement: str = ""
    field: str = ""
    names: tuple[str, ...] = ()
    default: Any = None

    def __call__(self) -> Any:
        """Return the default."""
        return self.default

    @property
    def key(self) -> str:
        """How problems and values refer to the setting: the field's path, or ``--flag``."""
        return self.field or f"--{self.flag}"

    @property
    def works(self) -> bool:
        """Return whether the setting does anything."""
        return self.treatment is Treatment.HONOURED

    def is_ineffective(self, value: Any) -> bool:
        """Return whether a value asks for something that nfproxy will not do."""
        if self.works:
            return False
        if self.warn_about is not None:
            return bool(value == self.warn_about)
        return bool(value) and value != "0" and value != self.default


class Settings:
    """Declares the settings of one group, with what they have in common."""

    def __init__(self, group: Group, **common: Any) -> None:
        """Take the group, and values for fields of :class:`Setting`."""
        self._common = {"group": group, **common}

    def __call__(
        self,
        default: T,
        flag: str = "",
        type: ValueType = STRING,
        *,
        name: str | None = None,
        **more: Any,
    ) -> T:
        """Return the field of a struct that holds a setting; `name` is its name in the file."""
        values: dict[str, Any] = {**self._common, "default": default, "flag": flag, "type": type}
        field: T = msgspec.field(default_factory=Setting(**values | more), name=name)
        return field


class Block(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A mapping of the configuration file; a field that is no block carries its setting."""


def settings_of(
    block: msgspec.Struct, path: str = "", names: tuple[str, ...] = ()
) -> Iterator[Setting]:
    """
    Yield the settings declared in a struct, blocks inside included.

    `path` and `names` say where a block is in the file. A struct that is no block has only flags.
    """
    for field in msgspec.structs.fields(block):
        value = getattr(block, field.name)
        here = f"{path}{field.encode_name}" if isinstance(block, Block) else ""
        attributes = (*names, field.name)
        declared: Any = field.default_factory
        if isinstance(value, msgspec.Struct):
            yield from settings_of(value, f"{here}.", attributes)
        elif isinstance(declared, Setting):  # apiVersion and kind are none
            is_usual = declared.type is STRING
            values = TYPE_OF_FIELD.get(field.type, STRING) if is_usual else declared.type
            yield replace(declared, field=here, names=attributes, type=values)
