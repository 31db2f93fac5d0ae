"""In which order Services are programmed, and what a portion holds."""

from collections import Counter
from collections.abc import Iterable

import pytest
from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import MemoryProxy, transactions_of
from support.objects.model import endpoint_slice, service

import nfproxy.reconcile.backlog
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.endpoints import EndpointSlice
from nfproxy.model.service import ObjectName, Protocol, Service
from nfproxy.plan.desired import NODE, Touched
from nfproxy.plan.frontends import FrontendKey, SharedElement
from nfproxy.reconcile.backlog import Backlog
from nfproxy.reconcile.costs import TRANSACTION_S, Costs

V4 = Family.IPV4


def name(text: str) -> ObjectName:
    """Return the name in ``shop/web``."""
    return ObjectName(*text.split("/"))


def touch(*services: str, ports: Iterable[int] = (80,)) -> Touched:
    """Return frontends of some Services."""
    return Touched(
        {
            FrontendKey(V4, text.encode(), Protocol.TCP, port): name(text)
            for text in services
            for port in ports
        },
        services={name(text) for text in services},
    )


def turns(backlog: Backlog) -> list[str]:
    """Return the Services that have a turn, until none waits."""
    found = []
    while (turn := backlog.next_turn()) is not None:
        found.append(str(turn.service))
    return [text.removeprefix("Service ") for text in found]


def test_namespaces_take_turns():
    """However many Services one of them has; a namespace that had nothing waiting is next."""
    backlog = Backlog(FAMILIES)
    backlog.add(touch("a/1", "a/2", "a/3"))
    backlog.add(touch("b/1"))

    assert [str(backlog.next_turn().service) for _ in range(2)] == [
        str(name("b/1")),
        str(name("a/1")),
    ]
    backlog.add(touch("c/1", "b/2"))
    assert turns(backlog) == ["b/2", "c/1", "a/2", "a/3"]
    assert len(backlog) == 0


def test_the_cluster_itself_comes_first():
    """The API server's Service, those of kube-system, and what belongs to the node."""
    backlog = Backlog(FAMILIES)
    backlog.add(touch("a/1", "default/kubernetes", "kube-system/kube-dns", "default/kubernetes-2"))
    backlog.add(Touched(shared_elements={SharedElement(V4, "cluster-ips", b"abcd"): NODE}))

    first = {name("default/kubernetes"), name("kube-system/kube-dns"), NODE}
    assert {backlog.next_turn().service for _ in first} == first
    assert set(turns(backlog)) == {"a/1", "default/kubernetes-2"}


def test_a_service_is_finished_once_when_nothing_of_it_waits():
    """What is put back waits behind the others of its namespace."""
    backlog = Backlog(FAMILIES)
    backlog.add(touch("a/1", ports=(80, 81)))
    backlog.add(Touched(services={name("a/none")}))
    backlog.add(touch("a/2"))
    assert backlog.take_finished() == {name("a/none")}
    turn = backlog.next_turn()
    turn.take()
    backlog.put_back(turn)

    assert backlog.take_finished() == set()
    assert turns(backlog) == ["a/2", "a/1"]
    assert backlog.take_finished() == {name("a/1"), name("a/2")}
    assert backlog.take_finished() == set()


def test_what_waits_already_waits_once():
    """Also when it is touched again, or by another Service. Other families never wait."""
    backlog = Backlog([V4])
    backlog.add(touch("a/1"))
    backlog.add(touch("a/1"))
    key = FrontendKey(Family.IPV6, b"", Protocol.TCP, 80)
    backlog.add(Touched({key: name("a/6")}))

    assert [len([*turn]) for turn in iter(backlog.next_turn, None)] == [1]


def test_what_came_back_waits_once():
    """It is last among those of its kind, also where it was touched again meanwhile."""
    backlog = Backlog(FAMILIES)
    touched = touch("a/1", ports=(80, 81, 82))
    backlog.add(touched)
    turn = backlog.next_turn()
    first, second = turn.take(), turn.take()
    turn.give_back(first)
    turn.give_back(second)
    backlog.add(Touched({first: name("a/1")}))
    backlog.put_back(turn)
    backlog.add(touched)

    (turn,) = iter(backlog.next_turn, None)
    taken = [turn.take() for _ in range(3)]
    assert not turn
    assert taken[-1] == second
    assert {part.port for part in taken} == {80, 81, 82}


class Counted(FrontendKey):
    """A frontend that counts how often a set or dictionary asks for it."""

    count = 0

    def __hash__(self) -> int:
        """Count a look-up."""
        Counted.count += 1
        return super().__hash__()


def test_turns_of_a_large_service_cost_what_they_take(monkeypatch: pytest.MonkeyPatch):
    """However much waits: each part is looked up and ordered a few times in all."""
    order, ordered = nfproxy.reconcile.backlog._order, Counter()
    monkeypatch.setattr(
        nfproxy.reconcile.backlog, "_order", lambda part: ordered.update("1") or order(part)
    )
    backlog, size, at_once = Backlog(FAMILIES), 20_000, 100
    keys = {Counted(V4, b"abcd", Protocol.TCP, port): name("a/1") for port in range(1, size + 1)}
    backlog.add(Touched(keys))
    Counted.count, turns_had = 0, 0
    while (turn := backlog.next_turn()) is not None:
        taken = [turn.take() for _ in range(at_once) if turn]
        if turn:
            turn.give_back(taken[0])
            backlog.put_back(turn)
        turns_had += 1

    assert turns_had > size // at_once
    assert Counted.count < 3 * size
    assert ordered["1"] < 3 * size


def test_costs_follow_what_transactions_take():
    """Up and down, not at once; a small transaction says nothing."""
    costs = Costs()
    first = costs.operation_s
    costs.learn(10, 10.0)
    assert costs.operation_s == first
    costs.learn(1000, 4 * 1000 * first)
    assert first < costs.operation_s < 4 * first
    for _ in range(30):
        costs.learn(1000, 0.0)
    assert costs.operation_s < first / 4


def many(namespace: str, count: int, endpoints: int, first: int) -> list[Service | EndpointSlice]:
    """Return Services with endpoints, and their slices."""
    found: list[Service | EndpointSlice] = []
    for number in range(first, first + count):
        made = service(f"s{number}", cluster_ips=(f"10.96.1.{number}",), namespace=namespace)
        found += [
            made,
            endpoint_slice(f"s{number}", *addresses(number, endpoints), namespace=namespace),
        ]
    return found


def addresses(number: int, count: int) -> list[str]:
    return [f"10.244.{number}.{n}" for n in range(1, count + 1)]


def test_a_small_change_does_not_wait_for_a_large_one():
    """A tenant's mass change takes many transactions; another's change goes with the next one."""
    proxy = MemoryProxy(FlakyKernel())
    with transactions_of(240):
        report = proxy.put(*many("large", 60, 20, 0))
        assert report.left > 5
        report = proxy.put(*many("small", 1, 2, 100))
        assert proxy.verdict("10.96.1.100") == "goto cluster-tcp-2"
        assert name("small/s100") in report.finished.services
        assert report.left > 5
        while report.left:
            before = proxy.kernel.operations
            report = proxy.resync()
            assert proxy.kernel.operations - before <= 280
    assert proxy.verdict("10.96.1.19") == "goto cluster-tcp-20"


def test_the_first_transaction_serves_the_cluster_itself():
    """A start in portions has its DNS and API server before any tenant's Service."""
    proxy = MemoryProxy(FlakyKernel())
    tenants = many("tenant", 60, 20, 0)
    dns = many("kube-system", 1, 2, 200)
    with transactions_of(240):
        report = proxy.put(*tenants, *dns)
        assert report.left
        assert proxy.verdict("10.96.1.200") == "goto cluster-tcp-2"
        while report.left:
            report = proxy.resync()
    assert report.resynced


def test_a_large_frontend_is_changed_in_portions():
    """Old endpoints serve until it is their slot's turn; the count changes at the end."""
    proxy = MemoryProxy(FlakyKernel())
    proxy.put(*many("a", 1, 30, 0))
    seen = []
    with transactions_of(10):
        report = proxy.put(endpoint_slice("s0", *addresses(7, 40), namespace="a"))
        while report.left:
            seen.append((proxy.verdict("10.96.1.0"), len(proxy.slots("10.96.1.0"))))
            report = proxy.resync()
        assert {verdict for verdict, _ in seen} == {"goto cluster-tcp-30"}
        assert proxy.verdict("10.96.1.0") == "goto cluster-tcp-40"
        proxy.remove(*many("a", 1, 40, 0))
        assert proxy.verdict("10.96.1.0") == ""
        removed = [proxy.linger(), *(proxy.reconciler.tidy() for _ in range(20))]
        assert max(removed) <= 11
    assert not proxy.slots("10.96.1.0")
    assert parse_address("10.96.1.0") not in dict(proxy.kernel.elements(V4, "cluster-ips"))


def test_a_start_that_ends_halfway_goes_on_where_it_was():
    """A successor writes only what is missing."""
    proxy = MemoryProxy(FlakyKernel())
    objects = many("a", 60, 20, 0)
    with transactions_of(240):
        for _ in range(4):
            proxy.put(*objects)
    done = proxy.kernel.operations
    other = proxy.successor()
    report = other.resync()
    assert report.left == 0
    assert report.operations + done <= 60 * 22 + 40


def test_costs_fall_again_after_a_busy_moment():
    """The transactions that the highest cost allows are large enough to learn from."""
    costs = Costs()
    for _ in range(20):
        costs.learn(1000, 10.0)
    highest_s = costs.operation_s
    for _ in range(40):
        operations = int(TRANSACTION_S / costs.operation_s) // 2
        costs.learn(operations, operations * 5e-6)

    assert highest_s == pytest.approx(2e-5)
    assert costs.operation_s < 1e-5
