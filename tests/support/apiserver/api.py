"""What can be done with a stand-in, wherever it runs: commands as methods."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from support.apiserver import commands, credentials
from support.apiserver.access import ADMIN, KUBE_PROXY, TOKENS
from support.apiserver.certificates import Pair
from support.apiserver.host import Host
from support.apiserver.manifests import manifest
from support.apiserver.server import Request

from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import Service

P = ParamSpec("P")
R = TypeVar("R")

_WAIT_S = 20.0


def _command(function: Callable[Concatenate[Host, P], R]) -> Callable[Concatenate[Api, P], R]:
    """Make a method of a command: it is carried out where the server is."""

    def method(self: Api, /, *args: P.args, **kwargs: P.kwargs) -> R:
        made: R = self._perform(function, args, kwargs)
        return made

    method.__doc__ = function.__doc__
    return method


def _awaited(
    function: Callable[Concatenate[Host, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Api, P], R]:
    """Make a method of a command that takes a while."""

    def method(self: Api, /, *args: P.args, **kwargs: P.kwargs) -> R:
        made: R = self._perform(function, args, kwargs)
        return made

    method.__doc__ = function.__doc__
    return method


class Api(ABC):
    """
    What can be done with a stand-in, wherever it runs.

    `port` is where it listens. `directory` holds its certificates: ``ca.crt`` is the CA.
    """

    port: int
    directory: Path
    token, admin_token = TOKENS[KUBE_PROXY], TOKENS[ADMIN]

    @abstractmethod
    def _perform(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> Any:
        """Carry out a command, and return its result."""

    load = _command(commands.load)
    delete = _command(commands.delete)
    objects = _command(commands.objects)
    requests = _command(commands.requests)
    forget_requests = _command(commands.forget_requests)
    watches = _command(commands.watches)
    connections = _command(commands.connections)
    add_token = _command(commands.add_token)
    revoke_token = _command(commands.revoke_token)
    permit = _command(commands.permit)
    set_rbac = _command(commands.set_rbac)
    forbid = _command(commands.forbid)
    client_certificate = _command(commands.client_certificate)
    renew_server_certificate = _command(commands.renew_server_certificate)
    fail_next = _command(commands.fail_next)
    end_faults = _command(commands.end_faults)
    refuse = _awaited(commands.refuse)
    listen = start = _command(commands.listen)
    stop = _awaited(commands.stop)
    freeze = _command(commands.freeze)
    thaw = _command(commands.thaw)
    mute_watches = _command(commands.mute_watches)
    close_watches = _command(commands.close_watches)
    cut_next_event = _command(commands.cut_next_event)
    send_raw = _command(commands.send_raw)
    send_event = _command(commands.send_event)
    withhold = _command(commands.withhold)
    compact = _command(commands.compact)
    back_up = _command(commands.back_up)
    restore = _command(commands.restore)
    expire_continue_tokens = _command(commands.expire_continue_tokens)
    slow_lists = _command(commands.slow_lists)
    configure = _command(commands.configure)
    _put = _command(commands.put)
    _restart = _awaited(commands.restart)
    _version = _command(commands.version)

    @property
    def url(self) -> str:
        """Where it is, for clients in its network namespace."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate of the CA that clients should trust."""
        return self.directory / "ca.crt"

    @property
    def version(self) -> int:
        """The current resourceVersion."""
        return self._version()

    # -- objects ----------------------------------------------------------------------------

    def apply(self, *objects: Service | EndpointSlice | dict[str, Any]) -> int:
        """Create or replace objects; return the resourceVersion after. See `commands.put`."""
        return self._put([manifest(item) for item in objects])

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        """Return one object. Raises LookupError."""
        for item in self.objects(resource):
            metadata = item["metadata"]
            if (metadata.get("namespace", ""), metadata["name"]) == (namespace, name):
                return item
        raise LookupError(f"no {resource} {namespace}/{name}")

    def posted_events(self) -> list[dict[str, Any]]:
        """Return the Events that are there."""
        return self.objects("events")

    @contextlib.contextmanager
    def withheld(self, resource: str = "") -> Iterator[None]:
        """Keep the changes made inside from all watches, those to come too; lists show them."""
        self.withhold(resource)
        try:
            yield
        finally:
            self.withhold(resource, on=False)

    # -- what clients do --------------------------------------------------------------------

    def wait_for_requests(
        self, resource: str, verb: str, count: int = 1, timeout_s: float = _WAIT_S
    ) -> list[Request]:
        """Wait until that many requests have been made; return them all."""
        _wait(lambda: len(self.requests(resource, verb)) >= count, timeout_s)
        made = self.requests(resource, verb)
        assert len(made) >= count, f"{len(made)} of {count} requests to {verb} {resource}"
        return made

    def wait_for_watches(
        self, resource: str = "", count: int = 1, timeout_s: float = _WAIT_S
    ) -> None:
        """Wait until that many watches are open."""
        _wait(lambda: self.watches(resource) >= count, timeout_s)
        assert self.watches(resource) >= count, f"{self.watches(resource)} of {count} watches"

    # -- credentials ------------------------------------------------------------------------

    def write_kubeconfig(
        self,
        path: Path,
        kind: credentials.Kind = "token",
        *,
        user: str = KUBE_PROXY,
        token: str = "",
        server: str = "",
        ca: credentials.Trust = "file",
        proxy_url: str = "",
    ) -> Path:
        """
        Write a kubeconfig with which a client is a user; return its path.

        Beside it come: for tokenFile, path + ".token"; for exec, the same, path + ".exec" that
        hands it out, and path + ".exec.log" with a line per call.
        """
        pair = Pair(*map(Path, self.client_certificate(user))) if "cert" in kind else None
        return credentials.write_kubeconfig(
            path,
            kind,
            server=server or self.url,
            ca_file=self.ca_file,
            trust=ca,
            token=token or TOKENS[user],
            certificate=pair,
            proxy_url=proxy_url,
        )

    def write_service_account(self, directory: Path, token: str = "") -> dict[str, str]:
        """Write a pod's service account; return the environment that goes with it."""
        credentials.write_service_account(
            directory, ca_file=self.ca_file, token=token or self.token
        )
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.port),
        }

    # -- faults with more words -------------------------------------------------------------

    def send_malformed(self, resource: str) -> int:
        """Send a line that is no JSON on the open watches; return how many."""
        return self.send_raw(resource, '{"type":"MODIFIED","object":{"metadata"\n')

    def send_error(
        self, resource: str, code: int = 410, reason: str = "Expired", message: str = ""
    ) -> int:
        """Send an ERROR event on the open watches, and leave them open; return how many."""
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message or f"the test asked for {reason}",
            "reason": reason,
            "code": code,
        }
        return self.send_event(resource, "ERROR", status)

    def restart(self, *, new_port: bool = False, reset_versions: bool = False) -> None:
        """End all connections by RST and start again; see `commands.restart`."""
        self.port = self._restart(new_port=new_port, reset_versions=reset_versions)


def _wait(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
