"""Whether a node is all right: the rows of ``nfproxy status``, from what the daemon knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from nfproxy.insight.changerecord import ChangeRecord, duration_text
from nfproxy.insight.nodefacts import TrackedUse
from nfproxy.insight.secondtables import second_tables
from nfproxy.insight.statusscreen import SERVICES, Mark, StatusRow, age_text
from nfproxy.insight.trackedtotals import TrackedTotals
from nfproxy.model.addresses import FAMILIES, Family, format_address
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft.stages import FamilyTables
from nfproxy.plan.sizes import FamilySize
from nfproxy.text import plural

#: Parts of the connection table: new connections fail at all of it.
_NEARLY_FULL, _FULL = 0.8, 0.98
_PREFIXES_SHOWN = 4

_NO_TABLES: Mapping[Family, FamilyTables] = {}


class ServiceStates(NamedTuple):
    """
    Service ports by what is wrong with them.

    `refused` have no endpoint. `dropped` and `outside` have none on this node, under
    internalTrafficPolicy and externalTrafficPolicy Local; for `outside` each family counts.
    `waiting` counts Services whose last version is not programmed. The others are frontends: lost
    to an older Service, refused by nfproxy, and limits that Services exceed.
    """

    total: int = 0
    waiting: int = 0
    refused: int = 0
    dropped: int = 0
    outside: int = 0
    conflicts: int = 0
    claims_refused: int = 0
    limited: int = 0


class ForeignSummary(NamedTuple):
    """The changes by other processes in the last day; `last` is None if there was none."""

    changes: int = 0
    last: ChangeRecord | None = None


class DaemonFacts(NamedTuple):
    """
    What the daemon knows of itself and its node.

    `sizes` has the families that are proxied. `source` says where objects come from, `trouble` why
    they cannot be followed. `overdue` says why the tables are not what they should be, `kernel`
    what the kernel refuses or makes wait, `node_trouble` what is wrong with the Node object; "" for
    nothing. `read_ago_s` is how long ago the tables were read, `heard_ago_s` how long ago the API
    server sent something; None if never. `totals` is None where connections were not looked at.
    `tables` are nfproxy's in the kernel, `kube_proxy` what kube-proxy has there.
    """

    sizes: Mapping[Family, FamilySize]
    config: NodeConfig | None
    source: tuple[str, str]
    trouble: str
    overdue: str
    kernel: str
    node_trouble: str
    read_ago_s: float | None
    services: ServiceStates
    foreign: ForeignSummary
    tracked: TrackedUse | None
    heard_ago_s: float | None = None
    slices: int = 0
    totals: TrackedTotals | None = None
    tables: Mapping[Family, FamilyTables] = _NO_TABLES
    kube_proxy: Sequence[str] = ()


def daemon_rows(facts: DaemonFacts) -> Iterator[StatusRow]:
    """Yield the rows of a node whose daemon answers."""
    yield _programmed(facts)
    subject, where = facts.source
    if facts.trouble:
        yield StatusRow(
            Mark.WARN, subject, f"{where}: {facts.trouble}", "the log; nfproxy preflight"
        )
    else:
        objects = [plural(facts.services.total, "Service"), plural(facts.slices, "EndpointSlice")]
        heard = facts.heard_ago_s
        last = [f"last word {heard_text(heard)} ago"] if heard is not None else []
        yield StatusRow(Mark.OK, subject, f"{where}: {', '.join((*last, *objects))}")
    if facts.node_trouble:
        yield StatusRow(Mark.WARN, "Node object", facts.node_trouble, "kubectl get nodes")
    yield from second_rows(facts.tables, runs=True)
    yield _foreign(facts.foreign)
    if facts.kube_proxy:
        yield _kube_proxy(facts.kube_proxy)
    yield _services(facts.services)
    if facts.config is not None:
        yield _pods(facts.config)
    yield from connection_rows(facts.tracked, facts.totals)
    if facts.config is not None:
        yield _node_ports(facts.config, facts.sizes)


def _programmed(facts: DaemonFacts) -> StatusRow:
    sizes = [
        f"{family.label} {plural(size.frontends, 'frontend')}, {plural(size.endpoints, 'slot')}"
        if (size := facts.sizes.get(family))
        else f"{family.label} not proxied"
        for family in FAMILIES
    ]
    ago = facts.read_ago_s
    read = [f"kernel read {age_text(ago)} ago"] if ago is not None else []
    what = [facts.overdue] if facts.overdue else []
    waiting = facts.services.waiting
    if waiting and not facts.overdue:
        what.append(f"{plural(waiting, 'Service')} not yet in the kernel")
    if facts.kernel:
        what.append(facts.kernel)
    level = Mark.FAIL if facts.overdue else Mark.WARN if what else Mark.OK
    look = "nfproxy diff; the log" if what else ""
    return StatusRow(level, "programmed", "; ".join((*what, *sizes, *read)), look)


def second_rows(tables: Mapping[Family, FamilyTables], *, runs: bool) -> Iterator[StatusRow]:
    """Yield that there are second tables, see `nft.stages`; nothing where there are none."""
    found = second_tables(tables, runs=runs)
    if found is not None:
        yield StatusRow(Mark.FAIL if found.is_bad else Mark.WARN, "tables", found.text, found.look)


def _kube_proxy(rules: Sequence[str]) -> StatusRow:
    return StatusRow(
        Mark.WARN,
        "kube-proxy",
        f"its rules are on this node, too ({', '.join(rules)}): which of the two answers a "
        "connection is open",
        "end kube-proxy; nfproxy cleanup --kube-proxy",
    )


def _foreign(found: ForeignSummary) -> StatusRow:
    subject, last = "changed by others", found.last
    if last is None:
        return StatusRow(Mark.OK, subject, "not in the last day, as far as nfproxy remembers")
    is_open = last.after_ms is None
    at = last.at.partition(".")[0].replace("T", " ")
    text = (
        f"{plural(found.changes, 'time')} in the last day, last by {last.by} at {at} UTC: "
        f"{last.change}; "
    )
    text += (
        "not repaired yet"
        if last.after_ms is None
        else (f"repaired after {duration_text(last.after_ms)}")
    )
    return StatusRow(Mark.FAIL if is_open else Mark.WARN, subject, text, "nfproxy changes")


def _services(states: ServiceStates) -> StatusRow:
    fails = [
        *_count(
            states.refused, "refuses everything: no endpoint", "refuse everything: no endpoint"
        ),
        *_count(
            states.dropped,
            "drops clients here: internalTrafficPolicy Local",
            "drop clients here: internalTrafficPolicy Local",
        ),
    ]
    warns = [
        *_count(
            states.conflicts,
            "address or port lost to another Service",
            "addresses or ports lost to other Services",
        ),
        *_count(states.claims_refused, "frontend not allowed", "frontends not allowed"),
        *_count(states.limited, "limit exceeded", "limits exceeded"),
    ]
    intended = _count(
        states.outside,
        "drops outside clients, as externalTrafficPolicy Local asks",
        "drop outside clients, as externalTrafficPolicy Local asks",
    )
    level = Mark.FAIL if fails else Mark.WARN if warns else Mark.OK
    found = ", ".join((*fails, *warns, *intended)) or "every Service port has an endpoint here"
    return StatusRow(
        level, SERVICES, found, "nfproxy services --problems" if fails or warns else ""
    )


def _count(count: int, one: str, many: str) -> list[str]:
    return [f"{count:,} {one if count == 1 else many}"] if count else []


def _pods(config: NodeConfig) -> StatusRow:
    if config.local_pods_mismatch:
        return StatusRow(
            Mark.WARN,
            "pods",
            "; ".join(config.local_pods_mismatch),
            "clusterCIDR, or detectLocalMode; then restart nfproxy",
        )
    pods = config.local_pods
    if name := pods.bridge or pods.interface_prefix:
        star = "" if pods.bridge else "…"
        return StatusRow(Mark.OK, "pods", f"recognised by interface {name}{star}")
    if not pods.prefixes:
        text = "no clusterCIDR: no client is masqueraded on the way to a cluster IP"
        return StatusRow(Mark.OK, "pods", text)
    if pods.own is None:
        return StatusRow(Mark.OK, "pods", f"this node's are in {_prefixes(pods.prefixes.values())}")
    held = [prefix for family in FAMILIES for prefix in pods.own.get(family, ())]
    text = f"clusterCIDR {_prefixes(pods.prefixes.values())}"
    if held:
        text += f" holds podCIDR {_prefixes(held)}"
    return StatusRow(Mark.OK, "pods", text)


def _prefixes(prefixes: Iterable[object]) -> str:
    return ", ".join(map(str, prefixes))


def connection_rows(
    tracked: TrackedUse | None, totals: TrackedTotals | None = None
) -> Iterator[StatusRow]:
    """Yield how full the kernel's table of connections is; nothing where that is unknown."""
    if tracked is None or tracked.limit <= 0:
        return
    share = tracked.connections / tracked.limit
    level = Mark.FAIL if share >= _FULL else Mark.WARN if share >= _NEARLY_FULL else Mark.OK
    look = "" if level is Mark.OK else "conntrack.maxPerCore; sysctl net.netfilter.nf_conntrack_max"
    full = "; a full table loses new connections" if look else ""
    text = f"{tracked.connections:,} of {tracked.limit:,} tracked{full}"
    if totals is not None:
        text += f"; {totals.overdue:,} unanswered for a second"
        if totals.stale:
            text += f", {totals.stale:,} open to endpoints that left"
        if (totals.overdue or totals.stale) and level is Mark.OK:
            level, look = Mark.WARN, "nfproxy services --sort open; nfproxy explain NAMESPACE/NAME"
    yield StatusRow(level, "connections", text, look)


def _node_ports(config: NodeConfig, sizes: Mapping[Family, FamilySize]) -> StatusRow:
    where = []
    for family in FAMILIES:
        if family not in sizes:
            continue
        prefixes = config.node_port_prefixes.get(family)
        if prefixes is None:
            where.append(f"on every local {family.label} address")
        elif prefixes:
            shown = [
                format_address(one.network) if one.network == one.last else str(one)
                for one in prefixes[:_PREFIXES_SHOWN]
            ]
            more = len(prefixes) - len(shown)
            where.append(f"on {', '.join(shown)}" + (f" and {more} more" if more else ""))
        elif family not in config.loopback_node_ports:
            where.append(f"on no {family.label} address")
        if family in config.loopback_node_ports:
            where.append(f"on {family.label} loopback")
    return StatusRow(Mark.OK, "node ports", "; ".join(where) or "not served")


def heard_text(seconds: float) -> str:
    """Return a short duration with a tenth of a second, others as :func:`age_text` does."""
    return f"{max(0.0, seconds):.1f} s" if seconds < 10 else age_text(seconds)
