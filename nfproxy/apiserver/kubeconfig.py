"""
A kubeconfig's current context, loaded by the official client.
"""

from __future__ import annotations

import base64
import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from nfproxy.apiserver.kubeclient import (
    ConfigException,
    ConfigNode,
    KubeConfigLoader,
)
from nfproxy.apiserver.kubeconfigfile import (
    UNFIT,
    Cluster,
    User,
    checked,
    fits_header,
    read_kubeconfig,
)
from nfproxy.apiserver.memoryfiles import MemoryFiles
from nfproxy.apiserver.plugins import PluginError, PluginRunner, expiry
from nfproxy.errors import ConfigError
from nfproxy.text import shorten


class Found(msgspec.Struct, frozen=True):
    """
    What the client does not keep by itself.

    The token file, when the credentials expire, and the headers that ask to act as another user.
    """

    token_file: str = ""
    expires: datetime.datetime | None = None
    impersonation: tuple[tuple[str, str], ...] = ()


class _Loader(KubeConfigLoader):  # type: ignore[misc] # the client has no types
    """The client's loader, but a plugin that fails is an error and not a line in a log."""

    def __init__(self, plugins: PluginRunner, files: MemoryFiles, **options: Any) -> None:
        super().__init__(**options)
        self._plugins = plugins
        self._files = files
        self.expires: datetime.datetime | None = None

    async def load_from_exec_plugin(self) -> bool:
        status = await self._plugins.run(self._user["exec"])
        if token := status.get("token"):
            if not fits_header(str(token)):
                command = shorten(str(self._user["exec"]["command"]))
                raise PluginError(f"credential plugin {command}: its token {UNFIT}")
            self.token = f"Bearer {token}"
        if certificate := status.get("clientCertificateData"):
            self.cert_file = self._files.add(str(certificate).encode())
            self.key_file = self._files.add(str(status["clientKeyData"]).encode())
        self.expires = expiry(status.get("expirationTimestamp"))
        return True


async def load_kubeconfig(
    path: str, master: str, configuration: Any, plugins: PluginRunner, files: MemoryFiles
) -> Found:
    """
    Set the client's configuration from a kubeconfig's current context.

    `master`, unless "", takes the place of the server's address. Keys that are no files become
    some of `files`. Raises ConfigError naming
    file and field, PluginError if a credential plugin fails.
    """
    data = read_kubeconfig(path)
    cluster, user = checked(path, _with_master(data, master))
    token_file = ""
    if user.token_file and not user.exec:
        token_file = str(Path(path).parent / user.token_file)
    _prepare(data, cluster, user, bool(token_file))
    if cluster.certificate_authority_data:
        ca = base64.standard_b64decode(cluster.certificate_authority_data)
        configuration.ca_cert_data = ca.decode("ascii", "replace")
    _to_files(data, files)
    try:
        loader = _Loader(
            plugins,
            files,
            config_dict=ConfigNode("kubeconfig", data, path),
            config_base_path=str(Path(path).parent),
        )
        await loader.load_and_set(configuration)
    except PluginError:
        raise
    except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return Found(token_file, loader.expires, _impersonation(user))


def _impersonation(user: User) -> tuple[tuple[str, str], ...]:
    """
    Return the headers that ask the API server to take us for another user.

    Groups and values of extra keys are a header each; keys are escaped as client-go's
    ``headerKeyEscape`` does.
    """
    groups = [("Impersonate-Group", group) for group in user.as_groups or ()]
    extra = [
        (f"Impersonate-Extra-{quote(key, safe=_HEADER_NAME)}", value)
        for key, values in (user.as_user_extra or {}).items()
        for value in values
    ]
    names = [("Impersonate-User", user.as_ or ""), ("Impersonate-Uid", user.as_uid or "")]
    return (*((name, value) for name, value in names if value), *groups, *extra)


def _with_master(data: dict[str, Any], master: str) -> dict[str, Any]:
    """Return the kubeconfig with another address of the API server, if there is one."""
    clusters = data.get("clusters")
    for item in clusters if master and isinstance(clusters, list) else ():
        if isinstance(item, dict) and isinstance(item.get("cluster"), dict):
            item["cluster"]["server"] = master
    return data


def _prepare(data: dict[str, Any], cluster: Cluster, user: User, token_by_file: bool) -> None:
    """
    Make of a checked kubeconfig what the client's loader can take.

    It takes an address without scheme for one without TLS, and no context without user. A
    token file is left to us: the client reads it once, and keeps the line end in it.
    """
    trust = cluster.certificate_authority or cluster.certificate_authority_data
    tls = trust or cluster.insecure_skip_tls_verify or user.client_certificate_data
    server = cluster.server if "://" in cluster.server or not tls else f"https://{cluster.server}"
    for item in data["clusters"]:
        item["cluster"]["server"] = server
        item["cluster"].pop("certificate-authority-data", None)
    users = data.get("users") or []
    for item in users:
        item["user"] = item.get("user") or {}
        if token_by_file:
            item["user"].pop("tokenFile", None)
            item["user"].pop("token", None)
    for item in data["contexts"]:
        item["context"]["user"] = item["context"].get("user") or _NOBODY
    data["users"] = [*users, {"name": _NOBODY, "user": {}}]


def _to_files(data: dict[str, Any], files: MemoryFiles) -> None:
    """Give the client files for certificates and keys that stand in the kubeconfig itself."""
    context = next(c["context"] for c in data["contexts"] if c["name"] == data["current-context"])
    user = next(item["user"] for item in data["users"] if item["name"] == context["user"])
    for field in ("client-certificate", "client-key"):
        if content := user.pop(f"{field}-data", None):
            user[field] = files.add(base64.standard_b64decode(content))


_HEADER_NAME = "!#$&'*+-.^_`|~"  # beside letters and digits, and but for %: RFC 9110's token
_NOBODY = "\0nobody"  # no user of a kubeconfig has this name
