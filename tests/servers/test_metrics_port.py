"""The metrics port, spoken to over TCP."""

import asyncio
import gzip
import json
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.http11 import Reply, ask
from support.pageservers import serving, until

from nfproxy.config.flags import Flags
from nfproxy.config.kubeproxy import write_config
from nfproxy.config.load import LoadedConfig, load
from nfproxy.errors import DataplaneError
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.servers.metrics import metrics_pages, takes_gzip

TEXT = "text/plain; charset=utf-8"
WANT = "application/{};v={};g=config.k8s.io;as={}"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def made() -> Metrics:
    return Metrics(FAMILIES, "v1.36.2", {})


def loaded() -> LoadedConfig:
    return load(Flags.of(cluster_cidr="10.244.0.0/16"))


async def exchanges(*requests: tuple[str, dict[str, str]]) -> list[Reply]:
    """Send several requests to one server: path, and headers besides ``method``."""
    async with serving(metrics_pages(made(), loaded(), "v1.36.2")) as place:
        return [await ask(place, path, **more) for path, more in requests]


def get(path: str, **more: str) -> Reply:
    (reply,) = run(exchanges((path, more)))
    assert isinstance(reply, Reply)
    return reply


def test_metrics_are_in_prometheus_text_format():
    """
    Of the version every Prometheus knows; they parse.
    """
    reply = get("/metrics")
    names = {family.name for family in text_string_to_metric_families(reply.body.decode())}

    assert reply.code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "content-encoding" not in reply.headers
    assert {"kubeproxy_sync_proxy_rules_service_changes", "process_cpu_seconds"} <= names


def test_metrics_are_compressed_for_who_likes_that():
    """
    As Prometheus does.
    """
    reply = get("/metrics", accept_encoding="gzip")

    assert reply.headers["content-encoding"] == "gzip"
    assert b"kubeproxy_sync_proxy_rules" in gzip.decompress(reply.body)


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("deflate, GZip;q=0.5", True),
        ("gzip;q=1.000", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("xgzip", False),
        ("gzip;q=", True),
    ],
)
def test_gzip_is_taken_when_it_is_named(header: str, taken: bool):
    """
    And not excluded by its weight.
    """
    assert taken == takes_gzip(header)


def test_many_who_ask_at_once_get_one_text():
    """
    Metrics are written once for all of them, outside of the event loop.
    """
    release, threads = threading.Event(), []

    class Slow(Metrics):
        def text(self) -> bytes:
            threads.append(threading.current_thread())
            release.wait(20)
            return super().text()

    async def use() -> list[Reply]:
        pages = metrics_pages(Slow(FAMILIES, "1", {}), loaded(), "1")
        async with serving(pages) as place:
            asking = [asyncio.create_task(ask(place, "/metrics")) for _ in range(20)]
            await until(lambda: bool(threads))
            assert (await ask(place, "/proxyMode")).code == 200  # the loop is free meanwhile
            release.set()
            return await asyncio.gather(*asking)

    replies = run(use())

    assert [reply.code for reply in replies] == [200] * 20
    assert len(threads) < 20
    assert threading.main_thread() not in threads


def test_each_scrape_tells_the_present_state():
    """
    A text serves only those who asked while it was being written.
    """
    metrics = made()

    async def use() -> list[bool]:
        async with serving(metrics_pages(metrics, loaded(), "1")) as place:
            found = []
            for count in (3, 4):
                metrics.services(count)
                body = (await ask(place, "/metrics")).body
                found.append(f"\nnfproxy_services {count}\n".encode() in body)
            return found

    assert run(use()) == [True, True]


def test_metrics_that_cannot_be_written_are_an_error_each_time():
    """
    One failure does not stick.
    """

    class Broken(Metrics):
        def text(self) -> bytes:
            raise RuntimeError("broken")

    async def use() -> list[int]:
        async with serving(metrics_pages(Broken(FAMILIES, "1", {}), loaded(), "1")) as place:
            return [(await ask(place, "/metrics")).code for _ in range(2)]

    assert run(use()) == [500, 500]


def test_slis_count_health_checks_until_they_are_deleted():
    """
    Deleting answers in words.
    """
    first, deleted, after = run(
        exchanges(
            ("/healthz", {}),
            ("/metrics/slis", {}),
            ("/metrics/slis", {"method": "DELETE"}),
            ("/metrics/slis", {}),
        )
    )[1:]
    line = b'kubernetes_healthchecks_total{name="ping",type="healthz",status="success"} 1\n'

    assert line in first.body
    assert b'kubernetes_healthcheck{name="ping",type="healthz"} 1\n' in first.body
    assert b"process_start_time_seconds" in first.body
    assert (deleted.code, deleted.body) == (200, b"metrics reset\n")
    assert b"kubernetes_healthcheck" not in after.body


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/healthz", "ok"),
        ("/healthz/ping", "ok"),
        ("/healthz?exclude=ping", "ok"),
        ("/healthz?verbose", "[+]ping ok\nhealthz check passed\n"),
        ("/healthz?verbose=1", "[+]ping ok\nhealthz check passed\n"),
        ("/healthz?verbose&exclude=ping", "[+]ping excluded: ok\nhealthz check passed\n"),
        (
            "/healthz?verbose&exclude=x",
            "[+]ping ok\nwarn: some health checks cannot be excluded: no matches for "
            '"x"\nhealthz check passed\n',
        ),
    ],
)
def test_healthz_here_says_that_the_port_answers(path: str, body: str):
    """
    Whatever the state of the sync.
    """
    reply = get(path)

    assert (reply.code, reply.body.decode()) == (200, body)
    assert reply.headers["content-type"] == TEXT


def test_the_proxy_mode_is_nftables():
    """
    Kubernetes' end-to-end tests go by this.
    """
    reply = get("/proxyMode")

    assert (reply.code, reply.body) == (200, b"nftables")
    assert reply.headers["content-type"] == TEXT
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_configz_is_the_configuration_in_force():
    """
    What ``--write-config-to`` writes, under the group's name.
    """
    reply = get("/configz")
    data = json.loads(reply.body)

    assert reply.headers["content-type"] == "application/json"
    assert {"kubeproxy.config.k8s.io": yaml.safe_load(write_config(loaded().config))} == data
    assert data["kubeproxy.config.k8s.io"]["clusterCIDR"] == "10.244.0.0/16"
    assert data["kubeproxy.config.k8s.io"]["nftables"]["syncPeriod"] == "30s"


def test_flagz_is_text_by_default():
    """
    A header with a warning, then the flags, sorted.
    """
    reply = get("/flagz")
    head, _, flags = reply.body.decode().partition("\n\n")
    names = [line.replace(":", " ").replace("=", " ").split()[0] for line in flags.splitlines()]

    assert reply.headers["content-type"] == TEXT
    assert head.startswith("\nkube-proxy flags\nWarning: ")
    assert sorted(names) == names
    assert {"cluster-cidr", "v", "hostname-override"} <= set(names)


@pytest.mark.parametrize("encoding", ["json", "yaml"])
@pytest.mark.parametrize("kind", ["Flagz", "Statusz"])
def test_objects_are_given_to_who_asks_for_them(kind: str, encoding: str):
    """
    By group, version and kind; the older version comes with a warning.
    """
    path = f"/{kind.lower()}"
    new, old = run(
        exchanges(
            (path, {"accept": WANT.format(encoding, "v1beta1", kind)}),
            (path, {"accept": WANT.format(encoding, "v1alpha1", kind)}),
        )
    )

    assert new.headers["content-type"] == f"application/{encoding}"
    data = yaml.safe_load(new.body)  # JSON is YAML
    assert [data["kind"], data["apiVersion"]] == [kind, "config.k8s.io/v1beta1"]
    assert data["metadata"] == {"name": "kube-proxy"}
    assert "warning" not in new.headers
    assert yaml.safe_load(old.body)["apiVersion"] == "config.k8s.io/v1alpha1"
    assert old.headers["warning"].startswith("299 ")


def test_flagz_holds_every_flag():
    """
    With the values in force.
    """
    reply = get("/flagz", accept=WANT.format("json", "v1beta1", "Flagz"))

    assert json.loads(reply.body)["flags"]["cluster-cidr"] == "10.244.0.0/16"


def test_statusz_tells_versions_and_pages():
    """
    And since when it runs.
    """
    reply = get("/statusz", accept=WANT.format("json", "v1beta1", "Statusz"))
    data = json.loads(reply.body)

    assert data["binaryVersion"] == "1.36.2"
    assert data["emulationVersion"] == "1.36"
    assert data["goVersion"].startswith("python3.")
    assert data["startTime"].endswith("Z")
    assert data["uptimeSeconds"] >= 0
    assert {"/metrics", "/statusz", "/proxyMode"} <= set(data["paths"])
    text = get("/statusz").body.decode()
    assert text.startswith("\nkube-proxy statusz\nWarning: ")
    assert "/proxyMode" in text


@pytest.mark.parametrize("path", ["/flagz", "/statusz"])
def test_json_without_its_parameters_is_not_acceptable(path: str):
    """
    Whoever wants a form that may change must say which.
    """
    assert get(path, accept="application/json").code == 406


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "/healthz/x", "/proxymode", "/debug/pprof/", "/debug/flags/v"]
)
def test_other_paths_are_not_found(path: str):
    """
    Paths match exactly; there is no Go runtime to be profiled.
    """
    assert (get(path).code, get(path).body) == (404, b"404 page not found\n")


def test_metrics_by_service_have_a_page_of_their_own():
    """
    Where there are any; what cannot be read is said, and the page is there again after that.
    """
    answers = iter([DataplaneError("cannot list frontends"), b"a 1\n"])

    def text() -> bytes:
        given = next(answers)
        if isinstance(given, Exception):
            raise given
        return given

    async def use() -> list[Reply]:
        pages = metrics_pages(made(), loaded(), "1", text)
        async with serving(pages) as place:
            return [await ask(place, "/metrics/services") for _ in range(2)]

    failed, good = run(use())

    assert (failed.code, failed.body) == (503, b"cannot list frontends\n")
    assert (good.code, good.body) == (200, b"a 1\n")
    assert get("/metrics/services").code == 404
