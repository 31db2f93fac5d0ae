"""
A kubeconfig file: checked, so that what is wrong is said by file and field, and then loaded by
the official client.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from pathlib import Path
from typing import Any

import msgspec
import yaml

from nfproxy.errors import ConfigError
from nfproxy.kube.decode import validation_problem
from nfproxy.kube.identity import Identity
from nfproxy.model.addresses import shorten
from nfproxy.sources.apiserver.kubeclient import (
    ConfigException,
    ConfigNode,
    KubeConfigLoader,
)
from nfproxy.sources.apiserver.memoryfiles import MemoryFiles
from nfproxy.sources.apiserver.plugins import PluginError, PluginRunner, expiry


class Found(msgspec.Struct, frozen=True):
    """What the client does not keep by itself: the token file, and when credentials expire."""

    token_file: str = ""
    expires: datetime.datetime | None = None


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool | None = None
    tls_server_name: str | None = None
    proxy_url: str | None = None


class _Exec(msgspec.Struct):
    command: str
    apiVersion: str  # noqa: N815 - the API's spelling
    args: list[str] | None = None
    env: list[dict[str, str]] | None = None


class _User(msgspec.Struct, rename="kebab"):
    token: str | None = None
    token_file: str | None = msgspec.field(name="tokenFile", default=None)
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    username: str | None = None
    password: str | None = None
    exec: _Exec | None = None
    auth_provider: dict[str, Any] | None = None


class _Context(msgspec.Struct):
    cluster: str
    user: str | None = None


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: _Cluster


class _NamedUser(msgspec.Struct):
    name: str
    user: _User | None = None


class _NamedContext(msgspec.Struct):
    name: str
    context: _Context


class _Kubeconfig(msgspec.Struct, rename="kebab"):
    current_context: str
    contexts: list[_NamedContext]
    clusters: list[_NamedCluster]
    users: list[_NamedUser] | None = None


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
    data = _read(path)
    cluster, user = _check(path, _with_master(data, master))
    token_file = ""
    if user.token_file and not user.exec and not user.auth_provider:
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
    if cluster.insecure_skip_tls_verify:
        configuration.ssl_ca_cert = configuration.ca_cert_data = None
    return Found(token_file, loader.expires)


def _read(path: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; check --kubeconfig") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        said = getattr(error, "problem", None) or "is not text in UTF-8"
        raise ConfigError(f"{path}: is no YAML{line}: {said}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: is no kubeconfig: no mapping at the top")
    return data


def _check(path: str, data: dict[str, Any]) -> tuple[_Cluster, _User]:
    """Return the current context's cluster and user. Raises ConfigError naming the field."""
    try:
        config = msgspec.convert(data, _Kubeconfig)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(str(validation_problem(error, path, Identity()))) from error
    contexts = {item.name: item.context for item in config.contexts}
    clusters = {item.name: item.cluster for item in config.clusters}
    users = {item.name: item.user or _User() for item in config.users or ()}
    context = contexts.get(config.current_context)
    if context is None:
        raise _absent(path, "current-context", config.current_context, "contexts")
    cluster = clusters.get(context.cluster)
    if cluster is None:
        raise _absent(path, "context.cluster", context.cluster, "clusters")
    if context.user and context.user not in users:
        raise _absent(path, "context.user", context.user, "users")
    user = users[context.user] if context.user else _User()
    _check_base64(path, cluster, "certificate_authority_data")
    _check_base64(path, user, "client_certificate_data", "client_key_data")
    _check_files(path, cluster, "certificate_authority")
    _check_files(path, user, "client_certificate", "client_key", "token_file")
    return cluster, user


def _absent(path: str, field: str, name: str, where: str) -> ConfigError:
    return ConfigError(f"{path}: {field} is {shorten(name)!r}, which is not among its {where}")


def _check_base64(path: str, item: msgspec.Struct, *fields: str) -> None:
    for field in fields:
        try:
            base64.standard_b64decode(getattr(item, field) or "")
        except (binascii.Error, ValueError) as error:
            raise ConfigError(f"{path}: {_spelt(field)}: is no base64: {error}") from error


def _check_files(path: str, item: msgspec.Struct, *fields: str) -> None:
    for field in fields:
        name = getattr(item, field)
        if not name or getattr(item, f"{field}_data", None):
            continue
        file = Path(path).parent / name
        try:
            file.open("rb").close()
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            raise ConfigError(f"{path}: {_spelt(field)}: {file}: {said}") from error


def _spelt(field: str) -> str:
    return "tokenFile" if field == "token_file" else field.replace("_", "-")


def _with_master(data: dict[str, Any], master: str) -> dict[str, Any]:
    """Return the kubeconfig with another address of the API server, if there is one."""
    clusters = data.get("clusters")
    for item in clusters if master and isinstance(clusters, list) else ():
        if isinstance(item, dict) and isinstance(item.get("cluster"), dict):
            item["cluster"]["server"] = master
    return data


def _prepare(data: dict[str, Any], cluster: _Cluster, user: _User, token_by_file: bool) -> None:
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


_NOBODY = "\0nobody"  # no user of a kubeconfig has this name
