"""One question on every node at once: the plan is computed for each Node object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from nfproxy.insight.diagnosis import Diagnosis, in_order
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import (
    ExplainedPort,
    Explanation,
    FrontendRow,
    NodeView,
    Reaction,
    worst_conclusion,
)
from nfproxy.insight.question import Question
from nfproxy.insight.sight import Sight
from nfproxy.model.service import ObjectName
from nfproxy.plan.frontends import FrontendKind

_MOST_NAMES = 5


def explain_everywhere(
    sights: Iterable[Sight], question: Question, *, also: Iterable[ObjectName] = ()
) -> Explanation:
    """
    Return one explanation for some nodes: a row for each, and each finding once.

    There is at least one node. What is wrong on several nodes alike names them.
    """
    names = tuple(also)
    found = [(sight.config.node_name, explain(sight, question, also=names)) for sight in sights]
    first = found[0][1]
    findings: dict[tuple[object, ...], list[tuple[str, Diagnosis]]] = {}
    for node, one in found:
        for diagnosis in one.findings:
            key = (diagnosis.code, diagnosis.service, diagnosis.port, diagnosis.family)
            if not any(diagnosis == known for _, known in findings.setdefault(key, [])):
                findings[key].append((node, diagnosis))
    return msgspec.structs.replace(
        first,
        seen=msgspec.structs.replace(first.seen, node=""),
        conclusion=worst_conclusion(one.conclusion for _, one in found),
        findings=in_order(_merged(group, len(found)) for group in findings.values()),
        ports=(),
        nodes=tuple(view for node, one in found for view in _views(node, one)),
    )


def _merged(group: Sequence[tuple[str, Diagnosis]], count: int) -> Diagnosis:
    """Return one finding for several nodes whose messages differ."""
    worst = in_order(diagnosis for _, diagnosis in group)[0]
    if len(group) == 1:
        return worst
    nodes = [node for node, _ in group]
    shown = ", ".join(nodes[:_MOST_NAMES])
    more = f" and {len(nodes) - _MOST_NAMES:,} more" if len(nodes) > _MOST_NAMES else ""
    line = f"so on {len(nodes):,} of {count:,} nodes: {shown}{more}"
    return msgspec.structs.replace(worst, because=(*worst.because, line))


def _views(node: str, explanation: Explanation) -> Iterator[NodeView]:
    for port in explanation.ports:
        inside, outside = _inside_row(port), _outside_row(port)
        yield NodeView(
            node=node,
            service=port.service,
            port=port.name,
            family=port.family,
            local_endpoints=sum(row.local for row in port.endpoints),
            all_endpoints=len(port.endpoints),
            inside=inside.answer.pods if inside else Reaction.ABSENT,
            inside_endpoints=inside.endpoint_counts.pods if inside else 0,
            outside=outside.answer.outside if outside else None,
            outside_endpoints=outside.endpoint_counts.outside if outside else 0,
            health_check=port.health_check,
        )


def _inside_row(port: ExplainedPort) -> FrontendRow | None:
    """Return what pods and nodes use: the cluster IP, if it was asked about."""
    rows = [row for row in port.frontends if row.kind is FrontendKind.CLUSTER_IP]
    return next(iter((*rows, *port.frontends)), None)


def _outside_row(port: ExplainedPort) -> FrontendRow | None:
    """Return the worst of what outside clients use, None where they have nothing."""
    order = list(Reaction)
    outer = [row for row in port.frontends if row.kind is not FrontendKind.CLUSTER_IP]
    return max(outer, key=lambda row: order.index(row.answer.outside), default=None)
