"""What follows a commit, over a kernel in memory."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
from support.kernel.fake import FakeKernel
from support.kernel.memoryproxy import transactions_of
from support.objects.model import changes, endpoint, endpoint_slice, service

from nfproxy.clock import now
from nfproxy.daemon.hooks import NodeHooks
from nfproxy.daemon.proxier import Commit
from nfproxy.dataplane.notifications import Damage, ForeignChange
from nfproxy.health import Health
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES, Family, parse_address
from nfproxy.model.changes import Changes
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort
from nfproxy.plan.desired import Touched
from nfproxy.plan.frontends import FrontendKey
from nfproxy.plan.localnodeports import ListenerChanges, LocalPort
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.backlog import ServicePart
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.syncreport import Report
from nfproxy.views.tally import Amounts, Tally

NODE = "node-1"
CONFIG = NodeConfig(node_name=NODE)


class NoFlows:
    """A stale flow cleaning that does nothing."""

    def committed(self, *_: object) -> None:
        """Do nothing."""


class Proxy:
    """The hooks with a planner and a reconciler; needs an event loop."""

    def __init__(self) -> None:
        self.health = Health(30.0)
        self.metrics = Metrics(FAMILIES, "0", {})
        self.hooks = NodeHooks(self.metrics, self.health, FAMILIES, NoFlows())  # type: ignore[arg-type]
        self.planner = Planner(CONFIG)
        self.reconciler = Reconciler(
            FakeKernel(), self.planner.desired, CONFIG, FAMILIES, lambda: 100.0
        )

    def take(self, batch: Changes, **triggers: tuple[float, ...]) -> None:
        """Plan and sync changes, and call the hooks as the daemon does."""
        self.hooks.on_received(batch)
        touched = self.planner.apply(batch)
        report = self.reconciler.sync(touched)
        times = {Family[family]: given for family, given in triggers.items()}
        self.hooks.on_committed(self.planner, Commit(report, touched, times, 0.001))

    def values(self) -> dict[str, float]:
        """Return every sample of the metrics."""
        rows = (line.rpartition(" ") for line in self.metrics.text().decode().splitlines())
        return {name: float(value) for name, _, value in rows if not name.startswith("#")}


def run(case: Callable[[Proxy], Any]) -> None:
    async def inside() -> None:
        case(Proxy())

    asyncio.run(inside())


def balanced(**more: Any) -> Service:
    """Return a load balancer's Service that takes local endpoints only."""
    web = service(external_local=True, load_balancer_ips=("203.0.113.1",), **more)
    return msgspec.structs.replace(web, health_check_node_port=30_100)


def test_health_follows_requests_and_commits() -> None:
    """Ready after the first commit; after a failure a request is pending."""

    def case(proxy: Proxy) -> None:
        assert proxy.health.readyz(now()).code == 503
        proxy.take(changes(service()))
        assert proxy.health.readyz(now()).code == 200
        assert proxy.health.healthz(now()).code == 503  # no Node was seen
        proxy.take(Changes(node=Node(NODE)))
        assert proxy.health.healthz(now()).code == 200
        proxy.take(Changes(node_gone=True))
        assert proxy.health.healthz(now()).code == 503
        proxy.hooks.on_failed(OSError("no"), 0.1)
        later = now()._replace(monotonic_s=now().monotonic_s + 61)
        assert proxy.health.livez(later).code == 503

    run(case)


def test_a_first_programming_in_portions_is_not_ready_before_its_end() -> None:
    """The page and a gauge say how far it is; changes that wait stay pending."""

    def case(proxy: Proxy) -> None:
        count = 20
        many = [service(f"s{n}", cluster_ips=(f"10.96.1.{n}",)) for n in range(count)]
        batch = changes(*many)
        proxy.hooks.on_received(batch)
        touched = proxy.planner.apply(batch)
        reports = []
        with transactions_of(60):
            while not reports or reports[-1].left:
                reports.append(proxy.reconciler.sync(touched if not reports else Touched()))
                done = count - reports[-1].left
                commit = Commit(reports[-1], reports[-1].finished, {}, 0.001)
                proxy.hooks.on_committed(proxy.planner, commit)
                values, ready = proxy.values(), proxy.health.readyz(now())
                assert values["nfproxy_services"] == count
                assert values["nfproxy_services_programmed"] == done
                pending = values["kubeproxy_sync_proxy_rules_service_changes_pending"]
                assert count - done - 1 <= pending <= count - done  # the node waits, too
                assert ready.code == (503 if done < count else 200)
                assert done == count or f"{done} of {count} Services" in ready.body.decode()
        assert len(reports) > 1
        assert [report.resynced for report in reports[-2:]] == [False, True]

    run(case)


def test_parts_that_the_kernel_refuses_are_counted_and_cost_no_traffic() -> None:
    """The node stays in use: each node would refuse them, and all of them would go."""

    def case(proxy: Proxy) -> None:
        proxy.take(Changes(node=Node(NODE)))
        proxy.take(changes(service(), service("other", cluster_ips=("10.96.1.1",))))
        left_out = frozenset({(ObjectName("default", "web"), part("10.96.0.1"))})
        proxy.hooks.on_committed(proxy.planner, commit_with(left_out))
        values = proxy.values()
        assert values["nfproxy_refused_parts"] == 1
        assert values["nfproxy_services_programmed"] == values["nfproxy_services"] - 1
        for page in (proxy.health.healthz, proxy.health.readyz, proxy.health.livez):
            answer = page(now())
            assert answer.code == 200
            assert "refuses 1 part" in json.loads(answer.body)["kernel"]

        proxy.hooks.on_committed(proxy.planner, commit_with(frozenset()))
        values = proxy.values()
        assert values["nfproxy_refused_parts"] == 0
        assert values["nfproxy_services_programmed"] == values["nfproxy_services"] == 2
        assert "kernel" not in json.loads(proxy.health.healthz(now()).body)

    def part(address: str) -> FrontendKey:
        return FrontendKey(Family.IPV4, parse_address(address), Protocol.TCP, 80)

    def commit_with(left_out: frozenset[ServicePart]) -> Commit:
        return Commit(Report(left_out=left_out), Touched(), {}, 0.001)

    run(case)


def test_a_commit_is_counted() -> None:
    """In kube-proxy's metrics and in nfproxy's, with the numbers of the desired state."""

    def case(proxy: Proxy) -> None:
        proxy.take(
            changes(balanced(), endpoint_slice("web", endpoint("10.244.2.9", node="node-2"))),
            IPV6=(1.0, 2.0),
        )
        values = proxy.values()
        at = '{ip_family="IPv4"}'
        assert values[f"kubeproxy_sync_proxy_rules_duration_seconds_count{at}"] == 1
        assert values[f"kubeproxy_sync_full_proxy_rules_duration_seconds_count{at}"] == 1
        programmed = "kubeproxy_network_programming_duration_seconds_count"
        assert [values.get(f'{programmed}{{ip_family="{f}"}}') for f in ("IPv4", "IPv6")] in (
            [None, 2],
            [0, 2],
        )
        assert values['nfproxy_resyncs_total{reason="start"}'] == 1
        assert values[f"nfproxy_frontends{at}"] == 2
        gauges = {k: v for k, v in values.items() if "no_local_endpoints" in k and "IPv4" in k}
        assert {("external" in name, value) for name, value in gauges.items()} == {
            (True, 1),
            (False, 0),
        }

    run(case)


def test_health_check_node_ports_follow_services_and_endpoints() -> None:
    """They are replaced only when one of them changes."""

    def case(proxy: Proxy) -> None:
        local = endpoint("10.244.1.5", node=NODE)
        proxy.take(changes(balanced(), endpoint_slice("web", local)))
        ((name, family),) = proxy.hooks.health_checks
        check = proxy.hooks.health_checks[name, family]
        assert (str(name), family) == ("default/web", Family.IPV4)
        assert (check.port, check.endpoints) == (30_100, 1)
        before = proxy.hooks.health_checks
        proxy.take(changes(service("other", cluster_ips=("10.96.0.2",))))
        assert proxy.hooks.health_checks is before
        proxy.take(changes(endpoint_slice("web", endpoint("10.244.2.9", node="node-2"))))
        assert proxy.hooks.health_checks[name, family].endpoints == 0
        proxy.take(Changes(services={name: None}))
        assert proxy.hooks.health_checks == {}

    run(case)


def test_service_ports_without_a_local_endpoint_are_counted_by_policy() -> None:
    """Only ports with endpoints elsewhere count. A terminating endpoint here is enough."""
    planner, tally = Planner(CONFIG), Tally()
    elsewhere = endpoint("10.244.2.9", node="node-2")
    tally.update(
        planner,
        planner.apply(
            changes(
                service("a", cluster_ips=("10.96.0.1",), internal_local=True),
                service("b", cluster_ips=("10.96.0.2",), external_local=True, node_port=30_001),
                service("c", cluster_ips=("10.96.0.3",), internal_local=True),
                endpoint_slice("a", elsewhere),
                endpoint_slice("b", elsewhere),
            )
        ).services,
    )
    total = tally.total(Family.IPV4)
    assert (total.internal, total.external) == (1, 1)

    here = endpoint("10.244.1.5", node=NODE, ready=False, terminating=True)
    tally.update(planner, planner.apply(changes(endpoint_slice("a", elsewhere, here))).services)
    assert (tally.total(Family.IPV4).internal, tally.total(Family.IPV6)) == (0, Amounts())


def test_a_port_that_drops_outside_clients_in_both_families_counts_once() -> None:
    """As `nfproxy services` has one row for it; the metrics by family count it in each."""

    def case(proxy: Proxy) -> None:
        both, one = ("10.96.0.1", "fd00:10:96::1"), ("fd00:10:96::2",)
        proxy.take(
            changes(
                service("a", cluster_ips=both, external_local=True, node_port=30_001),
                service("b", cluster_ips=one, external_local=True, node_port=30_002),
                endpoint_slice("a", endpoint("10.244.2.9", node="node-2"), name="a-4"),
                endpoint_slice("a", endpoint("fd00:10:244:2::9", node="node-2"), name="a-6"),
                endpoint_slice("b", endpoint("fd00:10:244:2::9", node="node-2")),
            )
        )
        assert proxy.hooks.states is not None
        assert proxy.hooks.states.outside == 2

    run(case)


def test_a_foreign_change_is_out_of_step_until_the_repair() -> None:
    """Where the kernel only lost notifications, nothing is known to be wrong."""

    def case(proxy: Proxy) -> None:
        def in_step() -> list[float]:
            values = proxy.values()
            return [values[f'nfproxy_in_step{{ip_family="{f.label}"}}'] for f in FAMILIES]

        assert in_step() == [0.0, 0.0]
        proxy.hooks.on_in_step()
        assert in_step() == [1.0, 1.0]
        proxy.hooks.on_foreign_change(ForeignChange(Damage.UNKNOWN, frozenset(FAMILIES), "lost"))
        assert in_step() == [1.0, 1.0]
        proxy.take(changes(service()))
        assert proxy.health.readyz(now()).code == 200
        proxy.hooks.on_foreign_change(ForeignChange(Damage.TABLE, frozenset({Family.IPV4}), "nft"))
        assert in_step() == [0.0, 1.0]
        assert proxy.health.readyz(now()).code == 503
        proxy.hooks.on_in_step()
        assert in_step() == [1.0, 1.0]
        assert proxy.health.readyz(now()).code == 200

    run(case)


def test_listeners_on_loopback_addresses_are_handed_over() -> None:
    """Only where the configuration names loopback, and only what a commit changed."""

    async def handed(config: NodeConfig) -> list[ListenerChanges]:
        given: list[ListenerChanges] = []
        hooks = NodeHooks(
            Metrics(FAMILIES, "0", {}),
            Health(30.0),
            FAMILIES,
            NoFlows(),  # type: ignore[arg-type]
            on_listeners=given.append,
        )
        planner = Planner(config)
        reconciler = Reconciler(FakeKernel(), planner.desired, config, FAMILIES, lambda: 100.0)
        port = ServicePort("", Protocol.TCP, 80, 30080)
        web = msgspec.structs.replace(service(), ports=(port,))
        for batch in (changes(web), changes(endpoint_slice("web", "10.244.1.5"))):
            touched = planner.apply(batch)
            hooks.on_committed(planner, Commit(reconciler.sync(touched), touched, {}, 0.001))
        await asyncio.sleep(0)
        return given

    served = msgspec.structs.replace(
        CONFIG, rejects_loopback=True, loopback_node_ports=frozenset({Family.IPV4})
    )
    at = LocalPort(Family.IPV4, 30080)
    first, second = asyncio.run(handed(served))
    assert first == {at: None}
    assert [*second] == [at]
    assert second[at] is not None
    assert asyncio.run(handed(CONFIG)) == []


def test_a_health_check_port_that_is_a_node_port_of_another_service_is_found() -> None:
    """Whichever of the two Services changes, and until they differ again."""

    def case(proxy: Proxy) -> None:
        shop = service("shop", cluster_ips=("10.96.0.9",))
        (port,) = shop.ports
        taken = msgspec.structs.replace(
            shop, ports=(msgspec.structs.replace(port, node_port=30_100),)
        )
        key = (balanced().name, Family.IPV4)
        proxy.take(changes(balanced()))
        assert proxy.hooks.health_checks[key].node_port_of is None
        proxy.take(changes(taken))
        assert proxy.hooks.health_checks[key].node_port_of == shop.name
        proxy.take(changes(shop))
        assert proxy.hooks.health_checks[key].node_port_of is None

    run(case)
