"""
Where the API servers are, and the credentials to use there.

They come from a kubeconfig, from a pod's service account, or from ``--master`` alone. The
connection reads them again when a file changes: tokens and certificates rotate while nfproxy runs.
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

from nfproxy.apiserver.credentials import Credentials, MemoryFiles, load_kubeconfig
from nfproxy.apiserver.kubeclient import ConfigException, Configuration, InClusterConfigLoader
from nfproxy.apiserver.kubeconfig import NOT_FOR_HEADERS, fits_header, kubeconfig_files
from nfproxy.apiserver.plugins import PluginRunner
from nfproxy.apiserver.serverpool import Server, proxy_for
from nfproxy.config.load import LoadedConfig
from nfproxy.errors import ConfigError, reason_of
from nfproxy.text import quoted, shorten

#: Where a pod finds the Service ``kubernetes``.
_SERVICE = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")  # urlsplit drops some of them

FileStates = tuple[tuple[int, int, int] | None, ...]


class ClientSettings(msgspec.Struct, frozen=True):
    """
    What the configuration says about the API server: ``--master`` and ``clientConnection``.

    `master` may name several API servers, separated by commas; `spread`, the node's name, decides
    which of them is first. `qps` and `burst` bound the requests; a negative `qps` means no bound.
    Without `kubeconfig`, the service account in `service_account` is used; if there is a `master`,
    only where the service account exists.
    """

    kubeconfig: str = ""
    master: str = ""
    spread: str = ""
    qps: float = 5.0
    burst: int = 10
    service_account: str = SERVICE_ACCOUNT


def client_settings(
    loaded: LoadedConfig, node_name: str, default_kubeconfig: str = ""
) -> ClientSettings:
    """
    Return the settings of the configuration.

    `default_kubeconfig` is used if neither a kubeconfig nor ``--master`` is given, "" for none.
    """
    client, master = loaded.config.client_connection, loaded.command_line.master
    return ClientSettings(
        kubeconfig=client.kubeconfig or ("" if master else default_kubeconfig),
        master=master,
        spread=node_name,
        qps=client.qps,
        burst=client.burst,
    )


class Access:
    """
    Addresses, credentials and certificates, as they were when they were read.

    `configuration` is the official client's, complete but for the token of a token file; its
    address is the first of `servers`. `impersonation` holds headers to send. `has_plugin` says
    whether a credential plugin gives credentials. `in_cluster` says
    whether the address is that of the Service ``kubernetes``, from the environment of the pod.
    `files` are needed until there is a TLS context.
    """

    def __init__(
        self,
        configuration: Any,
        servers: tuple[Server, ...],
        kubeconfig: str,
        files: MemoryFiles,
        credentials: Credentials,
        in_cluster: bool = False,
    ) -> None:
        """Keep what was read, and the present state of its files."""
        self.configuration = configuration
        self.servers = servers
        self.in_cluster = in_cluster
        self.files = files
        self.impersonation = credentials.impersonation
        self.has_plugin = credentials.has_plugin
        self._kubeconfig = kubeconfig
        self._token_file = credentials.token_file
        self._renew_at = credentials.renew_at
        paths = (
            *(kubeconfig_files(kubeconfig) if kubeconfig else ()),
            configuration.ssl_ca_cert,
            configuration.cert_file,
            configuration.key_file,
        )
        self._paths = tuple(
            str(path) for path in paths if path and not str(path).startswith("/proc/self/fd/")
        )
        self._states = _states(self._paths)

    @property
    def credentials(self) -> str:
        """The file of the credentials, for messages."""
        return self._token_file or self._kubeconfig or "--master alone, which gives none"

    def is_stale(self, now: datetime.datetime) -> bool:
        """Return whether to read everything again: files changed, or credentials expire."""
        if self._renew_at is not None and now >= self._renew_at:
            return True
        return _states(self._paths) != self._states

    def authorization(self) -> str:
        """
        Return the ``Authorization`` header, "" for none. Raises ConfigError.

        A token file is read each time: the kubelet may replace it at any time, and requests are
        few.
        """
        if self._token_file:
            return f"Bearer {read_token(self._token_file)}"
        return str(self.configuration.api_key.get("BearerToken") or "")


def read_token(path: str) -> str:
    """Return the token in a file. Raises ConfigError."""
    try:
        token = Path(path).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: the token cannot be read: {reason_of(error)}") from error
    if not token:
        raise ConfigError(f"{path}: is empty")
    if not fits_header(token):
        raise ConfigError(f"{path}: its token {NOT_FOR_HEADERS}")
    return token


async def read_access(
    settings: ClientSettings, environ: Mapping[str, str], plugins: PluginRunner | None
) -> Access:
    """
    Return how to reach the API servers.

    Without `plugins` no credential plugin runs: what a plugin gives is missing then, and
    `has_plugin` says so. Raises ConfigError naming file and field, or PluginError if a credential
    plugin fails; another attempt may help then.
    """
    configuration = Configuration()
    configuration.host = ""
    # Go does not check more either: CAs made by older tools lack what "strict" asks for.
    configuration.disable_strict_ssl_verification = True
    files, credentials = MemoryFiles(), Credentials()
    masters = _masters(settings.master)
    account = settings.service_account
    if settings.kubeconfig:
        master = masters[0] if masters else ""
        credentials = await load_kubeconfig(
            settings.kubeconfig, master, configuration, plugins, files
        )
    elif not masters:
        credentials = _load_service_account(account, configuration, environ)
    elif _should_use_account(account, masters):
        # The client's loader insists on an address, which --master replaces.
        somewhere = {**environ, **dict.fromkeys(_SERVICE, "0")}
        credentials = _load_service_account(account, configuration, somewhere)
    servers = _servers(settings.kubeconfig, masters, configuration, environ)
    configuration.host = servers[0].url
    in_cluster = not (settings.kubeconfig or masters)
    return Access(configuration, servers, settings.kubeconfig, files, credentials, in_cluster)


def _servers(
    kubeconfig: str, masters: Sequence[str], configuration: Any, environ: Mapping[str, str]
) -> tuple[Server, ...]:
    """Return the API servers, each once. Raises ConfigError for an address or proxy of no use."""
    field = f"{kubeconfig}: server" if kubeconfig else _SERVICE[0]
    given = [("--master", master) for master in masters] or [(field, configuration.host or "")]
    urls = [_url(text, configuration, field) for field, text in given]
    proxy_field = f"{kubeconfig}: proxy-url" if configuration.proxy else "HTTPS_PROXY"
    servers = [Server(url, configuration.proxy or proxy_for(url, environ)) for url in urls]
    for proxy in (server.proxy for server in servers if server.proxy):
        if (urlsplit(proxy).scheme or "http") not in ("http", "https"):
            raise ConfigError(
                f"{proxy_field}: {shorten(proxy)}: only http and https proxies can be used to "
                "reach the API server"
            )
    return tuple(dict.fromkeys(servers))


def _masters(text: str) -> list[str]:
    """Return the addresses that ``--master`` names, none for ""."""
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _should_use_account(directory: str, masters: Sequence[str]) -> bool:
    """
    Return whether a service account exists and these API servers may see its token.

    kube-proxy with ``--master`` alone sends no credentials, which API servers refuse. A pod has
    credentials, and knows the CA. Without TLS, however, a listener could take the token.
    """
    return Path(directory, "token").exists() and not any(
        master.lower().startswith("http://") for master in masters
    )


def _load_service_account(
    directory: str, configuration: Any, environ: Mapping[str, str]
) -> Credentials:
    """Set address and CA from a pod's files and environment. Raises ConfigError."""
    token = f"{directory}/token"
    if not all(environ.get(name) for name in _SERVICE):
        raise ConfigError(
            "no --kubeconfig, no --master, and this is not in a pod "
            f"({' and '.join(_SERVICE)} are not set)",
            "give a kubeconfig",
        )
    try:
        InClusterConfigLoader(
            token, f"{directory}/ca.crt", try_refresh_token=False, environ=environ
        ).load_and_set(configuration)
    except (ConfigException, OSError, ValueError) as error:
        raise ConfigError(f"service account in {directory}: {reason_of(error)}") from error
    read_token(token)
    return Credentials(token)


def _url(given: str, configuration: Any, field: str) -> str:
    """Return the URL of an API server; `field` names its source. Raises ConfigError."""
    url = given.rstrip("/")
    if "://" not in url:
        # As in client-go: TLS where there is anything about TLS. A token must not be sent in the
        # clear because verification is off.
        trust = configuration.ssl_ca_cert or configuration.ca_cert_data
        tls = trust or configuration.cert_file or not configuration.verify_ssl
        url = f"{'https' if tls else 'http'}://{url}"
    try:
        parts = urlsplit(url)
        has_name = parts.hostname and not _BLANK.search(url)
        is_usable = parts.scheme in ("http", "https") and has_name and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(
            f"{field}: {quoted(given)} is not an address such as https://192.0.2.1:6443"
        )
    return url


def check_tls(access: Access, make: Any) -> Any:
    """
    Return what `make` makes of the client's configuration: the transport with its TLS context.

    Raises ConfigError naming the part that cannot be used: CA, client certificate or key. The
    memory files are gone afterwards.
    """
    configuration = access.configuration
    try:
        if configuration.cert_file:
            _check_key(access.credentials, configuration)
        return make(configuration)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        field = "client-certificate and client-key"
        # OpenSSL's error does not say which file is wrong: try the CA alone.
        try:
            ssl.create_default_context(
                cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data
            )
        except (OSError, ValueError):
            field = f"certificate-authority {configuration.ssl_ca_cert or 'data'}"
        raise ConfigError(
            f"{access.credentials}: {field} cannot be used: {reason_of(error)}"
        ) from error
    finally:
        access.files.close()


def _check_key(credentials: str, configuration: Any) -> None:
    """
    Raise ConfigError if the client's key is encrypted.

    Without this, OpenSSL would ask for a passphrase at the terminal, and wait for it.
    """

    def refuse() -> str:
        raise ConfigError(
            f"{credentials}: client-key: the key is encrypted, and nfproxy asks for no passphrase",
            "give a key without one: openssl pkey -in KEY -out NEW-KEY",
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(configuration.cert_file, configuration.key_file, password=refuse)


def _states(paths: tuple[str, ...]) -> FileStates:
    """Return a value that differs when a file has changed, with None for a file that is absent."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            stat = os.stat(path)  # noqa: PTH116 - faster, and called before each request
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)
