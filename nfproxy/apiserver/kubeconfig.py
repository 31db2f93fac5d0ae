"""
The content of a kubeconfig file, checked; errors name file and field.

Source: ``clientcmd/api/v1`` of client-go, and the rules of its ``validation.go``.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from nfproxy.apiserver.plugins import Plugin
from nfproxy.errors import ConfigError, InputError, reason_of
from nfproxy.mismatch import UNREADABLE, mismatch
from nfproxy.text import quoted, shorten
from nfproxy.yaml import first_document

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----")
_LISTS = ("clusters", "users", "contexts")
# Where a kubeconfig holds paths, beside the commands of credential plugins.
_PATHS = (
    ("clusters", "cluster", ("certificate-authority",)),
    ("users", "user", ("client-certificate", "client-key", "tokenFile")),
)
_PLUGIN_EXTENSION = "client.authentication.k8s.io/exec"
_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9 ]+ )?PRIVATE KEY-----")

#: The end of a sentence about a text.
NOT_FOR_HEADERS = "holds a line break, a control character or another that no HTTP header can carry"


class KubeconfigCluster(msgspec.Struct, rename="kebab"):
    """Where an API server is, and how to verify it."""

    server: str
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool | None = None
    tls_server_name: str | None = None
    proxy_url: str | None = None
    disable_compression: bool | None = None
    extensions: list[_NamedExtension] | None = None


class _NamedExtension(msgspec.Struct):
    name: str
    extension: Any = None


class _Variable(msgspec.Struct):
    name: str
    value: str = ""


class _Exec(msgspec.Struct, rename="camel"):
    command: str
    api_version: str
    args: list[str] | None = None
    env: list[_Variable] | None = None
    install_hint: str | None = None
    provide_cluster_info: bool | None = None
    interactive_mode: str | None = None


class KubeconfigUser(msgspec.Struct, rename="kebab"):
    """The client's credentials, and the user to impersonate (fields that begin with `as`)."""

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
    as_: str | None = msgspec.field(name="as", default=None)
    as_uid: str | None = None
    as_groups: list[str] | None = None
    as_user_extra: dict[str, list[str]] | None = None


class _Context(msgspec.Struct):
    cluster: str
    user: str | None = None


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: KubeconfigCluster


class _NamedUser(msgspec.Struct):
    name: str
    user: KubeconfigUser | None = None


class _NamedContext(msgspec.Struct):
    name: str
    context: _Context


class _Kubeconfig(msgspec.Struct, rename="kebab"):
    current_context: str
    contexts: list[_NamedContext]
    clusters: list[_NamedCluster]
    users: list[_NamedUser] | None = None


def kubeconfig_files(path: str) -> tuple[str, ...]:
    """
    Return the files that `path` names: one, or several with ``:`` between, as ``KUBECONFIG`` may.
    """
    if os.pathsep not in path or Path(path).exists():
        return (path,)
    return tuple(dict.fromkeys(part for part in path.split(os.pathsep) if part))


def read_kubeconfig(path: str) -> dict[str, Any]:
    """
    Return what the file holds, still unchecked, with absolute paths. Raises ConfigError.

    Several files are merged as kubectl does: the first that names a cluster, user or context, or
    the current context, counts. Of several files, some may be missing or empty.
    """
    files = kubeconfig_files(path)
    if len(files) == 1:
        return _read_file(files[0])
    found = [_read_file(file, may_be_empty=True) for file in files if Path(file).exists()]
    if not found:
        raise ConfigError(f"{path}: none of these files exists", "check KUBECONFIG")
    merged: dict[str, Any] = {}
    for data in found:
        for field, value in data.items():
            if field in _LISTS:
                merged[field] = _merged(merged.get(field), value)
            elif not merged.get(field):
                merged[field] = value
    return merged


def _merged(first: Any, second: Any) -> Any:
    """Return the items of two lists; of those with one name, the first."""
    if not isinstance(first, list):
        return second
    if not isinstance(second, list):
        return first if second is None else second  # what is no list is reported later
    names = {item.get("name") for item in first if isinstance(item, dict)}
    return [*first, *(i for i in second if not (isinstance(i, dict) and i.get("name") in names))]


def _read_file(path: str, *, may_be_empty: bool = False) -> dict[str, Any]:
    try:
        document, _ = first_document(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {reason_of(error)}", "check --kubeconfig") from error
    except InputError as error:
        raise ConfigError(f"{path}: {error.what}", error.remedy) from error
    if document.value is None and may_be_empty:
        return {}
    if not isinstance(document.value, dict):
        raise ConfigError(f"{path}: is no kubeconfig: there is no mapping at the top")
    _make_absolute(document.value, Path(path).absolute().parent)
    return document.value


def _make_absolute(data: dict[str, Any], directory: Path) -> None:
    """
    Make the paths of an unchecked kubeconfig absolute: they are relative to its directory.

    A plugin's command without ``/`` is no path, but a name to find in ``PATH``.
    """
    for field, inner, names in _PATHS:
        items = data.get(field)
        for item in items if isinstance(items, list) else ():
            content = item.get(inner) if isinstance(item, dict) else None
            if not isinstance(content, dict):
                continue
            for name in names:
                if content.get(name) and isinstance(content[name], str):
                    content[name] = str(directory / content[name])
            program = content.get("exec")
            if isinstance(program, dict) and "/" in str(command := program.get("command")):
                program["command"] = os.path.normpath(directory / str(command))


def credential_plugin(path: str, cluster: KubeconfigCluster, user: KubeconfigUser) -> Plugin | None:
    """Return the credential plugin of a checked user, None for none. Raises ConfigError."""
    program = user.exec
    if program is None:
        return None
    if program.interactive_mode == "Always":
        raise ConfigError(
            f"{path}: exec.interactiveMode: is Always, but nfproxy runs without a terminal",
            "use a plugin that works without one (IfAvailable, Never)",
        )
    return Plugin(
        program.command,
        program.api_version,
        tuple(program.args or ()),
        tuple((variable.name, variable.value) for variable in program.env or ()),
        program.install_hint or "",
        _cluster_info(path, cluster) if program.provide_cluster_info else None,
    )


def _cluster_info(path: str, cluster: KubeconfigCluster) -> dict[str, Any]:
    """Return what a plugin learns of the cluster: ``ExecCredential``'s ``spec.cluster``."""
    authority = cluster.certificate_authority_data
    if not authority and cluster.certificate_authority:
        try:
            content = Path(cluster.certificate_authority).read_bytes()
        except OSError as error:
            what = f"{path}: certificate-authority: {cluster.certificate_authority}"
            raise ConfigError(f"{what}: {reason_of(error)}") from error
        authority = base64.b64encode(content).decode()
    extensions = {item.name: item.extension for item in cluster.extensions or ()}
    info = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": authority,
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
        "config": extensions.get(_PLUGIN_EXTENSION),
    }
    return {name: value for name, value in info.items() if value}


def current_context(path: str, data: dict[str, Any]) -> tuple[KubeconfigCluster, KubeconfigUser]:
    """Return cluster and user of the current context. Raises ConfigError naming the field."""
    try:
        config = msgspec.convert(data, _Kubeconfig)
    except UNREADABLE as error:
        raise ConfigError(f"{path}: {mismatch(data, _Kubeconfig)}") from error
    contexts = {item.name: item.context for item in config.contexts}
    clusters = {item.name: item.cluster for item in config.clusters}
    users = {item.name: item.user or KubeconfigUser() for item in config.users or ()}
    context = contexts.get(config.current_context)
    if context is None:
        raise _absent(path, "current-context", config.current_context, "contexts")
    cluster = clusters.get(context.cluster)
    if cluster is None:
        raise _absent(path, "context.cluster", context.cluster, "clusters")
    if context.user and context.user not in users:
        raise _absent(path, "context.user", context.user, "users")
    user = users[context.user] if context.user else KubeconfigUser()
    _check_pem(path, cluster, "certificate_authority_data", _CERTIFICATE, "certificate")
    _check_pem(path, user, "client_certificate_data", _CERTIFICATE, "certificate")
    _check_pem(path, user, "client_key_data", _KEY, "private key")
    _check_trust(path, cluster)
    _check_credentials(path, user)
    _check_impersonation(path, user)
    _check_files(path, cluster, "certificate_authority")
    _check_files(path, user, "client_certificate", "client_key", "token_file")
    return cluster, user


def _absent(path: str, field: str, name: str, where: str) -> ConfigError:
    return ConfigError(f"{path}: {field} is {quoted(name)}, which is not among its {where}")


def _check_pem(
    path: str, item: msgspec.Struct, field: str, begin: re.Pattern[bytes], what: str
) -> None:
    """
    Raise ConfigError for data that is no base64 of PEM.

    The check is strict: if a part of a CA were skipped, the system's CAs would be trusted instead.
    As in Go, the base64 may contain line ends and nothing else.
    """
    text = getattr(item, field)
    if not text:
        return
    try:
        data = base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"{path}: {_yaml_name(field)}: is no base64") from error
    if not begin.search(data):
        raise ConfigError(
            f"{path}: {_yaml_name(field)}: holds no PEM {what}",
            "give the base64 of a PEM file (base64 -w0 FILE)",
        )


def _check_trust(path: str, cluster: KubeconfigCluster) -> None:
    for field in ("certificate_authority", "certificate_authority_data"):
        if cluster.insecure_skip_tls_verify and getattr(cluster, field):
            raise ConfigError(
                f"{path}: insecure-skip-tls-verify: is not allowed together with "
                f"{_yaml_name(field)}",
                "remove one of them",
            )


def _check_credentials(path: str, user: KubeconfigUser) -> None:
    if user.auth_provider is not None:
        name = shorten(str(user.auth_provider.get("name", "")))
        raise ConfigError(
            f"{path}: auth-provider: {name!r} is not supported, as in Kubernetes from 1.26 on",
            "give the user an exec field with the command of a credential plugin "
            "(gke-gcloud-auth-plugin for gcp, kubelogin for azure and oidc)",
        )
    if user.token and not user.token_file and not fits_header(user.token):
        raise ConfigError(f"{path}: token: {NOT_FOR_HEADERS}")


def _check_impersonation(path: str, user: KubeconfigUser) -> None:
    """Raise ConfigError, as client-go does, for a part of an identity without its name."""
    extra = user.as_user_extra or {}
    parts = {
        "as": [user.as_ or ""],
        "as-uid": [user.as_uid or ""],
        "as-groups": user.as_groups or [],
        "as-user-extra": [text for key, values in extra.items() for text in (key, *values)],
    }
    for field, texts in parts.items():
        if any(texts) and not user.as_:
            raise ConfigError(f"{path}: {field}: is given without `as`, the user to impersonate")
        if not all(text.isprintable() for text in texts):
            raise ConfigError(f"{path}: {field}: {NOT_FOR_HEADERS}")


def fits_header(token: str) -> bool:
    """Return whether an HTTP header can carry a token: printable ASCII."""
    return token.isascii() and token.isprintable()


def _check_files(path: str, item: msgspec.Struct, *fields: str) -> None:
    for field in fields:
        name = getattr(item, field)
        if not name or getattr(item, f"{field}_data", None):
            continue
        file = Path(name)
        try:
            file.open("rb").close()
        except (OSError, ValueError) as error:
            what = f"{path}: {_yaml_name(field)}: {file}: {reason_of(error)}"
            raise ConfigError(what) from error


def _yaml_name(field: str) -> str:
    return "tokenFile" if field == "token_file" else field.replace("_", "-")
