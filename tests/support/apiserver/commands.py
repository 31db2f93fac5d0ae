"""
What tests and benchmarks ask of the stand-in, one function each.

They run in its event loop; `support.apiserver.standin` gives them to other threads, and
`support.apiserver.control` to other processes, so arguments and results are plain data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from support.apiserver.access import KUBE_PROXY
from support.apiserver.faults import Refusal
from support.apiserver.host import Host
from support.apiserver.rbac import Policy
from support.apiserver.resources import RESOURCES, resource_of
from support.apiserver.server import Request, Settings
from support.apiserver.store import join_key
from support.apiserver.streams import Stream, line

# -- objects --------------------------------------------------------------------------------


def put(host: Host, /, items: list[dict[str, Any]]) -> int:
    """
    Create or replace objects, whatever version is there; return the version after.

    Replacing an object by an equal one is no change. A namespace left out is "default".
    """
    for item in items:
        resource = resource_of(item)
        _put(host, resource.plural, item)
    host.server.changed()
    return host.server.store.version


def load(host: Host, /, resource: str, items: list[dict[str, Any]]) -> int:
    """Create or replace objects that do not say their kind; return the version after."""
    for item in items:
        _put(host, resource, item)
    host.server.changed()
    return host.server.store.version


def _put(host: Host, resource: str, item: dict[str, Any]) -> None:
    kind = RESOURCES[resource]
    if kind.namespaced:
        item["metadata"].setdefault("namespace", "default")
    host.server.store.put(kind, item)


def delete(host: Host, /, resource: str, namespace: str, name: str) -> int:
    """Delete an object; return the version after. Raises LookupError."""
    kind = RESOURCES[resource]
    if host.server.store.remove(kind, join_key(kind, namespace, name)) is None:
        raise LookupError(f"no {resource} {namespace}/{name}")
    host.server.changed()
    return host.server.store.version


def objects(host: Host, /, resource: str) -> list[dict[str, Any]]:
    """Return all objects of a resource."""
    kind = RESOURCES[resource]
    records = host.server.collection(resource).current()
    return [msgspec.json.decode(record.document(kind)) for record in records]


def version(host: Host, /) -> int:
    """Return the current version."""
    return host.server.store.version


# -- what clients did -----------------------------------------------------------------------


def requests(host: Host, /, resource: str = "", verb: str = "") -> list[Request]:
    """Return the requests made so far, oldest first; "": of all resources, with all verbs."""
    return [
        r for r in host.server.requests if resource in ("", r.resource) and verb in ("", r.verb)
    ]


def forget_requests(host: Host, /) -> None:
    """Forget the requests made so far."""
    host.server.requests.clear()


def watches(host: Host, /, resource: str = "") -> int:
    """Return how many watches are open."""
    return len(_streams(host, resource))


def connections(host: Host, /) -> int:
    """Return how many connections are open."""
    return host.listener.connections


# -- who may what ---------------------------------------------------------------------------


def add_token(host: Host, /, token: str, user: str = KUBE_PROXY) -> None:
    """Let a token stand for a user."""
    host.server.access.tokens[token] = user


def revoke_token(host: Host, /, token: str) -> None:
    """Let a token be refused: 401. Watches that are open go on."""
    host.server.access.tokens.pop(token, None)


def permit(host: Host, /, resource: str, *verbs: str, user: str = KUBE_PROXY) -> None:
    """Let a user do these things with a resource; no verbs: all."""
    host.server.access.permit(user, resource, verbs)


def forbid(host: Host, /, resource: str, *verbs: str, user: str = KUBE_PROXY) -> None:
    """Let a user do these things no more: 403; no verbs: none at all."""
    host.server.access.forbid(user, resource, verbs)


def set_rbac(host: Host, /, items: list[dict[str, Any]]) -> None:
    """Let the roles and bindings among these objects be all there are; others do not matter."""
    host.server.access.policy = Policy(items)


def client_certificate(
    host: Host, user: str = KUBE_PROXY, expired: bool = False
) -> tuple[str, str]:
    """Make a client certificate; return the paths of certificate and key."""
    certificate, key = host.authority.client(user, expired=expired)
    return str(certificate), str(key)


def renew_server_certificate(host: Host, /, other_ca: bool = False, expired: bool = False) -> None:
    """Show new connections another certificate: of an unknown CA, or one that is over."""
    host.renew_certificate(other_ca=other_ca, expired=expired)


# -- faults ---------------------------------------------------------------------------------


def fail_next(
    host: Host,
    /,
    resource: str,
    code: int,
    *,
    verb: str = "",
    times: int = 1,
    retry_after_s: int | None = None,
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> None:
    """
    Answer the next requests to a resource ("": all) with a code, and the Status it has.

    `body` is sent in place of the Status, with `headers`; bytes that are no text are surrogates.
    """
    data = None if body is None else body.encode("utf-8", "surrogateescape")
    refusal = Refusal(resource, verb, code, times, retry_after_s, data, headers or {})
    host.server.faults.add(refusal)


def end_faults(host: Host, /) -> None:
    """Refuse, slow down and freeze nothing any more."""
    host.server.faults.end()


async def refuse(host: Host, /) -> None:
    """Refuse new connections; those that are open stay."""
    await host.listener.close()


def listen(host: Host, /) -> None:
    """Accept connections again, at the same port."""
    host.listener.open(host.listener.port)


async def stop(host: Host, /) -> None:
    """Be down: refuse connections, and end those that are open by RST."""
    await host.listener.close()
    await host.listener.abort_connections()


async def restart(host: Host, /, *, new_port: bool = False, reset_versions: bool = False) -> int:
    """
    End all connections and start again; return the port.

    With `reset_versions`, versions go on from a lower number, and history is forgotten.
    """
    await stop(host)
    if reset_versions:
        host.server.store.reset_versions()
    host.listener.open(0 if new_port else host.listener.port)
    return host.listener.port


def freeze(host: Host, /) -> None:
    """Accept connections and requests, but answer nothing and send nothing."""
    host.server.faults.gate.clear()


def thaw(host: Host, /) -> None:
    """Go on with everything that waits since `freeze`."""
    host.server.faults.gate.set()


def mute_watches(host: Host, /, resource: str = "") -> int:
    """Let the open watches be silent for ever, without closing them; return how many."""
    streams = _streams(host, resource)
    for stream in streams:
        stream.muted = True
    return len(streams)


def close_watches(host: Host, /, resource: str = "", abort: bool = False) -> int:
    """End the open watches in good order, or by RST; return how many."""
    streams = _streams(host, resource)
    for stream in streams:
        stream.end("abort" if abort else "cleanly")
    return len(streams)


def cut_next_event(host: Host, /, resource: str = "") -> int:
    """Let the next event on the open watches break off halfway, and the connection close."""
    streams = _streams(host, resource)
    for stream in streams:
        stream.cut_next = True
    return len(streams)


def send_raw(host: Host, /, resource: str, text: str) -> int:
    """Send something on the open watches, as it is; return how many."""
    streams = _streams(host, resource)
    for stream in streams:
        stream.push(text.encode("utf-8", "surrogateescape"))
    return len(streams)


def send_event(host: Host, /, resource: str, kind: str, content: Any) -> int:
    """Send an event on the open watches; nothing else changes. Return how many."""
    return send_raw(host, resource, line(kind, msgspec.json.encode(content)).decode())


def withhold(host: Host, /, resource: str = "", on: bool = True) -> None:
    """Keep changes made from now on from all watches, or no longer; lists show them."""
    names = [resource] if resource else list(RESOURCES)
    held = host.server.store.withheld
    held.update(names) if on else held.difference_update(names)


def compact(host: Host, /) -> None:
    """Forget history: who watches from an older version, or goes on with a list, gets 410."""
    host.server.store.compact()
    host.server.changed()


def back_up(host: Host, /) -> None:
    """Keep the objects and their versions."""
    host.server.store.back_up()


def restore(host: Host, /) -> None:
    """Have the objects of the backup, at their versions; call it while the server is stopped."""
    host.server.store.restore()


def expire_continue_tokens(host: Host, /) -> None:
    """Let lists in pages that are under way get 410."""
    host.server.store.expire_tokens()


def slow_lists(host: Host, /, bytes_per_s: float | None, resource: str = "") -> None:
    """Send lists slowly; None: at full speed again."""
    host.server.faults.slow_lists(resource, bytes_per_s)


def configure(host: Host, /, **changes: Any) -> None:
    """Change settings; watches that are open keep theirs. Raises ValidationError."""
    old = msgspec.structs.asdict(host.server.settings)
    host.server.settings = msgspec.convert({**old, **changes}, Settings)
    host.server.store.history = host.server.settings.history


def _streams(host: Host, resource: str) -> Sequence[Stream]:
    return [s for s in host.server.streams if resource in ("", s.resource.plural)]
