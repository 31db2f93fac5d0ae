"""
The flags that no field of the configuration file carries.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec

from nfproxy.config.setting import Group, Setting, Treatment
from nfproxy.config.valuetypes import PATH, URLS, VERSION, integer

_general = partial(Setting, group=Group.GENERAL, overrides_file=True)
_servers = partial(Setting, group=Group.SERVERS, is_deprecated=True)
_unused = partial(Setting, group=Group.UNUSED, treatment=Treatment.NOT_NEEDED)


class CommandLine(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Values of the flags that have no field in the file; without arguments, their defaults."""

    config: Annotated[
        str,
        _general(
            type=PATH,
            for_node=True,
            help="Configuration file: a KubeProxyConfiguration (v1alpha1), YAML or JSON. With it, "
            "flags that have a field there are ignored, except --hostname-override and the "
            "logging flags.",
        ),
    ] = ""
    write_config_to: Annotated[
        str, _general(type=PATH, help="Write the effective configuration to this file and exit.")
    ] = ""
    cleanup: Annotated[
        bool,
        _general(
            help="Remove nfproxy's tables and what kube-proxy left, in every mode, and exit.",
        ),
    ] = False
    init_only: Annotated[
        bool,
        _general(help="Set the node's conntrack sysctls, try the kernel's features, and exit."),
    ] = False
    version: Annotated[
        str,
        _general(type=VERSION, help="Print the version and exit; --version=raw prints all of it."),
    ] = "false"
    master: Annotated[
        str,
        Setting(
            group=Group.API_SERVER,
            type=URLS,
            overrides_file=True,
            for_node=True,
            help="URL of the API server, or of several: nfproxy uses one until it cannot reach "
            "it, then the next. Wins over the kubeconfig's.",
        ),
    ] = ""
    healthz_port: Annotated[
        int,
        _servers(
            type=integer(0, 65535),
            help="port for a --healthz-bind-address without one; 0 turns it off.",
        ),
    ] = 10256
    metrics_port: Annotated[
        int,
        _servers(
            type=integer(1, 65535),
            help="port for a --metrics-bind-address without one.",
        ),
    ] = 10249
    machine_id_file: Annotated[
        str, _unused(type=PATH, help="Registered by a library that kube-proxy links.")
    ] = "/etc/machine-id,/var/lib/dbus/machine-id"
    boot_id_file: Annotated[
        str, _unused(type=PATH, help="Registered by a library that kube-proxy links.")
    ] = "/proc/sys/kernel/random/boot_id"

    @property
    def reported_version(self) -> str:
        """The version to report in place of nfproxy's own (``--version=vX.Y.Z``), or ""."""
        return self.version if self.version.startswith("v") else ""
