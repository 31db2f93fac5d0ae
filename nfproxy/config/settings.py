"""
The table of all settings: kube-proxy's flags and the fields of its configuration file.

Source: kube-proxy 1.36. Options (:mod:`nfproxy.config.flags`), decoding, warnings,
value checks and the reference page (:func:`reference`) derive from it. Each field of
``KubeProxyConfiguration`` has exactly one row, whether or not a flag sets it. Two
``iptables`` flags set fields of ``nftables``; so they do in kube-proxy.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from nfproxy.config.problems import describe
from nfproxy.config.setting import Setting
from nfproxy.config.table.elsewhere import IPTABLES, IPVS, WINDOWS, WITHOUT_FUNCTION
from nfproxy.config.table.node import GENERAL, LOCAL, NODE, SYNC
from nfproxy.config.table.process import API, CONNTRACK, LOGGING, SERVERS

SETTINGS: tuple[Setting, ...] = (
    *GENERAL,
    *API,
    *NODE,
    *LOCAL,
    *SYNC,
    *SERVERS,
    *CONNTRACK,
    *LOGGING,
    *IPTABLES,
    *IPVS,
    *WINDOWS,
    *WITHOUT_FUNCTION,
)

BY_FIELD = {setting.field: setting for setting in SETTINGS if setting.field}
BY_KEY = {setting.key: setting for setting in SETTINGS}
BY_FLAG = {setting.flag: setting for setting in SETTINGS if setting.flag}


def reference() -> str:
    """Return the settings as Markdown, one table per group, in the order of `SETTINGS`."""
    parts = []
    for group, settings in groupby(SETTINGS, key=lambda setting: setting.group):
        parts.append(f"### {group}\n")
        parts.append("| Flag | Field | Default | Meaning | In nfproxy |\n|---|---|---|---|---|")
        parts += [_row(setting) for setting in settings]
        parts.append("")
    return "\n".join(parts)


def _row(setting: Setting) -> str:
    return f"| {' | '.join(_cells(setting))} |"


def _cells(setting: Setting) -> Iterator[str]:
    yield f"`--{setting.flag}`" if setting.flag else "-"
    yield f"`{setting.field}`" if setting.field else "-"
    yield f"`{describe(setting.default)}`" if setting.default not in ("", (), {}) else "empty"
    yield setting.help.replace("|", "\\|")
    yield setting.treatment.value
