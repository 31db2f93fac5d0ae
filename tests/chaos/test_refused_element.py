"""An element that the kernel refuses costs itself, and is reported."""

from __future__ import annotations

from pathlib import Path

from chaos.stage import inject
from support.processes.apidaemon import HEALTH_PORT, Site
from support.processes.commands import endpoint_slice, eventually, node_object, service

from nfproxy.model.addresses import parse_address
from nfproxy.model.service import Protocol
from nfproxy.nft import schema

FRONTENDS = {f"10.96.0.{number}:80/tcp": ("10.244.1.5:8080",) for number in range(1, 10)}
BAD = "10.96.0.4:80/tcp"


def test_the_rest_is_programmed_and_the_service_gets_an_event(site: Site, tmp_path: Path) -> None:
    """It is programmed when it changes, and the kernel takes it."""
    key = parse_address("10.96.0.4") + schema.protocol_bytes(Protocol.TCP) + schema.port_bytes(80)
    faults = inject(site, tmp_path)
    (faults / "refused").write_text(key.hex())
    site.api.apply(node_object())
    for number in range(1, 10):
        site.api.apply(
            service(f"web-{number}", f"10.96.0.{number}"),
            endpoint_slice(f"web-{number}", "10.244.1.5"),
        )
    with site.daemon() as daemon:
        eventually(
            {name: FRONTENDS[name] for name in FRONTENDS if name != BAD}, site.commands.frontends
        )
        event = site.wait_for_event("NotProgrammed")
        assert site.metric("nfproxy_refused_parts") > 0
        assert site.metric("nfproxy_services_programmed") == site.metric("nfproxy_services") - 1
        page = site.page(HEALTH_PORT, "/healthz")
        assert (page.code, "refuses" in page.data["kernel"]) == (200, True)
        site.api.apply(service("late", "10.96.0.10"), endpoint_slice("late", "10.244.1.6"))
        late = {"10.96.0.10:80/tcp": ("10.244.1.6:8080",)}
        eventually(
            {name: FRONTENDS[name] for name in FRONTENDS if name != BAD} | late,
            site.commands.frontends,
        )
        (faults / "refused").unlink()
        site.api.apply(endpoint_slice("web-4", "10.244.1.7", "10.244.1.8"))
        eventually(
            FRONTENDS | late | {BAD: ("10.244.1.7:8080", "10.244.1.8:8080")},
            site.commands.frontends,
        )
        eventually(0, lambda: site.metric("nfproxy_refused_parts"))
        assert daemon.log.count("the kernel refuses") == 1

    assert event["regarding"]["name"] == "web-4"
    assert BAD in event["note"]
