"""
Real packets get what the evaluator says: it is an oracle that knows rules and nothing of the plan.

Random Services on a node of the lab, asked for by a pod, the node, outside clients and a pod of
another node. The evaluator reads the script that `render` prints, and the kernel's own listing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pytest
from hypothesis import Phase, given, settings
from support.packets.scenes import Scene, routed_scene
from support.packets.sending import probe_many
from support.packets.steps import SHORT_S
from support.properties.clusters import Population
from support.properties.packetcases import (
    Case,
    Row,
    Seen,
    addresses_of,
    cases,
    foreseen,
    sample,
    seen,
)
from support.properties.profiles import examples

from nfproxy.insight.evaluate import evaluate
from nfproxy.insight.packet import NodeAddresses, PacketOutcome
from nfproxy.insight.tabletext import RuleTable
from nfproxy.model.addresses import FAMILIES
from nfproxy.tools.lab.cluster import SERVICE_CIDRS

#: Packets that are evaluated in an example, and how many with the same result are sent.
ROWS, ALIKE = 400, 5
#: How often each is sent at a time, and how many times at most. That one of four endpoints is drawn
#: in none has a chance of 1 to 10^17.
DRAWS, ROUNDS = 6, 24

Results = dict[Row, set[Seen]]

#: Results of which more packets are sent: where a Service's rules end, and where no rule matches.
SILENT: frozenset[Seen] = frozenset({("refused", False), ("dropped", False)})


@pytest.fixture(scope="module")
def scene(namespaces_allowed: None) -> Iterator[Scene]:
    """A lab in which all service addresses lead to node-1, from everywhere."""
    with routed_scene() as made:
        for family in FAMILIES:
            via = made.node.address(family)
            made.cluster.nodes[2].add_route(SERVICE_CIDRS.of(family), via=via)
        yield made


@pytest.fixture(scope="module")
def node(scene: Scene) -> NodeAddresses:
    """The addresses of node-1."""
    return addresses_of(scene.node)


class Programmed:
    """A node that goes from case to case."""

    def __init__(self, scene: Scene, node: NodeAddresses) -> None:
        self.scene = scene
        self.node = node
        self.population = Population()

    def program(self, case: Case) -> None:
        """Bring the node to the objects and the configuration of a case."""
        new = case.population()
        changes = new.since(self.population)
        self.population = new
        proxy = self.scene.proxy
        report = proxy.apply(changes)
        if case.config != proxy.planner.config:
            report = proxy.reconfigure(case.config)
        assert not report.left

    def evaluated(self, text: str, asked: Iterable[Row]) -> dict[Row, tuple[PacketOutcome, ...]]:
        """Return what the evaluator says of packets, by the text of the tables."""
        tables = {family: RuleTable(text, family) for family in FAMILIES}
        return {row: evaluate(tables[row.packet.family], row.packet, self.node) for row in asked}

    def foreseen(self, evaluated: Mapping[Row, tuple[PacketOutcome, ...]]) -> Results:
        """Return the same in terms of real packets."""
        return {
            row: {foreseen(one, self.scene) for one in outcomes}
            for row, outcomes in evaluated.items()
        }

    def listing(self) -> str:
        """Return what the kernel has."""
        return self.scene.node.namespace.run(["nft", "list", "ruleset"]).stdout


def chosen(expected: Results) -> list[Row]:
    """Return few packets of each result, and most of those that reach an endpoint."""
    taken: Counter[frozenset[Seen]] = Counter()
    rows = []
    for row, results in expected.items():
        kind = frozenset(results)
        taken[kind] += 1
        if taken[kind] <= (ALIKE if kind.isdisjoint(SILENT) else ALIKE * 2):
            rows.append(row)
    return rows


def is_sticky(outcomes: tuple[PacketOutcome, ...]) -> bool:
    """Return whether session affinity decides which endpoint a packet gets."""
    return any("jump affinity-" in step.detail for one in outcomes for step in one.steps)


def asked_often(scene: Scene, rows: list[Row], expected: Results) -> Results:
    """Send packets until each has had every outcome that is expected, or another one."""
    found: Results = {row: set() for row in rows}
    for _ in range(ROUNDS):
        left = [row for row in rows if found[row] < expected[row]]
        if not left:
            break
        asked = [row for row in left for _ in range(DRAWS)]
        outcomes = probe_many((row.probe(scene) for row in asked), timeout_s=SHORT_S)
        for row, outcome in zip(asked, outcomes, strict=True):
            found[row].add(seen(outcome))
    return found


def wrong(found: Results, expected: Results, rows: list[Row], *, part: bool = False) -> list[str]:
    """Return what differs, a line each; with `part` some outcomes may be missing."""
    return [
        f"{row}: got {sorted(found[row])}, evaluated {sorted(expected[row])}"
        for row in rows
        if (not found[row] <= expected[row] if part else found[row] != expected[row])
    ]


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_packets_get_what_the_evaluator_says(
    scene: Scene, node: NodeAddresses, soak_s: float
) -> None:
    """
    The same endpoints, source kept or changed, refused, dropped.

    A client that session affinity remembers gets the one endpoint that the listing leads to.
    """
    programmed = Programmed(scene, node)

    # Without shrinking, which would send packets for minutes: a failure names the packets.
    @given(cases)
    @settings(examples(max(16, int(soak_s))), phases=[Phase.reuse, Phase.generate])
    def look(case: Case) -> None:
        programmed.program(case)
        evaluated = programmed.evaluated(scene.proxy.render(), sample(case.seed, ROWS))
        expected = programmed.foreseen(evaluated)
        rows = chosen(expected)
        sticky = [row for row in rows if is_sticky(evaluated[row])]
        free = [row for row in rows if row not in sticky]

        assert wrong(asked_often(scene, free, expected), expected, free) == []
        once = probe_many((row.probe(scene) for row in sticky), timeout_s=SHORT_S)
        first = {row: {seen(one)} for row, one in zip(sticky, once, strict=True)}
        assert wrong(first, expected, sticky, part=True) == []

        listed = programmed.foreseen(programmed.evaluated(programmed.listing(), rows))
        assert wrong(listed, expected, free) == []
        assert wrong(listed, expected, sticky, part=True) == []
        assert wrong(asked_often(scene, sticky, listed), listed, sticky) == []
        assert all(len(listed[row]) == 1 for row in sticky), "a client is not remembered"

    look()
