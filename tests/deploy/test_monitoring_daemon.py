"""The daemon's metrics are what the alerts read."""

from __future__ import annotations

import re

from support.processes.apidaemon import METRICS_PORT, Site
from support.processes.commands import endpoint_slice, eventually, node_object, service, wait_until

SYNCED = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
QUEUED = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds"


def samples(site: Site, name: str) -> dict[str, float]:
    """Return the samples of a metric, by their labels."""
    page = site.page(METRICS_PORT, "/metrics").body
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", page, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def waiting(site: Site) -> bool:
    """Return whether NfproxyStale sees something that waits."""
    queued, synced = samples(site, QUEUED), samples(site, SYNCED)
    assert {*queued} == {*synced} == {'ip_family="IPv4"', 'ip_family="IPv6"'}
    return any(queued[family] > synced[family] for family in queued)


def test_nothing_is_pending_once_everything_is_programmed(site: Site) -> None:
    """After a change of an element, after a change of none, and after a repair."""
    pods = "10.244.1.5", "10.244.1.6"
    same_again = endpoint_slice("web", *pods)
    same_again["metadata"]["annotations"] = {"a": "b"}
    site.api.apply(node_object(), service(), endpoint_slice("web", pods[0]))
    with site.daemon() as daemon:
        site.api.wait_for_watches(count=4)
        for changed in (
            endpoint_slice("web", *pods),
            same_again,
            node_object(annotations={"beat": "1"}),
            service(metadata={"labels": {"a": "b"}}),
        ):
            site.api.apply(changed)
        site.serves({"10.96.0.1:80/tcp": tuple(f"{pod}:8080" for pod in pods)})
        eventually(False, lambda: waiting(site))
        site.commands.nft("flush chain ip nfproxy services")
        daemon.wait_for("repaired table ip nfproxy")
        wait_until(lambda: not waiting(site))

        assert not waiting(site)
        changes = samples(site, "nfproxy_foreign_changes_total")
        assert {one: count for one, count in changes.items() if count} == {'program="nft"': 1}
        assert samples(site, "nfproxy_repair_pending_seconds") == {"": 0}


def test_without_an_api_server_nothing_is_programmed_and_requests_fail(site: Site) -> None:
    """There is no time of a success and no response; the other metrics are there."""
    site.api.write_kubeconfig(site.kubeconfig, server="https://127.0.0.1:1")
    with site.daemon(ready=False) as daemon:
        daemon.wait_for("serving metrics")
        wait_until(lambda: samples(site, "rest_client_requests_total"))
        requests = samples(site, "rest_client_requests_total")

        assert {*samples(site, QUEUED)}
        assert samples(site, SYNCED) == {}
        assert {label for text in requests for label in re.findall(r'code="(.*?)"', text)} == {
            "<error>"
        }
