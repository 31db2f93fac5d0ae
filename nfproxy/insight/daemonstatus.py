"""What a running nfproxy says about itself at ``/status``; commands on its node read it there."""

from __future__ import annotations

from typing import Any

import msgspec

API_VERSION = "nfproxy.io/v1alpha1"

#: Where the daemon serves it, to clients on loopback addresses.
STATUS_PATH = "/status"


class DaemonStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """
    Which nfproxy runs, and with which configuration. Fields are only added.

    `configuration` is the effective KubeProxyConfiguration, `config_file` the file that it comes
    from, "" for flags alone. `manifests` is the directory of objects, "" where they come from an
    API server; `master` is the flag ``--master``. `started` is a time as the API writes it.
    """

    api_version: str = API_VERSION
    kind: str = "DaemonStatus"
    version: str
    pid: int
    node: str
    started: str
    manifests: str = ""
    master: str = ""
    config_file: str = ""
    configuration: dict[str, Any]
