"""
What an API server answers instead of a result, and what a person reads about it.

Source: ``metav1.Status``. No socket: transport errors are in :mod:`nfproxy.apiserver.failures`.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from nfproxy.errors import NfproxyError
from nfproxy.mismatch import UNREADABLE
from nfproxy.text import one_line

GONE = 410  # the resource version, or the continue token, is too old

#: The code of an error whose answer is longer than the caller accepts.
TOO_LONG = "too long"


class Status(msgspec.Struct, frozen=True):
    """A ``metav1.Status``; `code` is 0 where there was no answer."""

    code: int = 0
    reason: str = ""
    message: str = ""
    retry_after_s: float | None = None

    @property
    def is_expired(self) -> bool:
        """Whether the version asked for is too old, so that the client must list again."""
        return self.code == GONE or self.reason in ("Expired", "Gone")


class RequestError(NfproxyError):
    """
    A request to the API server failed.

    `status` is the answer, with code 0 where there was none. `is_silent` means that nothing arrived
    for too long, as opposed to something wrong. `is_certain` means that another attempt will most
    likely fail, too: a person should know at once.
    """

    def __init__(
        self,
        what: str,
        remedy: str = "",
        status: Status | None = None,
        is_silent: bool = False,
        *,
        code: str = "",
        is_certain: bool = False,
    ) -> None:
        """Keep the parts."""
        super().__init__(what, remedy, code)
        self.status = status or Status()
        self.is_silent = is_silent
        self.is_certain = is_certain


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float | None = None


class _WireStatus(msgspec.Struct):
    kind: str | None = None
    code: int | None = None
    reason: str | None = None
    message: str | None = None
    details: _Details | None = None


_status = msgspec.json.Decoder(_WireStatus)


def read_status(data: bytes | Raw) -> Status | None:
    """Return a Status, None for anything else, such as a load balancer's HTML page."""
    try:
        found = _status.decode(data)
    except UNREADABLE:
        return None
    if found.kind != "Status":
        return None
    retry_after_s = found.details.retry_after_seconds if found.details else None
    return Status(found.code or 0, found.reason or "", found.message or "", retry_after_s)


def refused(
    status: Status, http_reason: str = "", credentials: str = "", location: str = ""
) -> RequestError:
    """
    Return the error for an answer that is no success.

    `http_reason` is the text of the HTTP status line, for answers without a Status. `credentials`
    names the file of the client's credentials, `location` where a redirect leads.
    """
    said = f"{status.code} {one_line(status.message or http_reason)}"
    match status.code:
        case code if 300 <= code < 400:
            return RequestError(
                f"{said}: the server redirects to {one_line(location) or 'another address'}, "
                "and nfproxy follows no redirect",
                "name the API server itself (server in the kubeconfig, --master)",
                status,
            )
        case 401:
            return RequestError(
                f"{said}: the credentials from {credentials} are not accepted",
                "check that the token or client certificate there is of this cluster and has not "
                "expired",
                status,
            )
        case 429:
            return RequestError(said, "the API server asks to come back later", status)
        case 404:
            remedy = "check that the address is that of a Kubernetes API server"
            return RequestError(said, remedy, status)
    return RequestError(said, status=status)


def forbidden(group: str, plural: str, message: str) -> tuple[str, str]:
    """Return what and remedy for a resource that nfproxy may not list or watch."""
    reason = one_line(message) or "no reason given"
    return (
        f"403 Forbidden: may not list and watch {plural} ({reason})",
        f'grant it with an RBAC rule with apiGroups ["{group}"], resources ["{plural}"], '
        'verbs ["list", "watch"], as the ClusterRoles nfproxy (deploy/kustomize/base) and '
        "system:node-proxier have; bind this client's user or service account to one of them",
    )


def forbidden_events(message: str) -> tuple[str, str]:
    """Return what and remedy where nfproxy may not write Events."""
    return (
        f"403 Forbidden: may not write Events ({one_line(message) or 'no reason given'})",
        'grant it with an RBAC rule with apiGroups ["", "events.k8s.io"], resources ["events"], '
        'verbs ["create", "patch", "update"]',
    )
