"""
Where the API server is, and how to prove who we are there.

Read from a kubeconfig, from the service account of a pod, or from ``--master`` alone, and read
again when one of the files has changed: tokens and certificates rotate while we run.
"""

from __future__ import annotations

import datetime
import os
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from nfproxy.apiserver.kubeclient import (
    ConfigException,
    Configuration,
    InClusterConfigLoader,
)
from nfproxy.apiserver.kubeconfig import Found, load_kubeconfig
from nfproxy.apiserver.kubeconfigfile import UNFIT, fits_header
from nfproxy.apiserver.memoryfiles import MemoryFiles
from nfproxy.apiserver.plugins import PluginRunner
from nfproxy.apiserver.servers import Server, proxy_for
from nfproxy.errors import ConfigError, NfproxyError
from nfproxy.text import shorten

#: Where a pod finds the Service ``kubernetes``.
_SERVICE = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")  # urlsplit drops some of them

Signature = tuple[tuple[int, int, int] | None, ...]


class ClientSettings(msgspec.Struct, frozen=True):
    """
    What the configuration says about the API server: ``--master`` and ``clientConnection``.

    `master` may name several API servers, with commas between; `spread`, the node's name, tells
    with which of them to begin. `qps` and `burst` bound the requests; a negative `qps` means
    without bound. Without `kubeconfig` the service account in `service_account` is used; with
    `master`, only where there is one.
    """

    kubeconfig: str = ""
    master: str = ""
    spread: str = ""
    qps: float = 5.0
    burst: int = 10
    service_account: str = SERVICE_ACCOUNT


class Access:
    """
    Address, credentials and transport as they were when they were read.

    `configuration` is the official client's, with all but the token of a token file; its address is
    the first of `servers`. `impersonation` are the headers to send besides. `in_cluster` tells
    whether the address is that of the Service ``kubernetes``, from the environment of the pod.
    """

    def __init__(
        self,
        configuration: Any,
        servers: tuple[Server, ...],
        origin: str,
        files: MemoryFiles,
        found: Found,
        in_cluster: bool = False,
    ) -> None:
        """
        Take what was read from `origin`, and `found` beside the client's configuration.

        `files` is what stands for files until there is a TLS context.
        """
        self.configuration = configuration
        self.servers = servers
        self.in_cluster = in_cluster
        self.origin = origin
        self.files = files
        self.impersonation = found.impersonation
        self._token_file = found.token_file
        self._expires = found.expires
        self._files = tuple(
            str(path)
            for path in (
                origin,
                configuration.ssl_ca_cert,
                configuration.cert_file,
                configuration.key_file,
            )
            if path and not str(path).startswith("/proc/self/fd/")
        )
        self._signature = _signature(self._files)

    @property
    def credentials(self) -> str:
        """Where the credentials are from, for messages."""
        return self._token_file or self.origin or "--master alone, which gives none"

    def is_stale(self, now: datetime.datetime) -> bool:
        """Tell whether it should be read again."""
        if self._expires is not None and now >= self._expires:
            return True
        return _signature(self._files) != self._signature

    def authorization(self) -> str:
        """
        Return the ``Authorization`` header, "" for none.

        A token file is read each time: the kubelet and others replace it at any time, and
        there are few requests. Raises ConfigError if that cannot be done.
        """
        if self._token_file:
            return f"Bearer {read_token(self._token_file)}"
        return str(self.configuration.api_key.get("BearerToken") or "")


def read_token(path: str) -> str:
    """Return the token in a file. Raises ConfigError."""
    try:
        token = Path(path).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no token can be read: {_why(error)}") from error
    if not token or not fits_header(token):
        raise ConfigError(f"{path}: {'its token ' + UNFIT if token else 'is empty'}")
    return token


async def read_access(
    settings: ClientSettings, environ: Mapping[str, str], plugins: PluginRunner
) -> Access:
    """
    Return how to reach the API server.

    Raises ConfigError, naming file and field; PluginError if a credential plugin fails, which
    may pass.
    """
    configuration = Configuration()
    configuration.host = ""
    # Go checks no more than this either: CAs made by older tools lack what "strict" asks for.
    configuration.disable_strict_ssl_verification = True
    files, found = MemoryFiles(), Found()
    masters = _masters(settings.master)
    if settings.kubeconfig:
        found = await load_kubeconfig(
            settings.kubeconfig, masters[0] if masters else "", configuration, plugins, files
        )
    elif not masters:
        found = Found(_load_service_account(settings.service_account, configuration, environ))
    elif _serves_pod(settings.service_account, masters):
        anywhere = {**environ, **dict.fromkeys(_SERVICE, "0")}  # the address is --master's
        found = Found(_load_service_account(settings.service_account, configuration, anywhere))
    where = f"{settings.kubeconfig}: server" if settings.kubeconfig else _SERVICE[0]
    given = [("--master", master) for master in masters] or [(where, configuration.host or "")]
    urls = [_url(text, configuration, where) for where, text in given]
    where = f"{settings.kubeconfig}: proxy-url" if configuration.proxy else "HTTPS_PROXY"
    servers = [Server(url, configuration.proxy or proxy_for(url, environ)) for url in urls]
    for proxy in (server.proxy for server in servers if server.proxy):
        if (urlsplit(proxy).scheme or "http") not in ("http", "https"):
            raise ConfigError(
                f"{where}: {shorten(proxy)}: only http and https proxies can be used to "
                "reach the API server"
            )
    configuration.host = urls[0]
    in_cluster = not (settings.kubeconfig or masters)
    unique = tuple(dict.fromkeys(servers))
    return Access(configuration, unique, settings.kubeconfig, files, found, in_cluster)


def _masters(text: str) -> list[str]:
    """Return the addresses that ``--master`` names, none for ""."""
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _serves_pod(directory: str, masters: Sequence[str]) -> bool:
    """
    Tell whether a pod's service account is there and may be shown to these API servers.

    kube-proxy knows none with ``--master`` alone; but nobody means to be a stranger to all of them,
    and in a pod their CA is known. Not without TLS: whoever listens could use the token.
    """
    return Path(directory, "token").exists() and not any(
        master.lower().startswith("http://") for master in masters
    )


def _load_service_account(directory: str, configuration: Any, environ: Mapping[str, str]) -> str:
    """Take address and CA of the pod we are in, and return its token file."""
    token = f"{directory}/token"
    if not all(environ.get(name) for name in _SERVICE):
        raise ConfigError(
            "no --kubeconfig, no --master, and this is not in a pod "
            f"({' and '.join(_SERVICE)} are not set): give a kubeconfig"
        )
    try:
        InClusterConfigLoader(
            token, f"{directory}/ca.crt", try_refresh_token=False, environ=environ
        ).load_and_set(configuration)
    except (ConfigException, OSError, ValueError) as error:
        raise ConfigError(f"service account in {directory}: {_why(error)}") from error
    read_token(token)
    return token


def _url(given: str, configuration: Any, where: str) -> str:
    """Return the URL of an API server; `where` tells who gave it. Raises ConfigError."""
    url = given.rstrip("/")
    if "://" not in url:
        trust = configuration.ssl_ca_cert or configuration.ca_cert_data
        tls = trust or configuration.cert_file or not configuration.verify_ssl
        url = f"{'https' if tls else 'http'}://{url}"
    try:
        parts = urlsplit(url)
        named = parts.hostname and not _BLANK.search(url)
        usable = parts.scheme in ("http", "https") and named and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"{where}: {shorten(given)!r} is not an address such as https://192.0.2.1:6443"
        )
    return url


def check_tls(access: Access, make: Any) -> Any:
    """
    Return what `make` makes of the configuration: the transport, with its TLS context.

    Raises ConfigError naming what cannot be used: CA, client certificate or key.
    """
    configuration = access.configuration
    try:
        return make(configuration)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        field = "client-certificate and client-key"
        try:
            ssl.create_default_context(
                cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data
            )
        except (OSError, ValueError):
            field = f"certificate-authority {configuration.ssl_ca_cert or 'data'}"
        where = access.credentials
        raise ConfigError(f"{where}: {field} cannot be used: {_why(error)}") from error
    finally:
        access.files.close()


def _signature(files: tuple[str, ...]) -> Signature:
    """Return what tells the present content of files from another, None for one not there."""
    found: list[tuple[int, int, int] | None] = []
    for file in files:
        try:
            stat = os.stat(file)  # noqa: PTH116 - a few microseconds, before each request
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)


def _why(error: BaseException) -> str:
    if isinstance(error, NfproxyError):
        return str(error)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
