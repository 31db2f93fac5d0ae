"""Which connections are lost on this node behind nfproxy's rules, or before them, and by whom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.explanation import ExplainedPort, FrontendRow, Reaction
from nfproxy.insight.nodefacts import ConnectionCounts, ForeignDrop, NodeFacts, ProbeResult
from nfproxy.insight.waycauses import NodeCause, cause, has_route_error, used_rows
from nfproxy.model.addresses import parse_address
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import FrontendKind

#: The most endpoints without a connection that are tried although the operator did not ask for it.
MOST_DOUBTFUL = 16


class _Traffic(NamedTuple):
    """
    What came to the frontends of a port, ever and just now, and what is known of it.

    `endpoints` are its connections by endpoint.
    """

    ever: int
    just_now: int
    endpoints: Mapping[Destination, ConnectionCounts]

    @property
    def is_known(self) -> bool:
        return any(counts.known for counts in self.endpoints.values())

    @property
    def has_open(self) -> bool:
        return any(counts.open or counts.closing for counts in self.endpoints.values())


def _traffic(
    facts: NodeFacts, port: ExplainedPort, found: Mapping[Destination, ConnectionCounts]
) -> _Traffic:
    keys = [row.key for row in port.frontends if _always_balances(row)]
    counters = facts.held.new_connections if facts.held else {}
    arrived = facts.arrived or {}
    return _Traffic(
        sum(counters.get(key, 0) for key in keys), sum(arrived.get(key, 0) for key in keys), found
    )


def without_connections(
    facts: NodeFacts, port: ExplainedPort, found: Mapping[Destination, ConnectionCounts]
) -> list[Destination]:
    """
    Return the TCP endpoints without a connection of a port that clients have asked for.

    They may refuse: of a refused connection the kernel keeps nothing. At most `MOST_DOUBTFUL`.
    """
    if port.protocol != "TCP" or not _traffic(facts, port, found).ever:
        return []
    quiet = [
        row.destination
        for row in used_rows(port)
        if (counts := found.get(row.destination)) is None or not counts.known
    ]
    return quiet[:MOST_DOUBTFUL]


def drop_causes(
    facts: NodeFacts, port: ExplainedPort, found: Mapping[Destination, ConnectionCounts]
) -> Iterator[NodeCause]:
    """Yield what drops the connections of a port on this node."""
    traffic = _traffic(facts, port, found)
    named = [*_to_endpoints(facts, port, traffic), *_to_frontends(facts, port)]
    named += _to_ports(facts, port, traffic)
    yield from named
    yield from _by_policy(facts, port, traffic)
    yield from _lost(facts, port, traffic, is_named=any(one.breaks_all for one in named))


def _to_endpoints(facts: NodeFacts, port: ExplainedPort, traffic: _Traffic) -> Iterator[NodeCause]:
    """Yield which rules of other programs drop packets to or from an endpoint."""
    for row in used_rows(port):
        counts = traffic.endpoints.get(row.destination) or ConnectionCounts()
        for drop in facts.drops:
            # A rule that counts nothing may never have matched.
            may_drop = drop.packets is None and traffic.ever and not counts.known
            if drop.address == parse_address(row.address) and (drop.packets or may_drop):
                # A rule without a counter: others have connections, or no endpoint has any.
                level = Severity.WARN if drop.packets or traffic.is_known else Severity.NOTE
                yield cause(
                    port,
                    Diagnosis(
                        Severity.FAIL if drop.packets and not counts.open else level,
                        Code.DROPPED_BY_OTHERS,
                        f"packets of {row.address} {'are' if drop.packets else 'may be'} dropped "
                        f"by {_in_words(drop)}",
                        look=(_listing(drop), f"nfproxy trace {port.service}"),
                        brief=f"{drop.table} drops packets of {row.address}",
                    ),
                    row.address,
                )


def _to_frontends(facts: NodeFacts, port: ExplainedPort) -> Iterator[NodeCause]:
    """Yield which rules drop packets to an address of the Service, before nfproxy has them."""
    rows = [row for row in port.frontends if row.answer.node is not Reaction.ABSENT]
    dropped = {
        row.key: drop
        for row in rows
        for drop in facts.drops
        if row.address and drop.address == row.key.address and drop.packets
    }
    for key, drop in dropped.items():
        has_open = any(each.open for each in (facts.connections or {}).get(key, {}).values())
        found = cause(
            port,
            Diagnosis(
                Severity.WARN if has_open else Severity.FAIL,
                Code.DROPPED_BY_OTHERS,
                f"packets to {key} are dropped, before nfproxy translates them, by "
                f"{_in_words(drop)}",
                look=(_listing(drop), f"nfproxy trace {port.service}"),
                brief=f"{drop.table} drops packets to {key}",
            ),
        )
        yield found._replace(breaks_all=not has_open and len(dropped) == len(rows))


def _to_ports(facts: NodeFacts, port: ExplainedPort, traffic: _Traffic) -> Iterator[NodeCause]:
    """Yield which rules drop what goes to a port of the Service, whatever the address is."""
    behind = {row.port for row in used_rows(port)}
    before = {
        row.port
        for row in port.frontends
        if row.kind is FrontendKind.NODE_PORT
        and row.answer.node is not Reaction.ABSENT
        and not (facts.held and facts.held.new_connections.get(row.key))
    }
    for drop in facts.drops:
        is_behind = drop.port in behind and traffic.ever and not traffic.has_open
        if not (drop.port and drop.packets and (is_behind or drop.port in before)):
            continue
        is_sure = bool(is_behind and (traffic.just_now or traffic.is_known))
        found = cause(
            port,
            Diagnosis(
                Severity.FAIL if is_sure else Severity.WARN,
                Code.DROPPED_BY_OTHERS,
                f"packets of port {drop.port} {'are' if is_sure else 'may be'} dropped by "
                f"{_in_words(drop)}",
                because=() if is_sure else ("no connection of this Service is there just now",),
                look=(_listing(drop), f"nfproxy trace {port.service}"),
                brief=f"{drop.table} drops packets of port {drop.port}",
            ),
        )
        yield found._replace(breaks_all=is_sure)


def _by_policy(facts: NodeFacts, port: ExplainedPort, traffic: _Traffic) -> Iterator[NodeCause]:
    """Yield that a policy may have dropped connections of which nothing is known."""
    if traffic.just_now or traffic.is_known or not traffic.ever:
        return
    for drop in facts.drops:
        if not (drop.address or drop.port or drop.drops_all):
            yield cause(
                port,
                Diagnosis(
                    Severity.WARN if drop.packets else Severity.NOTE,
                    Code.DROPPED_BY_OTHERS,
                    f"{_in_words(drop)}; no connection of this Service is there just now",
                    look=(_listing(drop), f"nfproxy trace {port.service}, while a client tries"),
                    brief=f"{drop.table} may drop its packets",
                ),
            )


def _lost(
    facts: NodeFacts, port: ExplainedPort, traffic: _Traffic, *, is_named: bool
) -> Iterator[NodeCause]:
    """
    Yield that connections arrive and leave no trace.

    Whatever passes this node is a connection to the kernel, also for a while after its end. Only
    one that is dropped here, or that the endpoint refuses, is not.
    """
    used = used_rows(port)
    answers = [
        facts.probes[row.destination].result
        for row in used
        if facts.probes and row.destination in facts.probes
    ]
    is_explained = is_named or (used and all(has_route_error(facts, row) for row in used))
    if not traffic.ever or traffic.is_known or is_explained or ProbeResult.REFUSED in answers:
        return
    if any(drop.drops_all for drop in facts.drops):
        return  # said by itself
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
                because=tuple(_in_words(drop) for drop in facts.drops if not drop.address),
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


def _in_words(drop: ForeignDrop) -> str:
    packets = f", {drop.packets:,} packets" if drop.packets is not None else ""
    if not (drop.address or drop.port):
        return f"chain {drop.chain} of table {drop.table} drops what no rule accepts{packets}"
    comment = f' "{drop.comment}"' if drop.comment else ""
    handle = f", handle {drop.handle}" if drop.handle else ""
    return f"table {drop.table}, chain {drop.chain}{handle}{comment}{packets}"


def _listing(drop: ForeignDrop) -> str:
    """Return the command that shows a rule."""
    if drop.table.endswith("legacy)"):
        return f"{drop.table.partition(' ')[0]}tables-legacy -vnL {drop.chain} --line-numbers"
    return f"nft -a list chain {drop.table} {drop.chain}"


def _counted(number: int) -> str:
    return f"{number:,} connection" + ("" if number == 1 else "s")
