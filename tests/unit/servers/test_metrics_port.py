"""The metrics port, spoken to over TCP."""

import asyncio
import gzip
import json
import re
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.client.http11 import Reply, ask
from support.processes.pageservers import serving, until

from nfproxy import __version__
from nfproxy.config.document import write_config
from nfproxy.config.flags import Flags
from nfproxy.config.load import LoadedConfig, load
from nfproxy.errors import DataplaneError
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.servers.pages import accepts_gzip
from nfproxy.servers.ports import metrics_pages

TEXT = "text/plain; charset=utf-8"
OBJECT = "application/json;v=v1beta1;g=config.k8s.io;as={}"


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
    """In the version that every Prometheus reads."""
    reply = get("/metrics")
    names = {family.name for family in text_string_to_metric_families(reply.body.decode())}

    assert reply.code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "content-encoding" not in reply.headers
    assert {"kubeproxy_sync_proxy_rules_service_changes", "process_cpu_seconds"} <= names


def test_metrics_are_compressed_for_clients_that_accept_it():
    """Prometheus does."""
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
    """With a weight above zero."""
    assert taken == accepts_gzip(header)


def test_concurrent_requests_share_one_text():
    """Metrics are written once for all of them, outside the event loop."""
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


def test_each_scrape_gets_the_current_state():
    """A text answers only the requests that came while it was written."""
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
    """A failure is not kept."""

    class Broken(Metrics):
        def text(self) -> bytes:
            raise RuntimeError("broken")

    async def use() -> list[int]:
        async with serving(metrics_pages(Broken(FAMILIES, "1", {}), loaded(), "1")) as place:
            return [(await ask(place, "/metrics")).code for _ in range(2)]

    assert run(use()) == [500, 500]


def test_slis_count_health_checks_until_a_delete():
    """The DELETE answers in words."""
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
    """The state of the sync makes no difference."""
    reply = get(path)

    assert (reply.code, reply.body.decode()) == (200, body)
    assert reply.headers["content-type"] == TEXT


def test_the_proxy_mode_is_nftables():
    """Kubernetes' end-to-end tests read it."""
    reply = get("/proxyMode")

    assert (reply.code, reply.body) == (200, b"nftables")
    assert reply.headers["content-type"] == TEXT
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_configz_is_the_effective_configuration():
    """It equals what ``--write-config-to`` writes, under the group's name."""
    reply = get("/configz")
    data = json.loads(reply.body)

    assert reply.headers["content-type"] == "application/json"
    assert {"kubeproxy.config.k8s.io": yaml.safe_load(write_config(loaded().config))} == data
    assert data["kubeproxy.config.k8s.io"]["clusterCIDR"] == "10.244.0.0/16"
    assert data["kubeproxy.config.k8s.io"]["nftables"]["syncPeriod"] == "30s"


def test_flagz_is_text_by_default():
    """A header with a warning, then the flags, sorted."""
    reply = get("/flagz")
    head, _, flags = reply.body.decode().partition("\n\n")
    names = [line.replace(":", " ").replace("=", " ").split()[0] for line in flags.splitlines()]

    assert reply.headers["content-type"] == TEXT
    assert head.startswith("\nkube-proxy flags\nWarning: ")
    assert sorted(names) == names
    assert {"cluster-cidr", "v", "hostname-override"} <= set(names)


@pytest.mark.parametrize("kind", ["Flagz", "Statusz"])
def test_the_z_pages_are_api_objects_for_clients_that_ask_for_them(kind: str):
    """With group, version and kind as parameters of JSON's media type."""
    reply = get(f"/{kind.lower()}", accept=OBJECT.format(kind))
    data = json.loads(reply.body)

    assert reply.headers["content-type"] == "application/json"
    assert [data["kind"], data["apiVersion"]] == [kind, "config.k8s.io/v1beta1"]
    assert data["metadata"] == {"name": "kube-proxy"}


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("  ", TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("text/plain", TEXT),
        ("TEXT/PLAIN; Charset=UTF-8", TEXT),
        ("text/html,*/*;q=0.8", TEXT),
        ("text/html", None),
        ("application/json", None),
        ("application/json; as=Flagz; g=config.k8s.io; v=v1beta1", "application/json"),
        (OBJECT.format("Flagz") + ";q=0.9,text/plain;q=0.5", "application/json"),
        (OBJECT.format("Statusz"), None),
        (OBJECT.format("Flagz").replace("v1beta1", "v1"), None),
        (OBJECT.format("Flagz").replace("config", "apps"), None),
        (",;,=;;q=nan", None),
        ("é/ü;ö", None),
    ],
)
def test_the_z_pages_are_text_or_one_object_or_not_acceptable(accept: str, expected: str | None):
    """kube-proxy refuses JSON without parameters, too: a form that may change needs its version."""
    reply = get("/flagz", accept=accept)

    assert reply.code == (406 if expected is None else 200)
    assert reply.headers["content-type"] == (expected or TEXT)


def test_flagz_holds_every_flag():
    """With its effective value."""
    reply = get("/flagz", accept=OBJECT.format("Flagz"))

    assert json.loads(reply.body)["flags"]["cluster-cidr"] == "10.244.0.0/16"


def test_statusz_has_versions_pages_and_the_start_time():
    """As text and as an object."""
    reply = get("/statusz", accept=OBJECT.format("Statusz"))
    data = json.loads(reply.body)

    assert data["binaryVersion"] == "1.36.2"
    assert data["emulationVersion"] == "1.36"
    assert data["goVersion"].startswith("python3.")
    assert data["startTime"].endswith("Z")
    assert data["uptimeSeconds"] >= 0
    assert {"/metrics", "/statusz", "/proxyMode"} <= set(data["paths"])
    text = get("/statusz").body.decode()
    assert text.startswith("\nkube-proxy statusz\nWarning: ")
    assert re.search(rf"^nfproxy version(:|: |=| ){__version__}$", text, re.MULTILINE)
    assert "/proxyMode" in text


@pytest.mark.parametrize(
    "path", ["/", "/metrics/", "/healthz/x", "/proxymode", "/debug/pprof/", "/debug/flags/v"]
)
def test_other_paths_are_not_found(path: str):
    """Paths match exactly, and there is no Go runtime to profile."""
    assert get(path).code == 404
    assert get(path).body.startswith(b"404 page not found; pages:\n/")


def test_metrics_of_services_have_a_page_of_their_own():
    """An error of the kernel is the answer once; without a writer there is no such page."""
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


def test_open_connections_only_on_request() -> None:
    """They take a look at all connections: the usual page does without."""
    looked: list[int] = []

    def tracked() -> bytes:
        looked.append(1)
        return b"b 2\n"

    async def use() -> list[Reply]:
        pages = metrics_pages(made(), loaded(), "1", lambda: b"a 1\n", tracked)
        async with serving(pages) as place:
            return [await ask(place, f"/metrics/services{end}") for end in ("", "?open=true")]

    usual, whole = run(use())

    assert (usual.body, whole.body, looked) == (b"a 1\n", b"a 1\nb 2\n", [1])
