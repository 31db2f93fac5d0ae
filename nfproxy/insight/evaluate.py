"""
What happens to a packet in a table: an interpreter of its rules.

It reads rules, sets and maps, and knows what nf_tables and conntrack do with them. Of plan and
reconcile it knows nothing, so its answers can be compared with what they meant. Source:
``nft_do_chain`` and ``nf_nat_inet_fn`` of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nfproxy.insight.expressions import Moment, State, UndecidedError
from nfproxy.insight.packet import (
    AddressType,
    Effect,
    Fate,
    NodeAddresses,
    Packet,
    PacketOutcome,
    PacketStep,
)
from nfproxy.insight.statements import Done, Rule
from nfproxy.insight.tabletext import RuleChain, RuleTable

#: The kernel has the same limit on jumps (NFT_JUMP_STACK_SIZE).
_DEEPEST = 16


class _Way(NamedTuple):
    """The steps of a packet, the last one first."""

    step: PacketStep
    before: _Way | None


class _Result(NamedTuple):
    """How a chain leaves a packet: `ending` is a final one, or "end" where it reached the end."""

    state: State
    way: _Way | None
    ending: str


#: Packets at one place, each with the way that it came. Of two with one state, one is followed.
_Packets = dict[State, _Way | None]


def evaluate(table: RuleTable, packet: Packet, node: NodeAddresses) -> tuple[PacketOutcome, ...]:
    """
    Return all that may become of the first packet of a connection, each outcome once.

    There are several where the rules draw, as balancing does. The table has the packet's family.
    """
    return tuple(_Evaluation(table, packet, node).outcomes())


class _Evaluation:
    """One packet on its way through the hooks."""

    def __init__(self, table: RuleTable, packet: Packet, node: NodeAddresses) -> None:
        self._table = table
        self._packet = packet
        self._node = node
        self._hook = ""
        self._ended: dict[tuple[Fate, State, str], PacketOutcome] = {}

    def outcomes(self) -> Iterator[PacketOutcome]:
        packet = self._packet
        first = State(packet.source, packet.destination, packet.port, packet.mark)
        # conntrack translates a destination in the first hook, a source in the last one. A packet
        # that a process sends to the node itself comes in again, when both are decided.
        if packet.is_from_process:
            arrived = self._pass("output", {first: None})
            arrived = self._pass("postrouting", arrived)
        else:
            routed = self._pass("prerouting", {first: None})
            here = {s: way for s, way in routed.items() if self._is_local(s)}
            there = {s: way for s, way in routed.items() if s not in here}
            arrived = self._pass("input", here)
            arrived.update(self._pass("postrouting", self._pass("forward", there)))
        for state, way in arrived.items():
            fate = Fate.ENDPOINT if state.is_translated else Fate.UNTOUCHED
            self._end(fate, state, way)
        yield from self._ended.values()

    def _is_local(self, state: State) -> bool:
        return self._node.type_of(state.destination) is not AddressType.UNICAST

    def _end(self, fate: Fate, state: State, way: _Way | None) -> None:
        """Note an outcome, unless there is one like it."""
        steps = tuple(_steps(way))
        answer = steps[-1].detail if fate is Fate.REJECTED else ""
        outcome = PacketOutcome(
            fate=fate,
            address=state.destination,
            port=state.port,
            is_local=self._is_local(state),
            is_masqueraded=state.is_masqueraded,
            answer=answer,
            steps=steps,
        )
        same = state._replace(mark=0, priority=0)
        self._ended.setdefault((fate, same, answer), outcome)

    def _pass(self, hook: str, packets: _Packets) -> _Packets:
        """Lead packets through the base chains of a hook; return those that go on."""
        self._hook = hook
        for chain in self._table.hooked(hook):
            going: _Packets = {}
            for state, way in packets.items():
                if chain.hooked and chain.hooked.type == "nat" and _is_decided(hook, state):
                    going.setdefault(state, way)
                    continue
                for result in self._walk(chain, {state: way}, 0):
                    self._leave(chain, result, going)
            packets = going
        return packets

    def _leave(self, chain: RuleChain, result: _Result, going: _Packets) -> None:
        """Take a packet from a base chain to the next one, or to its end."""
        state, way, ending = result
        if ending == "end" and chain.hooked and chain.hooked.policy == "drop":
            step = PacketStep(self._hook, chain.name, "policy drop", Effect.DROP)
            ending, way = "drop", _Way(step, way)
        if ending in ("end", "accept"):
            going.setdefault(state, way)
            return
        self._end(_FATES[ending], state, way)

    def _walk(self, chain: RuleChain, packets: _Packets, depth: int) -> Iterator[_Result]:
        """Lead packets through a chain."""
        for rule in chain.rules:
            if not packets:
                return
            onward: _Packets = {}
            for state, way in packets.items():
                for result in self._apply(chain, rule, _Result(state, way, "next"), depth):
                    if result.ending == "next":
                        onward.setdefault(result.state, result.way)
                    else:
                        yield result
            packets = onward
        for state, way in packets.items():
            yield _Result(state, way, "end")

    def _apply(
        self, chain: RuleChain, rule: Rule, packet: _Result, depth: int
    ) -> Iterator[_Result]:
        """Apply a rule to a packet; "next" is the ending of those that come to the next rule."""
        running = [(packet.state, packet.way)]
        for statement in rule.statements:
            onward: list[tuple[State, _Way | None]] = []
            for state, way in running:
                moment = Moment(self._packet, state, self._node, self._table.find)
                try:
                    done = [*statement.run(moment)]
                except UndecidedError as why:
                    yield self._undecided(chain, rule, state, way, str(why))
                    continue
                for one in done:
                    after = way
                    if one.effect is not None:
                        step = PacketStep(self._hook, chain.name, rule.text, one.effect, one.detail)
                        after = _Way(step, way)
                    if not one.ending:
                        onward.append((one.state, after))
                    elif one.ending in ("jump", "goto"):
                        yield from self._enter(chain, rule, one, after, depth)
                    else:
                        yield _Result(one.state, after, _ENDINGS.get(one.ending, one.ending))
            running = onward
        for state, way in running:
            yield _Result(state, way, "next")

    def _enter(
        self, chain: RuleChain, rule: Rule, done: Done, way: _Way | None, depth: int
    ) -> Iterator[_Result]:
        """Lead a packet through the chain that a rule jumps or goes to."""
        target = self._table.chain(done.chain) if depth < _DEEPEST else None
        if target is None:
            yield self._undecided(chain, rule, done.state, way, f"chain {done.chain}")
            return
        for state, after, ending in self._walk(target, {done.state: way}, depth + 1):
            returns = ending == "end" and done.ending == "jump"
            yield _Result(state, after, "next" if returns else ending)

    def _undecided(
        self, chain: RuleChain, rule: Rule, state: State, way: _Way | None, why: str
    ) -> _Result:
        step = PacketStep(self._hook, chain.name, rule.text, Effect.UNKNOWN, why)
        return _Result(state, _Way(step, way), "unknown")


_ENDINGS = {"return": "end"}

_FATES = {"drop": Fate.DROPPED, "reject": Fate.REJECTED, "unknown": Fate.UNKNOWN}


def _is_decided(hook: str, state: State) -> bool:
    """Return whether an earlier nat chain has translated what those of the hook may."""
    if hook in ("prerouting", "output"):
        return state.is_translated
    return state.is_masqueraded


def _steps(way: _Way | None) -> list[PacketStep]:
    steps = []
    while way is not None:
        steps.append(way.step)
        way = way.before
    return steps[::-1]
