"""
What one row of the table of settings says.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from nfproxy.config.kinds import Kind
from nfproxy.config.kubeproxy import KubeProxyConfiguration, value_of

_DEFAULTS = KubeProxyConfiguration()


class Treatment(enum.Enum):
    """What nfproxy does with a setting of kube-proxy."""

    HONOURED = "works as in kube-proxy"
    OTHER_MODE = "no effect: it belongs to another proxy mode or platform"
    NOT_NEEDED = "no effect: nfproxy has no use for it"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """
    One setting: a flag, a field of the file, or both.

    `flag` is written without dashes, `short` is its one-letter form; "" where there is
    none. `field` is the path in the file. `flag_default` serves settings without field.
    `keeps_zero`: the field is a pointer in the API, so an explicit zero is a value;
    everywhere else zero and "" mean unset (kube-proxy's defaulting).
    `beside_file`: the flag counts although ``--config`` is given.
    `for_node`: the setting bears on the dataplane, so ``render`` and ``diff`` show it.
    `loud` is, for a setting without effect, the only value worth a warning; None stands
    for every value but zero and the default. `instead` names the field to use here.
    """

    group: str
    kind: Kind
    help: str
    flag: str = ""
    short: str = ""
    field: str = ""
    treatment: Treatment = Treatment.HONOURED
    flag_default: Any = ""
    keeps_zero: bool = False
    beside_file: bool = False
    for_node: bool = False
    loud: Any = None
    instead: str = ""

    @property
    def default(self) -> Any:
        """kube-proxy's default."""
        return value_of(_DEFAULTS, self.field) if self.field else self.flag_default

    @property
    def key(self) -> str:
        """How problems and values refer to the setting: the field's path, or ``--flag``."""
        return self.field or f"--{self.flag}"

    @property
    def works(self) -> bool:
        """Tell whether the setting does anything."""
        return self.treatment is Treatment.HONOURED

    def asks_in_vain(self, value: Any) -> bool:
        """Tell whether a given value wants something that will not happen."""
        if self.works:
            return False
        if self.loud is not None:
            return bool(value == self.loud)
        return bool(value) and value != "0" and value != self.default
