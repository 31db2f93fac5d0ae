"""Whether the kernel holds what it should for some frontends, and what that means for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nfproxy.insight.diagnosis import Code, Diagnosis, Severity
from nfproxy.insight.explanation import ExplainedPort, FrontendRow, InKernel, Reaction
from nfproxy.insight.nodefacts import HeldState, InterfaceProgram, NodeFacts, ProxyRuns, RuleEffect
from nfproxy.insight.rulewords import in_words, listing
from nfproxy.insight.secondtables import second_tables
from nfproxy.insight.waycauses import NodeCause, cause, used_rows
from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.nft.chains import FindChain, shape_of
from nfproxy.nft.schema import TABLE
from nfproxy.plan.desired import Desired
from nfproxy.plan.endpoints import Destination
from nfproxy.plan.frontends import (
    NO_SLOTS,
    AffinityListKey,
    Frontend,
    FrontendKey,
    ListKey,
    SharedElement,
    balancing_verdict,
)
from nfproxy.reconcile.lists import NO_LIST, list_transition
from nfproxy.reconcile.transition import ABSENT, drawn_counts, transition
from nfproxy.views.elementwords import format_destination

_MOST_PROGRAMS = 4

EQUAL, MISSING, DIFFERS, UNKNOWN = "equal", "missing", "differs", "unknown"


def state_in_kernel(held: HeldState, desired: Desired | None, key: FrontendKey) -> InKernel:
    """
    Return whether the kernel has a frontend as it should, and its endpoints there.

    Without a desired state (None) that is unknown, and where its table is of another version.
    """
    if key.family in held.other_layout:
        return InKernel(state=UNKNOWN)
    state = held.observed.frontends.get(key, ABSENT)
    ends = tuple(format_destination(key.family, end) for end in sorted(endpoints_in(held, key)))
    if desired is None:
        return InKernel(state=UNKNOWN, endpoints=ends)
    wanted = desired.frontends.get(key)
    if state.verdict is None:
        return InKernel(state=MISSING if wanted else EQUAL)
    is_equal = wanted is not None and not _differs(held, desired, key, wanted)
    return InKernel(state=EQUAL if is_equal else DIFFERS, endpoints=ends)


def endpoints_in(held: HeldState, key: FrontendKey) -> set[Destination]:
    """Return the endpoints that new connections to a frontend may get in the kernel."""
    state = held.observed.frontends.get(key, ABSENT)
    verdict = balancing_verdict(key, state.verdict, state.own_elements)
    shape = shape_of(verdict)
    if shape is not None and shape.list:
        number = schema.number64_bytes(shape.list)
        listed = held.observed.lists.get(ListKey(key.family, shape.protocol, number), NO_LIST)
        return set(listed.slot_ranges[0]) | set(listed.slot_ranges[1])
    drawn = drawn_counts(verdict)
    return {
        end for slots, count in zip(state.slot_ranges, drawn, strict=True) for end in slots[:count]
    }


def _differs(held: HeldState, desired: Desired, key: FrontendKey, wanted: Frontend) -> bool:
    """Return whether a packet may get another answer, or another endpoint, than it should."""
    observed = held.observed
    if transition(key, observed.frontends.get(key, ABSENT), wanted).operations:
        return True
    if wanted.list is not None:
        listed = desired.lists.get(wanted.list, NO_SLOTS)
        if list_transition(
            wanted.list, observed.lists.get(wanted.list, NO_LIST), listed
        ).operations:
            return True
    for chain in wanted.chains:
        for each in chain.lists if isinstance(chain, FindChain) else ():
            name = AffinityListKey(key.family, each.number)
            if observed.affinity_lists.get(name, frozenset()) != desired.affinity_lists.get(
                name, frozenset()
            ):
                return True
    plan = desired.plan_of(wanted.claim.service)
    shared = plan.shared_elements if plan else ()
    return any(held.lacks(one) for one in shared if _concerns(one, key))


def _concerns(element: SharedElement, key: FrontendKey) -> bool:
    if element.family is not key.family:
        return False
    return element.set == schema.SOURCE_RANGES or element.key == key.address


def kernel_causes(facts: NodeFacts, ports: tuple[ExplainedPort, ...]) -> Iterator[NodeCause]:
    """Yield what is wrong with nfproxy on this node, and with its tables."""
    runs = facts.runs
    if facts.held is None:
        return
    is_away = runs is not None and not runs.nfproxy and not runs.hidden
    asked = {port.family for port in ports}
    there = {family.label for family in facts.held.tables}
    if asked and not asked & there:
        yield NodeCause(_no_tables(runs, is_away=is_away))
        return
    if dormant := [family for family in facts.held.dormant if family.label in asked]:
        yield NodeCause(_dormant_tables(dormant))
    yield from _layout_change(facts.held, runs=not is_away)
    if is_away:
        yield NodeCause(
            Diagnosis(
                Severity.WARN,
                Code.NO_NFPROXY,
                "nfproxy does not run on this node: the kernel keeps its rules, and changes of "
                "objects do not arrive",
                look=("kubectl -n kube-system get pods -o wide", _START),
                brief="nfproxy does not run here",
            )
        )
    elif runs is not None and runs.is_silent:
        yield NodeCause(
            Diagnosis(
                Severity.WARN,
                Code.NFPROXY_SILENT,
                f"{runs.nfproxy} runs and does not answer at its own pages: changes of objects may "
                "not arrive, and health checks may fail",
                look=("the log of nfproxy on this node; ps -o stat,wchan of its process", _START),
                brief="nfproxy does not answer",
            )
        )
    yield from _whole_node(facts)
    for port in ports:
        yield from _health_check(facts, port)
        for row in port.frontends:
            if row.in_kernel is not None and row.answer.node is not Reaction.ABSENT:
                yield from _row_cause(port, row)


def _layout_change(held: HeldState, *, runs: bool) -> Iterator[NodeCause]:
    """Yield that tables of another layout are being replaced, or that this did not end."""
    found = second_tables(held.second, runs=runs)
    names = [f"{family.table} {TABLE}" for family in sorted(held.other_layout)]
    verb, whose = ("is", "its") if len(names) == 1 else ("are", "their")
    because = ""
    if names:
        said = f"{' and '.join(names)} {verb} of another version"
        because = f"{said}: {whose} elements were not read"
    if found is None and not because:
        return
    severity = Severity.NOTE if found is None or not found.look else Severity.WARN
    yield NodeCause(
        Diagnosis(
            severity,
            Code.LAYOUT_CHANGE,
            found.text if found else because,
            because=(because,) if found and because else (),
            look=(found.look,) if found and found.look else (),
            brief="tables of another layout",
        )
    )


def _whole_node(facts: NodeFacts) -> Iterator[NodeCause]:
    """Yield what is wrong with all of this node: another proxy's rules, a full table."""
    runs = facts.runs
    if runs is not None and runs.leftovers:
        running = f"it runs: {runs.kube_proxy}" if runs.kube_proxy else "it does not run"
        yield NodeCause(
            Diagnosis(
                Severity.WARN,
                Code.OTHER_PROXY_RULES,
                f"rules of kube-proxy are on this node, too ({', '.join(runs.leftovers)}; "
                f"{running}): which one answers a connection is open",
                look=("nfproxy cleanup --kube-proxy --dry-run lists them",),
                brief="kube-proxy's rules are here, too",
            )
        )
    if facts.programs:
        yield NodeCause(_programs(facts.programs))
    if facts.tracked is not None and facts.tracked.connections * 10 >= facts.tracked.limit * 9:
        used, limit = facts.tracked.connections, facts.tracked.limit
        yield NodeCause(
            Diagnosis(
                Severity.FAIL if used >= limit else Severity.WARN,
                Code.CONNTRACK_FULL,
                f"the kernel tracks {used:,} of {limit:,} connections"
                + (": it drops the first packets of new ones" if used >= limit else ""),
                look=("sysctl -w net.netfilter.nf_conntrack_max=…; conntrack -S",),
                brief="the table of connections is full",
            )
        )


def _programs(programs: tuple[InterfaceProgram, ...]) -> Diagnosis:
    """Return what sees packets outside nf_tables; on many nodes that is a part of the network."""
    taking = [one for one in programs if one.takes_packets]
    named = [f"{one.what} of {one.interface}" for one in (taking or programs)]
    shown = ", ".join(named[:_MOST_PROGRAMS])
    more = f" and {len(named) - _MOST_PROGRAMS:,} more" if len(named) > _MOST_PROGRAMS else ""
    does = "dropped or redirected" if taking else "dropped"
    name = (taking or programs)[0].interface
    return Diagnosis(
        Severity.WARN if taking else Severity.NOTE,
        Code.NOT_FOLLOWED,
        f"packets may be {does} by {shown}{more}: explain does not follow them there",
        look=(f"tc filter show dev {name} ingress; ip -d link show dev {name}; bpftool net",),
        brief=f"not followed: {named[0]}",
    )


def _health_check(facts: NodeFacts, port: ExplainedPort) -> Iterator[NodeCause]:
    """Yield that load balancers hear something wrong of this node."""
    if port.health_check is None:
        return
    number = port.health_check_port
    for rule in facts.rules:
        if rule.health_port == number and rule.effect is RuleEffect.DROP and rule.is_sure:
            yield cause(
                port,
                Diagnosis(
                    Severity.WARN,
                    Code.HEALTH_CHECK_PORT,
                    f"load balancers do not reach health check node port {number}: their packets "
                    f"are dropped by {in_words(rule)}",
                    look=(listing(rule), f"nfproxy trace :{number}"),
                    brief=f"health check node port {number} is closed",
                ),
            )
            break
    answer = facts.health.get(number)
    if answer is None:
        return
    if answer.is_ours and answer.status == port.health_check:
        return
    if not answer.status:
        said = "does not answer"
    elif not answer.is_ours:
        said = f"answers {answer.status}, and not as nfproxy does: another program has the port"
    else:
        said = f"answers {answer.status}"
    yield cause(
        port,
        Diagnosis(
            Severity.WARN,
            Code.HEALTH_CHECK_PORT,
            f"health check node port {number} {said}; load balancers should get "
            f"{port.health_check} here",
            look=(f"ss -ltnp 'sport = :{number}'", "the log of nfproxy on this node"),
            brief=f"health check node port {number} is wrong",
        ),
    )


def _no_tables(runs: ProxyRuns | None, *, is_away: bool) -> Diagnosis:
    other = runs.kube_proxy if runs else ""
    if is_away and other:
        what = f"nfproxy does not run on this node; kube-proxy does ({other}), and serves Services"
        return Diagnosis(
            Severity.WARN, Code.NO_NFPROXY, what, look=(_START,), brief="kube-proxy serves here"
        )
    if is_away:
        what = f"nfproxy does not run on this node, and table ip {TABLE} is not there: no Service "
        return Diagnosis(
            Severity.FAIL,
            Code.NO_NFPROXY,
            f"{what}works here",
            look=("kubectl -n kube-system get pods -o wide", _START),
            brief="nfproxy does not run here",
        )
    return Diagnosis(
        Severity.FAIL,
        Code.NOT_PROGRAMMED,
        f"table ip {TABLE} is not there: no Service works on this node",
        look=("the log of nfproxy on this node", "nft monitor: which program deletes the table"),
        brief="the tables are not there",
    )


def _dormant_tables(families: Iterable[Family]) -> Diagnosis:
    names = " and ".join(f"{family.table} {TABLE}" for family in sorted(families))
    return Diagnosis(
        Severity.FAIL,
        Code.NOT_PROGRAMMED,
        f"table {names} is dormant, so the kernel does not use it: no Service works by it on this "
        "node until nfproxy, which wakes it, runs",
        look=("the log of nfproxy on this node", "nft monitor: which program sets the flag"),
        brief="the tables are dormant",
    )


_START = "journalctl -u nfproxy, or kubectl -n kube-system logs of the node's nfproxy pod"


def _row_cause(port: ExplainedPort, row: FrontendRow) -> Iterator[NodeCause]:
    assert row.in_kernel is not None  # noqa: S101 - the caller looked
    state = row.in_kernel.state
    if state in (EQUAL, UNKNOWN):
        return
    look = ("nfproxy diff", "the log of nfproxy on this node")
    if state == MISSING:
        yield cause(
            port,
            Diagnosis(
                Severity.FAIL,
                Code.NOT_PROGRAMMED,
                f"the kernel does not have {row.key}: connections to it go unanswered",
                look=look,
                brief=f"{row.key} is not in the kernel",
            ),
        )
        return
    family = row.key.family
    wanted = [format_destination(family, each.destination) for each in used_rows(port)]
    yield cause(
        port,
        Diagnosis(
            Severity.FAIL,
            Code.KERNEL_DIFFERS,
            f"the kernel has something else for {row.key} than the objects ask for",
            because=(
                f"in the kernel: {', '.join(row.in_kernel.endpoints) or 'no endpoint'}",
                f"should be: {', '.join(sorted(wanted)) or 'no endpoint'}",
            )
            if set(row.in_kernel.endpoints) != set(wanted)
            else ("the endpoints are equal, and something else is not: nfproxy diff names it",),
            look=look,
            brief=f"{row.key} differs in the kernel",
        ),
    )
