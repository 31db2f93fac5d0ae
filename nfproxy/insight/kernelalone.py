"""
An explanation without objects, from the kernel's elements alone: addresses, endpoints, names.

It serves where nfproxy does not run and the API server does not answer. What should be there is
unknown then; what is there can still be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.explanation import (
    AnswerCounts,
    Answers,
    Conclusion,
    EndpointRow,
    EndpointUse,
    ExplainedPort,
    Explanation,
    FrontendRow,
    Reaction,
    Seen,
    SourceNAT,
    together,
)
from nfproxy.insight.kernelcauses import endpoints_in
from nfproxy.insight.nodefacts import HeldState
from nfproxy.insight.question import Question, ServiceQuestion
from nfproxy.insight.serviceview import conclusion_of
from nfproxy.model.addresses import format_address
from nfproxy.nft.chains import NO_LOCAL, REJECT, Policy, is_guard, shape_of
from nfproxy.nft.schema import port_of
from nfproxy.plan.frontends import FrontendKey, FrontendKind, balancing_verdict
from nfproxy.reconcile.transition import ABSENT
from nfproxy.text import one_line

_SOURCES = {
    Policy.CLUSTER: SourceNAT.NOT_PODS,
    Policy.EXTERNAL: SourceNAT.ALWAYS,
    Policy.LOCAL: SourceNAT.NODE_ONLY,
}


def explain_kernel(
    question: Question, held: HeldState, keys: Iterable[FrontendKey], why: str
) -> Explanation:
    """Return what the kernel says of some frontends; `why` objects are missing is one line."""
    asked = str(question)
    missing = (f"objects: {one_line(why, 300)}",)
    ports = tuple(_port(held, key) for key in sorted(keys))
    named = {port.service for port in ports if port.service}
    title = f"{asked}, of {named.pop()}" if len(named) == 1 else asked
    if isinstance(question, ServiceQuestion):
        title = asked
    found: tuple[Diagnosis, ...] = ()
    if not ports:
        found = (_nothing(question),)
    return Explanation(
        asked=asked,
        title=title,
        seen=Seen(missing=missing),
        conclusion=together(port.conclusion for port in ports),
        findings=found,
        ports=ports,
    )


def _nothing(question: Question) -> Diagnosis:
    is_named = isinstance(question, ServiceQuestion)
    return Diagnosis(
        Severity.FAIL,
        Code.UNKNOWN_SERVICE if is_named else Code.NOT_A_SERVICE,
        f"the kernel has no frontend {'of' if is_named else 'at'} {question}, and the objects are "
        "unknown",
        look=("an address instead of a name: `nft list map ip nfproxy frontends`",),
        brief="not in the kernel",
    )


def _port(held: HeldState, key: FrontendKey) -> ExplainedPort:
    """Return a frontend as the only one of its service port."""
    service, _, name = held.comments.get(key, "").partition(":")
    row = _frontend(held, key)
    size = key.family.size
    return ExplainedPort(
        service=one_line(service),
        name=one_line(name),
        protocol=key.protocol.name,
        port=key.port,
        family=key.family.label,
        conclusion=Conclusion.UNKNOWN if row is None else conclusion_of([row]),
        frontends=(row,) if row else (),
        endpoints=tuple(
            EndpointRow(
                address=format_address(end[:size]),
                port=port_of(end, size),
                used=EndpointUse(cluster=True),
            )
            for end in sorted(endpoints_in(held, key))
        ),
    )


def _frontend(held: HeldState, key: FrontendKey) -> FrontendRow | None:
    state = held.observed.frontends.get(key, ABSENT)
    if state.verdict is None:
        return None
    verdict = balancing_verdict(key, state.verdict, state.own_elements)
    shape = shape_of(verdict)
    all_ = Reaction.REFUSED if verdict == REJECT else Reaction.ENDPOINTS
    all_ = Reaction.DROPPED if verdict == NO_LOCAL else all_
    outside, count = all_, len(endpoints_in(held, key))
    outside_count = count
    if shape is not None and shape.policy is Policy.LOCAL:
        outside_count = shape.local if not shape.list else count
        if not shape.local:
            outside = Reaction.ROUTED if shape.routed else Reaction.DROPPED
            outside_count = 0
    kind = FrontendKind.NODE_PORT
    if key.address:
        is_internal = shape is None or shape.policy is Policy.CLUSTER
        kind = FrontendKind.CLUSTER_IP if is_internal else FrontendKind.LOAD_BALANCER_IP
    return FrontendRow.of(
        key,
        kind,
        answer=Answers(pods=all_, node=all_, outside=outside),
        endpoint_counts=AnswerCounts(pods=count, node=count, outside=outside_count),
        source_nat=_SOURCES[shape.policy] if shape else SourceNAT.NONE,
        guarded=is_guard(state.verdict),
    )
