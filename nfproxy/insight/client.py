"""
What happens to one client: ``nfproxy explain WHAT --from CLIENT``.

The evaluator follows its packet through the rules, as they should be or as the kernel has them.
Planning is only asked which addresses a Service has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from nfproxy.insight.clientidentity import Client, node_addresses
from nfproxy.insight.clientsteps import (
    client_steps,
    endpoints_of,
    is_source_range,
    reaction_of,
    with_port,
)
from nfproxy.insight.desiredtables import met_by, table_for
from nfproxy.insight.diagnosis import ON_THE_WAY, Code, Diagnosis, ObjectField, Severity, in_order
from nfproxy.insight.evaluate import evaluate
from nfproxy.insight.explanation import (
    ClientPath,
    ClientStep,
    ClientTarget,
    Conclusion,
    Explanation,
    Reaction,
)
from nfproxy.insight.expressions import Find, Held
from nfproxy.insight.packet import AddressType, Packet, PacketOutcome
from nfproxy.insight.question import AddressQuestion, Question
from nfproxy.insight.sight import Sight
from nfproxy.insight.tabletext import RuleTable
from nfproxy.model.addresses import Family, family_of, format_address
from nfproxy.model.service import Protocol
from nfproxy.nft import schema
from nfproxy.plan.frontends import Frontend, FrontendKey, FrontendKind
from nfproxy.text import shown_name

#: Stand for interfaces whose names no rule has: of a pod of this node, of all other clients.
_POD, _OTHER = "(a pod's)", "(no pod's)"

_KINDS = {
    FrontendKind.CLUSTER_IP: "cluster IP",
    FrontendKind.LOAD_BALANCER_IP: "load-balancer IP",
    FrontendKind.EXTERNAL_IP: "external IP",
    FrontendKind.NODE_PORT: "node port",
}
_FROM_OUTSIDE = (
    *(FrontendKind.LOAD_BALANCER_IP, FrontendKind.EXTERNAL_IP),
    *(FrontendKind.NODE_PORT, FrontendKind.CLUSTER_IP),
)

#: Returns what looks up elements of a family's table, None for the desired ones.
Finder = Callable[[Family], Find | None]


class _Asked(msgspec.Struct, frozen=True):
    """An address and port to ask for; `frontend` is None where no Service has it."""

    address: bytes
    protocol: Protocol
    port: int
    frontend: Frontend | None = None

    @property
    def text(self) -> str:
        """``10.96.0.1:80/tcp``."""
        return f"{with_port(self.address, self.port)}/{self.protocol.word}"

    @property
    def title(self) -> str:
        """``10.96.0.1:80/tcp, a cluster IP of shop/web:http``."""
        if self.frontend is None:
            return self.text
        claim, kind = self.frontend.claim, _KINDS[self.frontend.kind]
        article = "an" if kind.startswith("e") else "a"
        port = f":{claim.port_name}" if claim.port_name else ""
        return f"{self.text}, {article} {kind} of {claim.service}{port}"

    @property
    def kind(self) -> str:
        """``node port 30080`` or ``cluster IP 10.96.0.1``; "" where no Service has it."""
        if self.frontend is None:
            return ""
        kind = _KINDS[self.frontend.kind]
        if self.frontend.key.address:
            return f"{kind} {format_address(self.address)}"
        return f"{kind} {self.port}"


def explain_client(
    sight: Sight,
    question: Question,
    found: Explanation,
    client: Client,
    finder: Finder | None = None,
) -> Explanation:
    """
    Return an explanation with what happens to one client in it: its verdict is the verdict.

    `finder` gives the look-ups of the kernel's elements; by default the desired ones are used.
    """
    path = ClientPath(
        address=", ".join(map(format_address, client.addresses.values())),
        what=client.what,
        name=client.name,
    )
    if other := _other_node(sight, question):
        rule = f"an address of node {shown_name(other)}, whose rules decide: --node {other}"
        path = msgspec.structs.replace(path, steps=(ClientStep(at="", rule=rule),))
        return msgspec.structs.replace(found, client=path)
    targets = list(_targets(sight, question, found, client))
    if targets:
        return _Follower(sight, client, targets, finder).explanation(found, path)
    if found.ports and found.ports[0].frontends:
        findings = in_order((_no_family(path, found), *found.findings))
        found = msgspec.structs.replace(
            found, findings=findings, conclusion=Conclusion.UNKNOWN, title=_title(path, found.title)
        )
    return msgspec.structs.replace(found, client=path)


def asked_by(
    sight: Sight, question: Question, found: Explanation, client: Client
) -> FrontendKey | None:
    """Return the frontend that a client is taken to ask for, None for none of a Service."""
    first = next(_targets(sight, question, found, client), None)
    return first.frontend.key if first is not None and first.frontend is not None else None


class _Follower:
    """Follows packets of one client to some targets, the first of which was asked about."""

    def __init__(
        self, sight: Sight, client: Client, targets: Sequence[_Asked], finder: Finder | None
    ) -> None:
        self._sight = sight
        self._client = client
        self._targets = targets
        self._knows_clients = finder is not None
        self._node = node_addresses(sight)
        self._tables: dict[Family, RuleTable] = {}
        packets = [self._packet(one) for one in targets]
        for family in {packet.family for packet in packets}:
            met = dict.fromkeys(key for one in packets for key in met_by(one))
            table = table_for(family, met, sight.planner.desired, sight.config.program)
            find = finder(family) if finder else None
            self._tables[family] = table.with_find(find) if find else table

    def _packet(self, asked: _Asked) -> Packet:
        source = self._client.addresses[family_of(asked.address)]
        interface = _interface(self._sight, self._client)
        return Packet(source, asked.address, asked.protocol, asked.port, interface)

    def outcomes(self, asked: _Asked) -> tuple[PacketOutcome, ...]:
        packet = self._packet(asked)
        return evaluate(self._tables[packet.family], packet, self._node)

    def if_allowed(self, asked: _Asked) -> tuple[PacketOutcome, ...]:
        """Return the outcomes if the source ranges held every client."""
        packet = self._packet(asked)
        table = self._tables[packet.family]

        def find(name: str, key: bytes) -> Held | None:
            return Held() if name == schema.SOURCE_RANGES else table.find(name, key)

        return evaluate(table.with_find(find), packet, self._node)

    def explanation(self, found: Explanation, path: ClientPath) -> Explanation:
        asked, *others = self._targets
        outcomes = self.outcomes(asked)
        is_out = is_source_range(outcomes)
        path = msgspec.structs.replace(
            path,
            address=format_address(self._client.addresses[family_of(asked.address)]),
            target=_target(asked, outcomes),
            steps=client_steps(
                asked.text,
                outcomes,
                self.if_allowed(asked) if is_out else (),
                knows_clients=self._knows_clients,
            ),
            elsewhere=tuple(
                _target(one, self.outcomes(one)) for one in others if one.text != asked.text
            ),
        )
        findings = found.findings
        if is_out and asked.frontend is not None:
            cause = _source_range(self._sight, path, asked.frontend)
            findings = in_order((cause, *findings))
        return msgspec.structs.replace(
            found,
            title=_title(path, asked.title),
            conclusion=_with_others(_conclusion(outcomes), asked, found),
            findings=findings,
            client=path,
        )


def _with_others(conclusion: Conclusion, asked: _Asked, found: Explanation) -> Conclusion:
    """Return the verdict on a client that nfproxy lets pass, with what else happens on its way."""
    if conclusion is not Conclusion.WORKS or asked.frontend is None:
        return conclusion
    claim, family = asked.frontend.claim, family_of(asked.address).label
    for port in found.ports:
        is_asked = (port.service, port.name) == (str(claim.service), claim.port_name)
        if (
            is_asked
            and port.family == family
            and any(
                one.level is Severity.FAIL
                and one.code in ON_THE_WAY
                and (one.service, one.port, one.family) == (port.service, port.name, port.family)
                for one in found.findings
            )
        ):
            return port.conclusion
    return conclusion


def _other_node(sight: Sight, question: Question) -> str:
    """Return the name of the node that an address belongs to, "" for this one and for none."""
    if not isinstance(question, AddressQuestion) or not question.address:
        return ""
    if node_addresses(sight).type_of(question.address) is AddressType.LOCAL:
        return ""
    nodes = sight.details.nodes.values()
    return next((node.name for node in nodes if question.address in node.addresses), "")


def _no_family(path: ClientPath, found: Explanation) -> Diagnosis:
    """Return that the client's family has no address to ask for."""
    client_family = Family.IPV6 if ":" in path.address else Family.IPV4
    return Diagnosis(
        Severity.FAIL,
        Code.FAMILY_NOT_SERVED,
        f"{path.address} cannot ask for it: nothing that was asked about has an "
        f"{client_family.label} address",
        look=("spec.ipFamilies and spec.ipFamilyPolicy of the Service",),
        service=found.ports[0].service,
        family=client_family.label,
        brief=f"no {client_family.label} address",
    )


def _targets(
    sight: Sight, question: Question, found: Explanation, client: Client
) -> Iterator[_Asked]:
    """Yield what to ask for: first what the question is about, then the Service's other ways."""
    desired = sight.planner.desired
    exact: _Asked | None = None
    if isinstance(question, AddressQuestion) and question.address and question.port:
        if family_of(question.address) not in client.addresses:
            return
        exact = _exact(sight, question)
        yield exact
    first = exact.frontend if exact else None
    keys = [row.key for port in found.ports for row in port.frontends]
    if first is not None:
        plan = desired.plan_of(first.claim.service)
        keys = [one.key for one in plan.frontends] if plan else []
    held = [desired.frontends[key] for key in dict.fromkeys(keys) if key in desired.frontends]
    services = {f"{port.service}:{port.name}" for port in found.ports}
    order = _FROM_OUTSIDE if client.what == "outside" else _FROM_OUTSIDE[::-1]
    for frontend in sorted(held, key=lambda one: order.index(one.kind)):
        claim = frontend.claim
        if first is not None and claim[1:] != first.claim[1:]:
            continue
        if first is None and f"{claim.service}:{claim.port_name}" not in services:
            continue
        if frontend.key.family in client.addresses:
            yield from _at(sight, frontend)


def _exact(sight: Sight, question: AddressQuestion) -> _Asked:
    """Return what is at an address and port, over the protocol that a Service has there."""
    family = family_of(question.address)
    is_own = node_addresses(sight).type_of(question.address) is AddressType.LOCAL
    for protocol in (question.protocol,) if question.protocol else Protocol:
        for address in (question.address, *((b"",) if is_own else ())):
            key = FrontendKey(family, address, protocol, question.port)
            frontend = sight.planner.desired.frontends.get(key)
            if frontend is not None:
                return _Asked(question.address, protocol, question.port, frontend)
    return _Asked(question.address, question.protocol or Protocol.TCP, question.port)


def _at(sight: Sight, frontend: Frontend) -> Iterator[_Asked]:
    """Yield a frontend; a node port at the first address of the node that accepts it."""
    key = frontend.key
    if key.address:
        yield _Asked(key.address, key.protocol, key.port, frontend)
        return
    prefixes = sight.config.node_port_prefixes.get(key.family)
    own = (sight.config.node_ips.get(key.family), *sorted(node_addresses(sight).addresses))
    for address in own:
        if address is None or family_of(address) is not key.family:
            continue
        if prefixes is None or any(address in prefix for prefix in prefixes):
            yield _Asked(address, key.protocol, key.port, frontend)
            return


def _interface(sight: Sight, client: Client) -> str:
    """Return by which interface the client's packets come, as the configuration recognises pods."""
    if client.what == "node":
        return ""
    pods = sight.config.local_pods
    return pods.bridge or pods.interface_prefix or _POD if client.what == "pod" else _OTHER


def _target(asked: _Asked, outcomes: Sequence[PacketOutcome]) -> ClientTarget:
    return ClientTarget(
        asked=asked.text,
        what=asked.kind,
        answer=reaction_of(outcomes),
        endpoints=endpoints_of(outcomes),
        source_changed=any(one.is_masqueraded for one in outcomes),
        rejected_with=next((one.answer for one in outcomes if one.answer), ""),
    )


_CONCLUSIONS = {
    Reaction.ENDPOINTS: Conclusion.WORKS,
    Reaction.REFUSED: Conclusion.REFUSED,
    Reaction.DROPPED: Conclusion.DROPPED,
}


def _conclusion(outcomes: Sequence[PacketOutcome]) -> Conclusion:
    found = {reaction_of([one]) for one in outcomes}
    if len(found) > 1 and Reaction.ENDPOINTS in found:
        return Conclusion.PARTLY
    return _CONCLUSIONS.get(reaction_of(outcomes), Conclusion.UNKNOWN)


def _title(path: ClientPath, asked: str) -> str:
    return f"{path.address} ({path.name}) → {asked}"


def _source_range(sight: Sight, path: ClientPath, frontend: Frontend) -> Diagnosis:
    """Return that the client is in no allowed range, and what would answer it."""
    service = frontend.claim.service
    planned = sight.planner.services.get(service)
    family = frontend.key.family
    ranges = [str(r) for r in planned.source_ranges if r.family is family] if planned else []
    shown = ", ".join(ranges[:4]) + (f" and {len(ranges) - 4} more" if len(ranges) > 4 else "")
    open_ = [one.what for one in path.elsewhere if one.answer is Reaction.ENDPOINTS]
    because = (f"not guarded: {', '.join(_first(open_))}; the client gets an answer there",)
    return Diagnosis(
        Severity.FAIL,
        Code.SOURCE_RANGE,
        f"{path.address} is in none of loadBalancerSourceRanges: {shown}",
        because=because if open_ else (),
        look=(
            "spec.loadBalancerSourceRanges of the Service",
            "what translates the client's address on the way",
        ),
        about=ObjectField("Service", *service, "spec.loadBalancerSourceRanges"),
        service=str(service),
        port=frontend.claim.port_name,
        family=family.label,
        brief="client in no source range",
    )


def _first(names: Iterable[str], most: int = 3) -> list[str]:
    return list(dict.fromkeys(names))[:most]
