"""Which connections are lost on this node behind nfproxy's rules, or before them, and by whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.explanation import ExplainedPort, FrontendRow, Reaction
from nfproxy.insight.foreigncauses import foreign_causes, suspects
from nfproxy.insight.nodefacts import (
    ConnectionCounts,
    NodeFacts,
    PacketStage,
    ProbeResult,
    RuleEffect,
)
from nfproxy.insight.porttraffic import PortTraffic
from nfproxy.insight.rulewords import in_words, listing
from nfproxy.insight.waycauses import NodeCause, cause, has_route_error, probe_of, used_rows
from nfproxy.plan.endpoints import Destination

_HERE = (PacketStage.SENT,)
_DROPS = (RuleEffect.DROP, RuleEffect.QUEUE)

#: How likely it may be that chance left an endpoint out.
_UNLIKELY = 0.001

#: The most endpoints without a connection that are tried although the operator did not ask for it.
MOST_DOUBTFUL = 16


def _traffic(
    facts: NodeFacts, port: ExplainedPort, found: Mapping[Destination, ConnectionCounts]
) -> PortTraffic:
    keys = [row.key for row in port.frontends if _always_balances(row)]
    counters = facts.held.new_connections if facts.held else {}
    arrived = facts.arrived or {}
    return PortTraffic(
        sum(counters.get(key, 0) for key in keys), sum(arrived.get(key, 0) for key in keys), found
    )


def without_connections(
    facts: NodeFacts, port: ExplainedPort, found: Mapping[Destination, ConnectionCounts]
) -> list[Destination]:
    """
    Return the endpoints without a connection of a port that clients have asked for.

    They may refuse: of a refused TCP connection the kernel keeps nothing, and of a UDP flow that it
    has no answer. At most `MOST_DOUBTFUL`.
    """
    if port.protocol not in ("TCP", "UDP") or not _traffic(facts, port, found).ever:
        return []
    quiet = [
        row.destination
        for row in used_rows(port)
        if (counts := found.get(row.destination)) is None
        or not (counts.known if port.protocol == "TCP" else counts.open)
    ]
    return quiet[:MOST_DOUBTFUL]


def drop_causes(
    facts: NodeFacts, port: ExplainedPort, found: Mapping[Destination, ConnectionCounts]
) -> Iterator[NodeCause]:
    """Yield what drops the connections of a port on this node."""
    traffic = _traffic(facts, port, found)
    named = list(foreign_causes(facts, port, traffic))
    yield from named
    if not named:
        yield from _starved(facts, port, traffic)
    fails = any(one.breaks_all for one in named)
    yield from _lost(facts, port, traffic, is_named=fails)


def _starved(facts: NodeFacts, port: ExplainedPort, traffic: PortTraffic) -> Iterator[NodeCause]:
    """
    Yield that an endpoint gets no connection where chance leaves none out, and who may drop them.

    A rule with a condition that is not followed, such as an ipset, is named by no address.
    """
    used = used_rows(port)
    is_drawn = port.protocol == "TCP" and not any(row.used.local for row in used)
    remembered = facts.held.remembered if facts.held else {}
    if not is_drawn or len(used) < 2 or any(row.destination in remembered for row in used):
        return
    # Those that have ended are of the last two minutes: the endpoint was there for them.
    recent = sum(traffic.of(row).closing for row in used)
    if (1 - 1 / len(used)) ** recent > _UNLIKELY:
        return
    for row in used:
        rules = [
            rule
            for rule in facts.rules
            if rule.endpoint == row.destination
            and rule.stage is PacketStage.SENT
            and rule.effect in _DROPS
            and rule.packets
        ]
        if rules and not traffic.of(row).known and not has_route_error(facts, row):
            found = Diagnosis(
                Severity.WARN,
                Code.DROPPED_BY_OTHERS,
                f"none of the last {recent:,} connections went to {row.address}: their packets may "
                f"be dropped by {in_words(rules[0])}",
                because=("what the rule asks of a packet is not followed",),
                look=(listing(rules[0]), f"nfproxy trace {port.service}, while clients try"),
                brief=f"no connection to {row.address}",
            )
            yield cause(port, found, row.address)


def _lost(
    facts: NodeFacts, port: ExplainedPort, traffic: PortTraffic, *, is_named: bool
) -> Iterator[NodeCause]:
    """
    Yield that connections arrive and leave no trace.

    Whatever passes this node is a connection to the kernel, also for a while after its end. Only
    one that is dropped here, or that the endpoint refuses, is not.
    """
    used = used_rows(port)
    answers = [
        probe.result
        for row in used
        if (probe := probe_of(facts, port, row.destination)) is not None
    ]
    is_explained = is_named or (used and all(has_route_error(facts, row) for row in used))
    if not traffic.ever or traffic.is_known or is_explained or ProbeResult.REFUSED in answers:
        return
    turned_back = facts.settings.reverse_path_drops if facts.settings else 0
    if facts.turned_back or (turned_back and not traffic.just_now):
        yield _reverse_path(port, turned_back, is_now=bool(facts.turned_back and traffic.just_now))
    elif traffic.just_now:
        refusing = "" if answers else "; or the endpoints refuse them (nfproxy explain --probe)"
        found = cause(
            port,
            Diagnosis(
                Severity.FAIL,
                Code.LOST_ON_NODE,
                f"{_counted(traffic.just_now)} came in just now, and the kernel knows none of "
                f"them: this node drops them after translation{refusing}",
                because=tuple(in_words(rule) for rule in suspects(facts, port, _HERE, _DROPS)),
                look=(f"nfproxy trace {port.service}: it names the rule",),
                brief="connections are lost on this node",
            ),
        )
        yield found._replace(breaks_all=True)


def _reverse_path(port: ExplainedPort, count: int, *, is_now: bool) -> NodeCause:
    found = cause(
        port,
        Diagnosis(
            Severity.FAIL if is_now else Severity.NOTE,
            Code.REVERSE_PATH,
            f"the kernel has dropped {count:,} packets because its route back to their sender "
            "leaves by another interface than they came in (rp_filter)",
            because=("connections of this Service came in, and the kernel knows none of them",),
            look=("ip route get CLIENT; sysctl -a -r rp_filter; 2 is loose, 0 is off",),
            brief="rp_filter drops packets",
        ),
    )
    return found._replace(breaks_all=is_now)


def _always_balances(row: FrontendRow) -> bool:
    """Return whether every client of a frontend gets an endpoint."""
    answers = {row.answer.pods, row.answer.node, row.answer.outside}
    return answers == {Reaction.ENDPOINTS} and not row.guarded


def _counted(number: int) -> str:
    return f"{number:,} connection" + ("" if number == 1 else "s")
