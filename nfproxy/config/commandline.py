"""The flags that no field of the configuration file carries."""

from __future__ import annotations

import msgspec

from nfproxy.config.setting import Group, Settings, Treatment
from nfproxy.config.valuetypes import PATH, URLS, VERSION, integer

_general = Settings(Group.GENERAL, overrides_file=True)
_api_server = Settings(Group.API_SERVER)
_servers = Settings(Group.SERVERS, is_deprecated=True)
_unused = Settings(Group.UNUSED, treatment=Treatment.NOT_NEEDED)

# A setting takes two lines, not nine.
# fmt: off


class CommandLine(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Values of the flags that have no field in the file; without arguments, their defaults."""

    config: str = _general("", "config", PATH, for_node=True,
        help="Configuration file: a KubeProxyConfiguration (v1alpha1), YAML or JSON. With it, "
             "flags that have a field there are ignored, except --hostname-override and the "
             "logging flags.")
    write_config_to: str = _general("", "write-config-to", PATH,
        help="Write the effective configuration to this file and exit.")
    cleanup: bool = _general(False, "cleanup",
        help="Remove nfproxy's tables and what kube-proxy left, in every mode, and exit.")
    init_only: bool = _general(False, "init-only",
        help="Set the node's conntrack sysctls, try the kernel's features, and exit.")
    version: str = _general("false", "version", VERSION,
        help="Print the version and exit; --version=raw prints all of it.")
    master: str = _api_server("", "master", URLS, overrides_file=True, for_node=True,
        help="URL of the API server, or of several: nfproxy uses one until it cannot reach it, "
             "then the next. Wins over the kubeconfig's.")
    healthz_port: int = _servers(10256, "healthz-port", integer(0, 65535),
        help="port for a --healthz-bind-address without one; 0 turns it off.")
    metrics_port: int = _servers(10249, "metrics-port", integer(1, 65535),
        help="port for a --metrics-bind-address without one.")
    machine_id_file: str = _unused("/etc/machine-id,/var/lib/dbus/machine-id", "machine-id-file",
        PATH, help="Registered by a library that kube-proxy links.")
    boot_id_file: str = _unused("/proc/sys/kernel/random/boot_id", "boot-id-file", PATH,
        help="Registered by a library that kube-proxy links.")

    @property
    def reported_version(self) -> str:
        """The version to report in place of nfproxy's own (``--version=vX.Y.Z``), or ""."""
        return self.version if self.version.startswith("v") else ""
