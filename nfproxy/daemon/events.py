"""Events of the Kubernetes API about this node's proxy, with kube-proxy's reasons and actions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nfproxy.apiserver.eventposter import EventPoster
from nfproxy.apiserver.eventseries import Event, Regarding
from nfproxy.clock import monotonic_s
from nfproxy.errors import ListenError
from nfproxy.kube.identity import Kind
from nfproxy.metrics import Metrics
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName
from nfproxy.plan.claims import BegunFinding
from nfproxy.reconcile.refusals import Refused
from nfproxy.servers.healthcheckports import ListenFailure

HEALTH_FAILED, METRICS_FAILED = "FailedToStartProxierHealthcheck", "FailedToStartMetricServer"

_START = "StartKubeProxy"

_HOUR_S = 3600.0


class NodeEvents:
    """
    Posts Events about this node; does nothing without a poster, that is without an API server.

    Belongs to the event loop. Posting never blocks and never fails: an Event may be lost.
    """

    def __init__(self, poster: EventPoster | None, node_name: str) -> None:
        """Take the poster, and the name that Events carry."""
        self._poster = poster
        self._node_name = node_name
        self._quiet_until_s = -math.inf  # no Event about repairs before

    def starting(self) -> None:
        """The proxy starts."""
        self._post(Regarding.node(self._node_name), "Normal", "Starting", _START, "")

    def cannot_listen(self, reason: str, error: ListenError) -> None:
        """Health or metrics cannot be served, and the process ends."""
        self._post(Regarding.node(self._node_name), "Warning", reason, _START, str(error))

    def pod_ranges_mismatch(self, problems: Sequence[str]) -> None:
        """The ranges that recognise local pods do not fit this node."""
        note = "; ".join(problems)
        node = Regarding.node(self._node_name)
        self._post(node, "Warning", "ClusterCIDRMismatch", "Configure", note)

    def tables_repaired(self, change: str, seconds: float) -> None:
        """Another process changed the tables, and that is repaired; once an hour is enough."""
        now_s = monotonic_s()
        if now_s < self._quiet_until_s:
            return
        self._quiet_until_s = now_s + _HOUR_S
        note = f"{change}; repaired after {seconds * 1000:.0f} ms; the log has further changes"
        self._post(Regarding.node(self._node_name), "Warning", "TablesDisturbed", "Repair", note)

    def cannot_serve_health_check(self, failure: ListenFailure) -> None:
        """This node cannot listen on a Service's health check node port."""
        self._post(
            Regarding.service(failure.service),
            "Warning",
            "FailedToStartServiceHealthcheck",
            "Listen",
            f"node {self._node_name} {failure.message}",
        )
        if failure.other is not None:
            self._post(
                Regarding.service(failure.other),
                "Warning",
                "FailedToStartServiceHealthcheck",
                "Listen",
                f"node {self._node_name}: port {failure.port} of this Service is the "
                f"healthCheckNodePort of Service {failure.service}, too; give one of them another",
            )

    def undecodable(self, kind: Kind, name: ObjectName, problems: tuple[Problem, ...]) -> None:
        """This version of an object cannot be used; the last good one stays in use."""
        self._post(
            Regarding(kind, name),
            "Warning",
            "Undecodable",
            "Decode",
            f"node {self._node_name} cannot use this version of the object: {_causes(problems)}",
        )

    def fields_ignored(self, kind: Kind, name: ObjectName, problems: tuple[Problem, ...]) -> None:
        """Parts of an object cannot be used; the rest of it is."""
        note = _causes(problems)
        self._post(Regarding(kind, name), "Warning", "FieldIgnored", "Decode", note, note)

    def refused(self, found: Sequence[Refused]) -> None:
        """The kernel refuses parts of Services."""
        for one in found:
            if one.service.namespace:
                self._post(
                    Regarding.service(one.service),
                    "Warning",
                    "NotProgrammed",
                    "Program",
                    f"node {self._node_name}: the kernel refuses {one.text}",
                )

    def claims(self, found: Sequence[BegunFinding]) -> None:
        """Claims of Services lost, are refused, or shadow something."""
        for begun in found:
            finding = begun.finding
            problem = begun.problem(lambda _: "")
            self._post(
                Regarding.service(finding.service),
                "Warning",
                finding.reason.value,
                "Claim",
                f"{problem.field}: {problem.what}",
                # Without the example: nodes that learn of the frontends in another order agree.
                f"{finding.field} {finding.what} {finding.other}",
            )

    def _post(
        self,
        regarding: Regarding,
        kind: str,
        reason: str,
        action: str,
        note: str,
        shared_key: str = "",
    ) -> None:
        if self._poster is not None:
            event = Event(
                regarding=regarding,
                type=kind,
                reason=reason,
                action=action,
                note=note,
                shared_key=shared_key,
            )
            self._poster.post(event)


def _causes(problems: Sequence[Problem]) -> str:
    """Return what is wrong with an object, in one line."""
    return "; ".join(f"{p.field}: {p.what}" if p.field else p.what for p in problems)


class NodeMetrics(Metrics):
    """Metrics that also post Events to the authors of objects that cannot be used."""

    _events: NodeEvents | None = None

    def post_to(self, events: NodeEvents) -> None:
        """Post Events from now on."""
        self._events = events

    def undecodable(
        self, kind: Kind, name: ObjectName | None, problems: tuple[Problem, ...]
    ) -> None:
        """Count a version of an object that cannot be used, and post an Event about it."""
        super().undecodable(kind, name, problems)
        if self._events is not None and name is not None:
            self._events.undecodable(kind, name, problems)

    def fields_ignored(self, kind: Kind, name: ObjectName, problems: tuple[Problem, ...]) -> None:
        """Post an Event about parts of an object that cannot be used."""
        if self._events is not None:
            self._events.fields_ignored(kind, name, problems)
