"""All declared settings, by flag and by field, and the values of fields by their path."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import msgspec

from nfproxy.config.commandline import CommandLine
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.config.setting import Group, Setting, settings_of

_GROUPS = list(Group)

SETTINGS: tuple[Setting, ...] = tuple(
    sorted(
        (*settings_of(CommandLine()), *settings_of(KubeProxyConfiguration())),
        key=lambda setting: (_GROUPS.index(setting.group), setting.is_deprecated),
    )
)
BY_FIELD = {setting.field: setting for setting in SETTINGS if setting.field}
BY_KEY = {setting.key: setting for setting in SETTINGS}
BY_FLAG = {setting.flag: setting for setting in SETTINGS if setting.flag}


def value_of(config: KubeProxyConfiguration, path: str) -> Any:
    """Return the value of a field by its path in the file, such as ``conntrack.min``."""
    return reduce(getattr, BY_FIELD[path].names, config)


def with_values(
    config: KubeProxyConfiguration, values: Mapping[str, Any]
) -> KubeProxyConfiguration:
    """Return the configuration with the fields at some paths replaced."""
    changed = config
    for path, value in values.items():
        changed = _replaced(changed, BY_FIELD[path].names, value)
    return changed


def _replaced(block: Any, names: tuple[str, ...], value: Any) -> Any:
    first, *rest = names
    inner = _replaced(getattr(block, first), tuple(rest), value) if rest else value
    return msgspec.structs.replace(block, **{first: inner})
