"""
What is announced as Events of the Kubernetes API, with kube-proxy's reasons and actions.
"""

from __future__ import annotations

from nfproxy.apiserver.events import Event, EventPoster, Regarding
from nfproxy.errors import ListenError
from nfproxy.kube.decoded import Kind
from nfproxy.metrics import Metrics
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName
from nfproxy.servers.healthcheckports import ListenFailure

_START = "StartKubeProxy"
HEALTH_FAILED, METRICS_FAILED = "FailedToStartProxierHealthcheck", "FailedToStartMetricServer"


class NodeEvents:
    """Posts this node's Events; without a poster there is nobody to post them to."""

    def __init__(self, poster: EventPoster | None, node_name: str) -> None:
        """Take whom to give Events to."""
        self._poster = poster
        self._node_name = node_name

    def _post(self, regarding: Regarding, kind: str, reason: str, action: str, note: str) -> None:
        if self._poster is not None:
            event = Event(regarding=regarding, type=kind, reason=reason, action=action, note=note)
            self._poster.post(event)

    def starting(self) -> None:
        """Say that the proxy starts."""
        self._post(Regarding.node(self._node_name), "Normal", "Starting", _START, "")

    def cannot_listen(self, reason: str, error: ListenError) -> None:
        """Say that health or metrics cannot be served, which ends the process."""
        self._post(Regarding.node(self._node_name), "Warning", reason, _START, str(error))

    def cannot_serve_health_check(self, failure: ListenFailure) -> None:
        """Say that a Service's health-check node port cannot be had on this node."""
        self._post(
            Regarding.service(failure.service),
            "Warning",
            "FailedToStartServiceHealthcheck",
            "Listen",
            f"node {self._node_name} {failure.message}",
        )

    def undecodable(self, kind: Kind, name: ObjectName, problems: tuple[Problem, ...]) -> None:
        """Say that an object cannot be understood, so that its last good version stays in use."""
        said = "; ".join(f"{p.field}: {p.what}" if p.field else p.what for p in problems)
        self._post(
            Regarding(kind, name),
            "Warning",
            "Undecodable",
            "Decode",
            f"node {self._node_name} cannot use this version of the object: {said}",
        )


class NodeMetrics(Metrics):
    """Metrics that also announce what concerns the author of an object."""

    _events: NodeEvents | None = None

    def announce(self, events: NodeEvents) -> None:
        """Post Events from now on."""
        self._events = events

    def undecodable(
        self, kind: Kind, name: ObjectName | None, problems: tuple[Problem, ...]
    ) -> None:
        """Count it, and tell whoever looks at the object."""
        super().undecodable(kind, name, problems)
        if self._events is not None and name is not None:
            self._events.undecodable(kind, name, problems)
