"""
Requests to the API server that got no answer: what happened, and what to check.

Answers with an error code are in :mod:`nfproxy.kube.apistatus`.
"""

from __future__ import annotations

import errno
import os
import ssl
from email.utils import parsedate_to_datetime

import aiohttp

from nfproxy.apiserver.bodies import TooSlowError
from nfproxy.errors import reason_of
from nfproxy.kube.apistatus import RequestError
from nfproxy.text import one_line

_EXPIRED, _NOT_YET = 10, 9  # X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID
_NO_SIGN_OF_LIFE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
_WANTS_TLS = b"client sent an http request to an https server"  # Go's net/http, without TLS
_CHECK_PROXY = "check proxy-url in the kubeconfig, HTTPS_PROXY and NO_PROXY"

USE_HTTPS = (
    "the port speaks TLS; use https in the server address (server in the kubeconfig, --master)"
)
IN_CLUSTER = (
    "this is the address of the Service kubernetes (KUBERNETES_SERVICE_HOST), which does not work "
    "before a proxy runs: name the API servers themselves, with --master or the kubeconfig's server"
)


def wants_tls(code: int, body: bytes) -> bool:
    """Return whether a Go server received plain HTTP on a port for TLS."""
    return code == 400 and _WANTS_TLS in body.lower()


def is_out_of_reach(error: BaseException | None) -> bool:
    """
    Return whether another API server may answer what this one did not.

    Not if the address or the request itself cannot be used with HTTP.
    """
    return isinstance(error, (aiohttp.ClientError, OSError)) and not isinstance(
        error, aiohttp.InvalidURL
    )


def is_unsent(error: BaseException | None) -> bool:
    """Return whether there was no connection, so that the server cannot have seen the request."""
    return isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))


def is_lifeless(error: BaseException) -> bool:
    """Return whether a connection broke because the peer gave no sign of life any more."""
    return isinstance(error, TimeoutError) or getattr(error, "errno", None) in _NO_SIGN_OF_LIFE


def unanswered(error: BaseException, host: str) -> RequestError:
    """Return the error for a request to `host` that got no answer, or half of one."""
    what, remedy = _explain(error, host)
    is_slow = isinstance(error, TooSlowError)
    is_silent = isinstance(error, TimeoutError) and not is_slow
    return RequestError(what, remedy, is_silent=is_silent, is_certain=is_slow)


def _explain(error: BaseException, host: str) -> tuple[str, str]:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return _certificate(error.certificate_error, host)
        case ssl.SSLCertVerificationError():
            return _certificate(error, host)
        case aiohttp.ClientConnectorDNSError():
            return (
                f"the name in {host} is not known ({_cause(error.os_error)})",
                "check the server address and this node's DNS",
            )
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answered {error.status} {one_line(error.message)}", _CHECK_PROXY
        case aiohttp.ClientProxyConnectionError():
            return f"the proxy cannot be reached ({_cause(error.os_error)})", _CHECK_PROXY
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return (
                f"no TLS connection to {host} ({_cause(error)})",
                "check that the port speaks TLS, and the client certificate",
            )
        case aiohttp.ClientConnectorError() | ConnectionError():
            return _unreachable(getattr(error, "os_error", error), host)
        case TooSlowError():
            return (
                f"{host} sends its answer too slowly: {error}",
                "check the network, and proxies and load balancers in between",
            )
        case TimeoutError():
            return f"{host} does not answer", "check the address, routes and firewalls"
        case aiohttp.ClientResponseError():  # its text is the parser's, with parts of the answer
            return (
                f"what {host} answers is not HTTP",
                "check the server address: does it name the API server's port?",
            )
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return f"{host} closed the connection in the middle of an answer", ""
    return f"no answer from {host} ({_cause(error)})", ""


def _certificate(error: Exception, host: str) -> tuple[str, str]:
    code = getattr(error, "verify_code", 0)
    if code == _EXPIRED:
        return (
            f"the certificate of {host} has expired",
            "renew it (kubeadm certs renew), or check this node's clock",
        )
    if code == _NOT_YET:
        return f"the certificate of {host} is not valid yet", "check this node's clock"
    reason = getattr(error, "verify_message", "") or str(error)
    return (
        f"the certificate of {host} is not trusted ({one_line(reason)})",
        "check certificate-authority and server in the kubeconfig",
    )


def _unreachable(error: BaseException | None, host: str) -> tuple[str, str]:
    number = getattr(error, "errno", None)
    if number == errno.ECONNREFUSED:
        return f"{host} refuses connections", "check that the API server runs there"
    if number in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"{host} cannot be reached ({_cause(error)})", "check this node's routes"
    return f"the connection to {host} broke ({_cause(error)})", ""


def _cause(error: BaseException | None) -> str:
    """Return the reason for an error, as the system words it where the system gave it."""
    error = getattr(error, "os_error", error)
    if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's, not the system's
        return one_line(getattr(error, "reason", None) or str(error))
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number in errno.errorcode:
        return os.strerror(number)
    return one_line(reason_of(error)) if error else "no reason"


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
