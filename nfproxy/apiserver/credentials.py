"""
Credentials: what the official client makes of a kubeconfig, a credential plugin or a pod's files.

Private keys never touch a disk: those that a kubeconfig holds itself, or that a plugin prints, are
kept in memory.
"""

from __future__ import annotations

import base64
import datetime
import os
from typing import Any
from urllib.parse import quote

import msgspec

from nfproxy.apiserver.kubeclient import (
    ConfigException,
    ConfigNode,
    KubeConfigLoader,
)
from nfproxy.apiserver.kubeconfig import (
    NOT_FOR_HEADERS,
    KubeconfigCluster,
    KubeconfigUser,
    credential_plugin,
    current_context,
    fits_header,
    read_kubeconfig,
)
from nfproxy.apiserver.plugins import Plugin, PluginError, PluginRunner, plugin_error
from nfproxy.errors import ConfigError, reason_of

_RENEW_EARLY = datetime.timedelta(seconds=60)
_HEADER_NAME = "!#$&'*+-.^_`|~"  # beside letters and digits: RFC 9110's token, without %
_NO_USER = "\0no user"  # no user of a kubeconfig has this name


class Credentials(msgspec.Struct, frozen=True):
    """
    What the official client does not keep.

    `token_file` is "" without one; `renew_at` is when to read everything again, None for not before
    a file changes; `impersonation` holds headers that ask to act as another user; `has_plugin`
    where a program gives the credentials.
    """

    token_file: str = ""
    renew_at: datetime.datetime | None = None
    impersonation: tuple[tuple[str, str], ...] = ()
    has_plugin: bool = False


class MemoryFiles:
    """
    Files in the kernel's memory, for this process, until closed (memfd_create(2)).

    Python's interface of OpenSSL reads keys only from paths. A file in ``/tmp`` would stay there
    after a crash, and a container may have no ``/tmp``.
    """

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def __del__(self) -> None:
        """Close the files if the owner has not."""
        self.close()

    def add(self, content: bytes) -> str:
        """Return the path of a new file."""
        descriptor = os.memfd_create("nfproxy")
        self._descriptors.append(descriptor)
        os.write(descriptor, content)
        return f"/proc/self/fd/{descriptor}"

    def close(self) -> None:
        """Remove the files; their paths may soon belong to other files. Idempotent."""
        descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            os.close(descriptor)


def renewal(expires: object) -> datetime.datetime | None:
    """Return when to renew credentials that expire at an RFC 3339 time; None for no such time."""
    try:
        moment = datetime.datetime.fromisoformat(str(expires))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)) - _RENEW_EARLY


class _KubeconfigLoader(KubeConfigLoader):  # type: ignore[misc] # the client has no types
    """The client's loader, but nfproxy runs the plugin; without `plugins`, no program runs."""

    def __init__(
        self,
        plugin: Plugin | None,
        plugins: PluginRunner | None,
        files: MemoryFiles,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._plugin = plugin
        self._plugins = plugins
        self._files = files
        self.renew_at: datetime.datetime | None = None

    async def load_from_exec_plugin(self) -> bool:
        if self._plugins is None or self._plugin is None:
            return True
        status = await self._plugins.run(self._plugin)
        if token := status.token:
            if not fits_header(token):
                raise plugin_error(self._plugin, f"its token {NOT_FOR_HEADERS}")
            self.token = f"Bearer {token}"
        if status.client_certificate_data and status.client_key_data:
            self.cert_file = self._files.add(status.client_certificate_data.encode())
            self.key_file = self._files.add(status.client_key_data.encode())
        self.renew_at = renewal(status.expiration_timestamp)
        return True


async def load_kubeconfig(
    path: str,
    master: str,
    configuration: Any,
    plugins: PluginRunner | None,
    files: MemoryFiles,
) -> Credentials:
    """
    Set the client's configuration from a kubeconfig's current context.

    `path` may name several files, see :func:`~nfproxy.apiserver.kubeconfig.kubeconfig_files`.
    `master`, unless "", replaces the server's address. Certificates and keys that the kubeconfig
    holds itself become `files`. Without `plugins` no credential plugin runs. Raises ConfigError
    naming file and field, PluginError if a credential plugin fails.
    """
    data = read_kubeconfig(path)
    _replace_server(data, master)
    cluster, user = current_context(path, data)
    token_file = ""
    if user.token_file and not user.exec:
        token_file = user.token_file
    _adapt(data, cluster, user, bool(token_file))
    if cluster.certificate_authority_data:
        ca = base64.standard_b64decode(cluster.certificate_authority_data)
        configuration.ca_cert_data = ca.decode("ascii", "replace")
    user_data = _user_of_context(data)
    _move_to_files(user_data, files)
    try:
        loader = _KubeconfigLoader(
            credential_plugin(path, cluster, user),
            plugins,
            files,
            config_dict=ConfigNode("kubeconfig", data, path),
        )
        await loader.load_and_set(configuration)
    except PluginError:
        raise
    except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: cannot be used: {reason_of(error)}") from error
    return Credentials(token_file, loader.renew_at, _impersonation(user), bool(user.exec))


def _impersonation(user: KubeconfigUser) -> tuple[tuple[str, str], ...]:
    """
    Return the headers that ask the API server to act as another user.

    Each group and each value of an extra key is a header; keys are escaped as client-go's
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


def _replace_server(data: dict[str, Any], master: str) -> None:
    """Put another address of the API server into an unchecked kubeconfig; "" changes nothing."""
    clusters = data.get("clusters")
    for item in clusters if master and isinstance(clusters, list) else ():
        if isinstance(item, dict) and isinstance(item.get("cluster"), dict):
            item["cluster"]["server"] = master


def _adapt(
    data: dict[str, Any], cluster: KubeconfigCluster, user: KubeconfigUser, has_token_file: bool
) -> None:
    """
    Change a checked kubeconfig into one that the client's loader reads as client-go would.

    The loader takes an address without scheme for one without TLS, and refuses a context without
    user. It reads a token file only once and keeps the line end, so token files are not left to it.
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
        if has_token_file:
            item["user"].pop("tokenFile", None)
            item["user"].pop("token", None)
    for item in data["contexts"]:
        item["context"]["user"] = item["context"].get("user") or _NO_USER
    data["users"] = [*users, {"name": _NO_USER, "user": {}}]


def _user_of_context(data: dict[str, Any]) -> dict[str, Any]:
    """Return the user of the current context, of an adapted kubeconfig."""
    context = next(c["context"] for c in data["contexts"] if c["name"] == data["current-context"])
    user: dict[str, Any] = next(
        item["user"] for item in data["users"] if item["name"] == context["user"]
    )
    return user


def _move_to_files(user: dict[str, Any], files: MemoryFiles) -> None:
    """Put certificate and key of a user into files, which is what the client takes."""
    for field in ("client-certificate", "client-key"):
        if content := user.pop(f"{field}-data", None):
            user[field] = files.add(base64.standard_b64decode(content))
