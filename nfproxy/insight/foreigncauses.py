"""What rules of other programs do to the connections of a Service, and how bad that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.explanation import EndpointRow, ExplainedPort, FrontendRow, Reaction
from nfproxy.insight.nodefacts import (
    ForeignRule,
    NodeFacts,
    PacketStage,
    RuleEffect,
)
from nfproxy.insight.porttraffic import PortTraffic
from nfproxy.insight.rulewords import in_words, listing
from nfproxy.insight.waycauses import NodeCause, cause, family_of_port, used_rows
from nfproxy.model.addresses import format_address, parse_address
from nfproxy.plan.frontends import FrontendKey
from nfproxy.views.elementwords import format_destination

_OWN = (PacketStage.OWN_ASKED, PacketStage.OWN_SENT)
_HIDES = (RuleEffect.NOT_TRACKED, RuleEffect.ZONE)
_DROPS = (RuleEffect.DROP, RuleEffect.QUEUE)


class _Group(NamedTuple):
    """One rule, at one stage, with all that it concerns."""

    first: ForeignRule
    all_: Sequence[ForeignRule]

    @property
    def is_sure(self) -> bool:
        return all(one.is_sure for one in self.all_)

    @property
    def is_some(self) -> bool:
        """Whether it does something with some packets: by a rate, or by chance."""
        return not self.is_sure and all(one.is_sure or one.is_some for one in self.all_)

    @property
    def is_strong(self) -> bool:
        """Whether it surely does something, or has done so to packets of the address."""
        return self.is_sure or bool(self.first.packets and any(one.is_named for one in self.all_))


def foreign_causes(
    facts: NodeFacts, port: ExplainedPort, traffic: PortTraffic
) -> Iterator[NodeCause]:
    """Yield what rules of other programs do to the connections of a port."""
    groups = list(_groups(facts, port))
    found: list[NodeCause] = []
    said: set[tuple[object, ...]] = set()
    for group in sorted(groups, key=lambda one: list(PacketStage).index(one.first.stage)):
        place = (group.first.place, group.first.stage in (PacketStage.ASKED, PacketStage.OWN_ASKED))
        made: list[NodeCause] = []
        if place in said and group.first.effect in _DROPS:
            continue  # a policy also drops the answers, and packets of the node's own processes
        if place[1] and group.first.effect in _DROPS and group.is_some:
            names = ", ".join(sorted({str(one.frontend) for one in group.all_}))
            made += _sometimes(port, group, f"packets to {names}")
        elif place[1]:
            made += _before(facts, port, traffic, group)
        elif group.first.effect in _HIDES:
            made += _hidden_answers(port, traffic, group)
        elif group.first.effect in _DROPS and group.is_some:
            made += _sometimes(port, group, f"packets of {_names(_rows(port, group))}")
        elif group.first.effect in _DROPS:
            made += _behind(facts, port, traffic, group)
        if made:
            said.add(place)
        found += made
    yield from found
    yield from _sources(facts, port, traffic)
    if not (found or traffic.just_now or traffic.is_known) and traffic.ever:
        for rule in suspects(facts, port, (PacketStage.SENT,), _DROPS):
            yield cause(port, _perhaps(port, rule))


def suspects(
    facts: NodeFacts,
    port: ExplainedPort,
    stages: Iterable[PacketStage],
    effects: Iterable[RuleEffect],
) -> list[ForeignRule]:
    """Return the rules that may do something to any Service; it depends on what is not known."""
    groups = list(_groups(facts, port))
    known = {group.first.place for group in groups if group.is_strong}
    found = {
        group.first.place: group.first
        for group in groups
        if group.first.stage in stages
        and group.first.effect in effects
        and group.first.place not in known
        and not (is_named(group) or group.is_some)
        and group.first.packets != 0
    }
    return list(found.values())


def source_rules(facts: NodeFacts, port: ExplainedPort) -> list[ForeignRule]:
    """Return the rules that may have changed the sources of a port's connections."""
    groups = _groups(facts, port)
    found = [group.first for group in groups if group.first.effect is RuleEffect.SOURCE]
    return [rule for rule in found if rule.packets != 0]


def is_elsewhere(facts: NodeFacts, port: ExplainedPort) -> bool:
    """Return whether another program may have translated connections of a port."""
    return any(group.first.effect is RuleEffect.TRANSLATED for group in _groups(facts, port))


def _groups(facts: NodeFacts, port: ExplainedPort) -> Iterator[_Group]:
    keys = {row.key for row in _frontends(port)}
    ends = {row.destination for row in used_rows(port)}
    found: dict[object, list[ForeignRule]] = {}
    for rule in facts.rules:
        if rule.frontend in keys or (rule.endpoint and rule.endpoint in ends):
            is_known = rule.is_named or rule.is_sure or rule.is_some
            sureness = (rule.is_sure, rule.is_some) if is_known else None
            found.setdefault((rule.place, rule.effect, rule.stage, sureness), []).append(rule)
    return (_Group(rules[0], rules) for rules in found.values())


def _frontends(port: ExplainedPort) -> list[FrontendRow]:
    return [row for row in port.frontends if row.answer.node is not Reaction.ABSENT]


def _before(
    facts: NodeFacts, port: ExplainedPort, traffic: PortTraffic, group: _Group
) -> Iterator[NodeCause]:
    """Yield what happens to packets that nfproxy has not seen."""
    rule = group.first
    keys = {one.frontend for one in group.all_ if one.frontend is not None}
    foreign = _foreign_ends(facts, port, keys) if rule.effect is RuleEffect.TRANSLATED else []
    is_shown = bool(foreign or (rule.effect is RuleEffect.ZONE and traffic.is_overdue))
    if not group.is_strong and not (is_shown and rule.packets != 0):
        return
    if rule.effect is RuleEffect.ZONE and not is_shown:
        return
    works = _works(facts, port, keys)
    if works and rule.packets == 0:
        return  # clients get through, and it has met none of them
    level = Severity.FAIL
    if rule.is_here:
        level = Severity.NOTE
    elif works or rule.stage in _OWN:
        level = Severity.WARN if group.is_sure or is_shown else Severity.NOTE
    whose = _clients(group)
    names = ", ".join(sorted(str(key) for key in keys))
    code, does = {
        RuleEffect.NOT_TRACKED: (
            Code.NOT_TRACKED,
            "are not tracked, so that nfproxy cannot translate them",
        ),
        RuleEffect.ZONE: (
            Code.NOT_TRACKED,
            "are tracked in a zone of their own, where their answers are not found",
        ),
        RuleEffect.TRANSLATED: (
            Code.TRANSLATED_BY_OTHERS,
            "are sent elsewhere before nfproxy has them",
        ),
        RuleEffect.QUEUE: (Code.DROPPED_BY_OTHERS, "wait for another program (queue)"),
    }.get(rule.effect, (Code.DROPPED_BY_OTHERS, "are dropped, before nfproxy translates them"))
    because = [f"connections lead to {end}, which is no endpoint" for end in foreign[:3]]
    if rule.is_here:
        because.append("the address is one of this node's own: a program here may answer at it")
    found = cause(
        port,
        Diagnosis(
            level,
            code,
            f"packets{whose} to {names} {does}, by {in_words(rule)}",
            because=tuple(because),
            look=(listing(rule), f"nfproxy trace {port.service}"),
            brief=f"{rule.table}: {rule.effect} before nfproxy",
        ),
    )
    broken = frozenset(keys if level is Severity.FAIL and not whose else ())
    is_all = broken == {row.key for row in _frontends(port)}
    yield found._replace(breaks_all=is_all, frontends=broken)


def _foreign_ends(facts: NodeFacts, port: ExplainedPort, keys: Iterable[FrontendKey]) -> list[str]:
    """Return where connections of frontends lead that is no endpoint of theirs."""
    known = {row.destination for row in port.endpoints}
    family = family_of_port(port)
    return [
        format_destination(family, end)
        for key in keys
        for end, counts in (facts.connections or {}).get(key, {}).items()
        if end not in known and counts.known
    ]


def _works(facts: NodeFacts, port: ExplainedPort, keys: Iterable[FrontendKey]) -> bool:
    """Return whether connections of some frontends are open to an endpoint of theirs."""
    ends = {row.destination for row in port.endpoints}
    return any(
        (counts.open or counts.closing) and end in ends
        for key in keys
        for end, counts in (facts.connections or {}).get(key, {}).items()
    )


def _sometimes(port: ExplainedPort, group: _Group, subject: str) -> Iterator[NodeCause]:
    """Yield that some packets are dropped: above a rate or a number of connections, by chance."""
    rule = group.first
    if rule.packets == 0:
        return
    how = "are dropped" if rule.packets else "may be dropped"
    found = Diagnosis(
        Severity.WARN if rule.packets or rule.is_policy else Severity.NOTE,
        Code.DROPPED_BY_OTHERS,
        f"some {subject} {how}: by a limit, or by chance, of {in_words(rule)}",
        look=(listing(rule), f"nfproxy trace {port.service}, while clients try"),
        brief=f"{rule.table} drops some packets",
    )
    yield cause(port, found)


def _hidden_answers(
    port: ExplainedPort, traffic: PortTraffic, group: _Group
) -> Iterator[NodeCause]:
    """Yield that answers are not tracked, so that clients get them from another address."""
    rule = group.first
    rows = _rows(port, group)
    works = any(traffic.is_open(row) for row in rows)
    is_zone = rule.effect is RuleEffect.ZONE
    if not group.is_strong or works or (is_zone and not traffic.is_overdue):
        return
    found = Diagnosis(
        Severity.FAIL,
        Code.NOT_TRACKED,
        f"answers of {_names(rows)} are not tracked with their connections, so that they are not "
        f"translated back, by {in_words(rule)}",
        look=(listing(rule), f"nfproxy trace {port.service}"),
        brief=f"{rule.table}: answers are not tracked",
    )
    for row in rows:
        yield cause(port, found, row.address)


def _behind(
    facts: NodeFacts, port: ExplainedPort, traffic: PortTraffic, group: _Group
) -> Iterator[NodeCause]:
    """Yield which packets to endpoints, or answers of theirs, are dropped."""
    rule, rows = group.first, _rows(port, group)
    works = any(traffic.is_open(row) for row in rows)
    if works and rule.packets == 0:
        return
    is_known = any(traffic.of(row).known for row in rows)
    is_all = len(rows) == len(used_rows(port))
    is_sure = group.is_strong
    if is_sure:
        level = Severity.FAIL
        if works or rule.stage in _OWN:
            level = Severity.WARN if group.is_sure else Severity.NOTE
        elif not (group.is_sure or traffic.is_known or traffic.just_now):
            # A policy may have dropped what it should, days ago.
            level = Severity.WARN if traffic.ever else Severity.NOTE
    elif not is_named(group) or rule.packets is not None or is_known or not traffic.ever:
        return
    else:
        # A rule without a counter: others have connections, or no endpoint has any.
        level = Severity.WARN if traffic.is_known else Severity.NOTE
    local = {row.address for row in rows if _is_local(facts, row)}
    if rule.is_policy and group.is_sure and not local and rule.stage is PacketStage.SENT:
        yield _policy(port, rule, group, is_all=is_all)
        return
    whose = _clients(group)
    kind = "answers" if rule.stage is PacketStage.ANSWER else "packets"
    subject = (
        f"{kind} of {_names(rows)}"
        if not (is_all and len(rows) > 2)
        else (f"{kind} of every endpoint")
    )
    if kind == "packets" and whose:
        subject = f"packets{whose} to {_names(rows)}"
    found = Diagnosis(
        level,
        Code.DROPPED_BY_OTHERS,
        f"{subject} {'are' if is_sure else 'may be'} dropped by {in_words(rule)}",
        look=(listing(rule), f"nfproxy trace {port.service}"),
        brief=f"{rule.table} drops packets of {_names(rows[:1])}",
    )
    if whose or level is not Severity.FAIL:
        yield cause(port, found)
    elif is_all:
        yield cause(port, found)._replace(breaks_all=True)
    else:
        for row in rows:
            yield cause(port, found, row.address)


def _policy(port: ExplainedPort, rule: ForeignRule, group: _Group, *, is_all: bool) -> NodeCause:
    whose = _clients(group)
    found = Diagnosis(
        Severity.FAIL,
        Code.FORWARD_POLICY,
        f"chain {rule.chain} of table {rule.table} has policy drop and no rule that lets packets"
        f"{whose} to {'endpoints' if is_all else _names(_rows(port, group))} pass: only this "
        "node's own processes reach them",
        look=("the program that owns the chain; iptables -P FORWARD ACCEPT",),
        brief=f"{rule.table} forwards nothing",
    )
    return cause(port, found)._replace(breaks_all=is_all and not whose)


def _sources(facts: NodeFacts, port: ExplainedPort, traffic: PortTraffic) -> Iterator[NodeCause]:
    """Yield that endpoints see clients at an address to which answers do not come back."""
    rules = source_rules(facts, port)
    away: dict[bytes, int] = {}
    is_answered = False
    for counts in traffic.endpoints.values():
        for source, count in counts.sources.items():
            if facts.own_addresses and source not in facts.own_addresses:
                away[source] = away.get(source, 0) + count
                is_answered |= bool(counts.open or counts.closing)
    if not away:
        return
    names = ", ".join(format_address(source) for source in sorted(away)[:3])
    found = cause(
        port,
        Diagnosis(
            Severity.WARN if is_answered else Severity.FAIL,
            Code.SOURCE_CHANGED,
            f"endpoints see {sum(away.values()):,} of the connections come from {names}, which is "
            "no address of this node: answers go there, and not to the client",
            because=tuple(in_words(rule) for rule in rules),
            look=(*(listing(rule) for rule in rules[:1]), f"nfproxy trace {port.service}"),
            brief=f"clients appear as {names}",
        ),
    )
    yield found


def _perhaps(port: ExplainedPort, rule: ForeignRule) -> Diagnosis:
    return Diagnosis(
        Severity.WARN if rule.packets else Severity.NOTE,
        Code.DROPPED_BY_OTHERS,
        f"{in_words(rule)}; no connection of this Service is there just now",
        look=(listing(rule), f"nfproxy trace {port.service}, while a client tries"),
        brief=f"{rule.table} may drop its packets",
    )


def _rows(port: ExplainedPort, group: _Group) -> list[EndpointRow]:
    ends = {one.endpoint for one in group.all_}
    return [row for row in used_rows(port) if row.destination in ends]


def _names(rows: Sequence[EndpointRow]) -> str:
    shown = ", ".join(row.address for row in rows[:3])
    return f"{shown} and {len(rows) - 3} more" if len(rows) > 3 else shown


def _is_local(facts: NodeFacts, row: EndpointRow) -> bool:
    route = (facts.routes or {}).get(parse_address(row.address))
    return route is not None and route.is_local


def is_named(group: _Group) -> bool:
    """Return whether a rule is about an address, or the interface to it."""
    return any(one.is_named for one in group.all_)


def _clients(group: _Group) -> str:
    """Return whose packets they are, with a space before it, "" for all clients'."""
    if group.first.stage in _OWN:
        return " of this node's own processes"
    words = {one.clients for one in group.all_ if one.is_sure}
    return f" of {', '.join(sorted(words))}" if words and "" not in words else ""
