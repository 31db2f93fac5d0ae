"""
Who a client is, and what it may do.

Source: RBAC's default roles system:node-proxier and system:public-info-viewer, and the words
of k8s.io/apiserver's filters, Kubernetes 1.36.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web
from support.apiserver.rbac import Policy
from support.apiserver.resources import Target
from support.apiserver.status import StatusError

ADMIN, KUBE_PROXY, ANONYMOUS = "admin", "system:kube-proxy", "system:anonymous"
TOKENS = {ADMIN: "admin-token", KUBE_PROXY: "kube-proxy-token"}

_READ = ("list", "watch")
_NODE_PROXIER = {
    "services": _READ,
    "endpointslices": _READ,
    "servicecidrs": _READ,
    "nodes": ("get", *_READ),
    "events": ("create", "patch", "update"),
}
_PUBLIC = ("/healthz", "/livez", "/readyz", "/version")
_DISCOVERY = ("/api", "/apis")
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


class Access:
    """
    The tokens that are valid, and what each user may do; both change at run time.

    `policy` is what RBAC objects grant, beside what `permit` and `forbid` say.
    """

    def __init__(self) -> None:
        self.tokens = {token: user for user, token in TOKENS.items()}
        self.policy = Policy()
        self._allowed: set[tuple[str, str, str]] = {
            (KUBE_PROXY, resource, verb)
            for resource, verbs in _NODE_PROXIER.items()
            for verb in verbs
        }

    def user(self, request: web.BaseRequest) -> str:
        """Return who asks: by client certificate, token, or neither. Raises StatusError, 401."""
        encrypted: Any = request.transport and request.transport.get_extra_info("ssl_object")
        certificate = encrypted.getpeercert() if encrypted else None
        for ((name, value),) in (certificate or {}).get("subject", ()):
            if name == "commonName":
                return str(value)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            return ANONYMOUS
        user = self.tokens.get(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise StatusError(401, "Unauthorized")
        return user

    def check(self, user: str, verb: str, target: Target) -> None:
        """Raise StatusError, 403, if a user may not do that."""
        if user == ADMIN or (user, target.resource, verb) in self._allowed:
            return
        if self.policy.allows(user, verb, target):
            return
        if not target.resource:
            path = "/" + target.path.strip("/")
            public = any(path == p or path.startswith(f"{p}/") for p in _PUBLIC)
            discovery = any(path == p or path.startswith(f"{p}/") for p in _DISCOVERY)
            if verb == "get" and (public or (discovery and user != ANONYMOUS)):
                return
            raise StatusError(
                403, f'forbidden: User "{user}" cannot {verb} path "{target.path}"', details={}
            )
        raise _forbidden(user, verb, target)

    def permit(self, user: str, resource: str, verbs: tuple[str, ...]) -> None:
        """Let a user do something; no verbs: everything."""
        self._allowed.update((user, resource, verb) for verb in verbs or _VERBS)

    def forbid(self, user: str, resource: str, verbs: tuple[str, ...]) -> None:
        """Let a user do something no more; no verbs: nothing."""
        self._allowed.difference_update((user, resource, verb) for verb in verbs or _VERBS)


def _forbidden(user: str, verb: str, target: Target) -> StatusError:
    group = target.group
    qualified = f"{target.resource}.{group}" if group else target.resource
    named = f'{qualified} "{target.name}"' if target.name else qualified
    subresource = f"/{target.subresource}" if target.subresource else ""
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    details = {"group": group, "kind": target.resource, "name": target.name}
    return StatusError(
        403,
        f'{named} is forbidden: User "{user}" cannot {verb} resource '
        f'"{target.resource}{subresource}" in API group "{target.group}" {where}',
        details={key: value for key, value in details.items() if value},
    )
