"""
What a setting is: its flag, its field in the file, its values, and what nfproxy does with it.

A setting is declared once, on a field of a struct::

    min: Annotated[int, Setting(flag="conntrack-min", type=integer(0), help="…")] = 131072

:class:`~nfproxy.config.kubeproxy.KubeProxyConfiguration` has the fields of the configuration file,
:class:`~nfproxy.config.commandline.CommandLine` the flags that no field of the file carries.
Everything else is derived from these two: see :mod:`nfproxy.config.lookup`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import msgspec

from nfproxy.config.valuetypes import STRING, TYPE_OF_FIELD, ValueType


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
    for a flag only), `names` the path of attribute names, `default` kube-proxy's default.
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


class Block(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A mapping of the configuration file; a field that is no block carries its setting."""


def settings_of_file(
    block: msgspec.Struct, path: str = "", names: tuple[str, ...] = ()
) -> Iterator[Setting]:
    """
    Yield the settings declared in a struct of the configuration file, blocks inside included.

    `block` holds the defaults, `path` and `names` say where it is.
    """
    for field in msgspec.structs.fields(block):
        value = getattr(block, field.name)
        here, attributes = f"{path}{field.encode_name}", (*names, field.name)
        if isinstance(value, msgspec.Struct):
            yield from settings_of_file(value, f"{here}.", attributes)
        elif declared := _declared(field):
            yield replace(declared, field=here, names=attributes, default=value)


def settings_of_flags(flags: msgspec.Struct) -> Iterator[Setting]:
    """Yield the settings of a struct whose fields are flags; `flags` holds the defaults."""
    for field in msgspec.structs.fields(flags):
        if declared := _declared(field):
            default = getattr(flags, field.name)
            yield replace(declared, flag=field.encode_name, names=(field.name,), default=default)


def _declared(field: msgspec.structs.FieldInfo) -> Setting | None:
    """Return the declaration on a field, None for apiVersion and kind, which have none."""
    for item in getattr(field.type, "__metadata__", ()):
        if isinstance(item, Setting):
            usual = TYPE_OF_FIELD.get(get_args(field.type)[0])
            return replace(item, type=usual) if usual and item.type is STRING else item
    return None
