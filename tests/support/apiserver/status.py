"""
The API's ``Status`` objects: how an API server says no.

Words and reasons are those of k8s.io/apimachinery/pkg/api/errors, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import Any

from support.apiserver.resources import Resource

TOO_MANY = "Too many requests, please try again later."
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class StatusError(Exception):
    """A request is refused. `body` is the Status that is sent."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str = "",
        details: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata or {},
            "status": "Failure",
            "message": message,
            "reason": reason or _REASONS.get(code, "Unknown"),
            **({} if details is None else {"details": details}),
            "code": code,
        }

    @property
    def retry_after_s(self) -> int:
        """Seconds for ``Retry-After``, 0 for none."""
        details: dict[str, Any] = self.body.get("details") or {}  # type: ignore[assignment]
        return int(details.get("retryAfterSeconds", 0))


def not_found(resource: Resource, name: str) -> StatusError:
    """There is no such object."""
    return StatusError(
        404, f'{resource.qualified} "{name}" not found', details=_details(resource, name)
    )


def unknown_resource() -> StatusError:
    """The group and version are known, the resource is not."""
    return StatusError(404, "the server could not find the requested resource", details={})


def not_allowed() -> StatusError:
    """The resource is known, the method is none it has."""
    text = "the server does not allow this method on the requested resource"
    return StatusError(405, text, details={})


def exists(resource: Resource, name: str) -> StatusError:
    """An object to be created is there already."""
    return StatusError(
        409,
        f'{resource.qualified} "{name}" already exists',
        reason="AlreadyExists",
        details=_details(resource, name),
    )


def conflict(resource: Resource, name: str) -> StatusError:
    """An object was changed since the client read it."""
    return StatusError(
        409,
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been '
        "modified; please apply your changes to the latest version and try again",
        details=_details(resource, name),
    )


def too_large_version(wanted: int, current: int) -> StatusError:
    """A version is asked for that is not there yet, and did not come in time."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return StatusError(
        504,
        f"Timeout: Too large resource version: {wanted}, current: {current}",
        details={"causes": [cause], "retryAfterSeconds": 1},
    )


def invalid_options(*causes: tuple[str, str, str]) -> StatusError:
    """A list's or watch's options contradict each other: (type, field, words) each."""
    words = [f"{field}: {text}" for _, field, text in causes]
    joined = words[0] if len(words) == 1 else f"[{', '.join(words)}]"
    return StatusError(
        422,
        f'ListOptions.meta.k8s.io "" is invalid: {joined}',
        details={
            "group": "meta.k8s.io",
            "kind": "ListOptions",
            "causes": [{"reason": r, "message": t, "field": f} for r, f, t in causes],
        },
    )


def deleted(resource: Resource, name: str, uid: str) -> dict[str, Any]:
    """Return what a DELETE answers."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {**_details(resource, name), "uid": uid},
    }


def injected(code: int, retry_after_s: int | None) -> StatusError:
    """Return the refusal of an API server in trouble."""
    words = {
        429: TOO_MANY,
        500: "Internal error occurred: etcdserver: request timed out",
        503: "apiserver not ready",
    }
    return StatusError(
        code,
        words.get(code, f"the test asked for the answer {code}"),
        details={"retryAfterSeconds": retry_after_s} if retry_after_s else None,
    )


def _details(resource: Resource, name: str) -> dict[str, Any]:
    group = {"group": resource.group} if resource.group else {}
    return {"name": name, **group, "kind": resource.plural}
