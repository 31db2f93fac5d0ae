"""
What went wrong between us and the API server, in words that say what to check.
"""

from __future__ import annotations

import errno
import os
import ssl
from email.utils import parsedate_to_datetime

import aiohttp

from nfproxy.errors import NfproxyError
from nfproxy.kube.watch import Status
from nfproxy.text import shorten

_EXPIRED, _NOT_YET = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID
_NO_LIFE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
_WANTS_TLS = b"client sent an http request to an https server"  # of Go's net/http

USE_HTTPS = (
    "the port speaks TLS and was asked without; use https in the server address (server in the "
    "kubeconfig, --master)"
)
IN_CLUSTER = (
    "this is the address of the Service kubernetes (KUBERNETES_SERVICE_HOST), which nothing serves "
    "before a proxy runs: name the API servers themselves, with --master or the kubeconfig's server"
)
_TEXT_LIMIT = 200  # characters of what a server says


class RequestError(NfproxyError):
    """
    A request came to nothing; the text says what to check.

    `status` is what the API server answered, code 0 where nobody did.
    """

    def __init__(self, text: str, status: Status | None = None) -> None:
        """Take the text and the answer."""
        super().__init__(text)
        self.status = status or Status()

    @property
    def silent(self) -> bool:
        """Tell whether nothing came for too long, rather than something wrong."""
        return isinstance(self.__cause__, TimeoutError)


def tidy(text: str) -> str:
    """Return what somebody else said as a part of one line of a log."""
    printable = "".join(c if c.isprintable() else " " for c in text[: 2 * _TEXT_LIMIT])
    return shorten(" ".join(printable.split()), _TEXT_LIMIT)


def answered(status: Status, reason: str, credentials: str = "") -> str:
    """
    Return what to say of an answer that is no success.

    `reason` is HTTP's; `credentials` is where ours are from.
    """
    said = tidy(status.message or reason)
    match status.code:
        case 401:
            return (
                f"401 {said}: the credentials from {credentials} are not accepted; check that the "
                "token or client certificate there is of this cluster and has not expired"
            )
        case 429:
            return f"429 {said}; the API server asks to come back later"
        case 404:
            return f"404 {said}; check that the address is that of a Kubernetes API server"
    return f"{status.code} {said}"


def wants_tls(code: int, body: bytes) -> bool:
    """Tell whether a Go server got plain HTTP where it speaks TLS; it answers that without TLS."""
    return code == 400 and _WANTS_TLS in body.lower()


def forbidden(group: str, resource: str, said: str) -> str:
    """Return what to say when we may not list or watch a resource."""
    return (
        f"403 Forbidden: may not list and watch {resource}: needs an RBAC rule with apiGroups "
        f'["{group}"], resources ["{resource}"], verbs ["list", "watch"], as the ClusterRoles '
        "nfproxy (deploy/kustomize/base) and system:node-proxier have; bind this client's user or "
        "service account to one of them "
        f"({tidy(said) or 'no reason given'})"
    )


def forbidden_events(said: str) -> str:
    """Return what to say when we may not write Events."""
    return (
        '403 Forbidden: needs an RBAC rule with apiGroups ["", "events.k8s.io"], resources '
        f'["events"], verbs ["create", "patch", "update"] ({tidy(said) or "no reason given"})'
    )


def out_of_reach(error: BaseException) -> bool:
    """
    Tell whether a request that was not answered says that another server may do better.

    Not so where the address is none, or what was to be sent is nothing that HTTP can carry.
    """
    return isinstance(error, (aiohttp.ClientError, OSError)) and not isinstance(
        error, aiohttp.InvalidURL
    )


def vanished(error: BaseException) -> bool:
    """Tell whether a connection broke for want of any sign of life, and not by a word."""
    return isinstance(error, TimeoutError) or getattr(error, "errno", None) in _NO_LIFE


def unanswered(error: BaseException, host: str) -> str:
    """Return what to say of a request that got no answer."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return _certificate(error.certificate_error, host)
        case ssl.SSLCertVerificationError():
            return _certificate(error, host)
        case aiohttp.ClientConnectorDNSError():
            return (
                f"the name in {host} is not known ({_cause(error.os_error)}); check the server "
                "address and this node's DNS"
            )
        case aiohttp.ClientHttpProxyError():
            return (
                f"the proxy answered {error.status} {tidy(error.message)}; check "
                "proxy-url in the kubeconfig, HTTPS_PROXY and NO_PROXY"
            )
        case aiohttp.ClientProxyConnectionError():
            return (
                f"the proxy cannot be reached ({_cause(error.os_error)}); check proxy-url in the "
                "kubeconfig, HTTPS_PROXY and NO_PROXY"
            )
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return (
                f"no TLS connection to {host} ({_cause(error)}); check that the port speaks "
                "TLS, and the client certificate"
            )
        case aiohttp.ClientConnectorError() | ConnectionError():
            return _unreachable(getattr(error, "os_error", error), host)
        case TimeoutError():
            return f"{host} does not answer; check the address, routes and firewalls"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return f"{host} closed the connection in the middle of an answer"
    return f"no answer from {host} ({_cause(error)})"


def _certificate(error: Exception, host: str) -> str:
    code = getattr(error, "verify_code", 0)
    if code == _EXPIRED:
        return (
            f"the certificate of {host} has expired; renew it (kubeadm certs renew), or check "
            "this node's clock"
        )
    if code == _NOT_YET:
        return f"the certificate of {host} is not valid yet; check this node's clock"
    said = getattr(error, "verify_message", "") or str(error)
    return (
        f"the certificate of {host} is not trusted ({tidy(said)}); check "
        "certificate-authority and server in the kubeconfig"
    )


def _unreachable(error: BaseException | None, host: str) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ECONNREFUSED:
        return f"{host} refuses connections; check that the API server runs there"
    if number in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"{host} cannot be reached ({_cause(error)}); check this node's routes"
    return f"the connection to {host} broke ({_cause(error)})"


def _cause(error: BaseException | None) -> str:
    error = getattr(error, "os_error", error)
    if isinstance(error, ssl.SSLError):  # its errno is none of the system's
        return tidy(getattr(error, "reason", None) or str(error))
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number in errno.errorcode:
        return os.strerror(number)
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return tidy(str(text))


def retry_after_s(header: str | None, now_s: float) -> float | None:
    """Return what a Retry-After header asks for, in seconds or as a date; None for neither."""
    if not header:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None
