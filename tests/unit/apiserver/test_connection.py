"""Requests to a server on loopback: credentials, TLS, rate, metrics."""

from __future__ import annotations

import asyncio

import pytest
from support.client.connecting import PAGE, answered, connected, kubeconfig
from support.client.scriptedserver import FOREVER_S, scripted

from nfproxy.apiserver.access import ClientSettings
from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.errors import ConfigError
from nfproxy.kube.apistatus import RequestError
from nfproxy.metrics import Metrics
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Problem


class Measured(Metrics):
    """Records the metrics of requests."""

    def __init__(self) -> None:
        super().__init__(FAMILIES, "test")
        self.requests: list[tuple[str, str, str, int]] = []
        self.sizes: list[int] = []
        self.waits: list[float] = []
        self.retries: list[str] = []

    def request(self, verb: str, host: str, code: str, seconds: float, sent_bytes: int) -> None:
        self.requests.append((verb, host, code, sent_bytes))

    def received(self, verb: str, host: str, size_bytes: int) -> None:
        self.sizes.append(size_bytes)

    def waited(self, verb: str, host: str, seconds: float) -> None:
        self.waits.append(seconds)

    def retried(self, verb: str, host: str, code: str) -> None:
        self.retries.append(code)


def test_a_request_as_it_arrives_and_as_it_is_measured(run):
    """
    The query is escaped UTF-8, a header names program and version, sizes and codes are counted.
    """
    measured = Measured()

    async def case() -> None:
        async with scripted() as server:
            settings = ClientSettings(master=server.url)
            async with connected(settings, observer=measured) as connection:
                exchange = await answered(server, connection, b"12345")
                assert exchange.query == PAGE.query
                assert exchange.headers["User-Agent"].startswith("nfproxy/")
                assert exchange.headers["Accept"] == "application/json"
                host = f"127.0.0.1:{server.port}"
                assert measured.requests == [("GET", host, "200", 0)]
                assert measured.sizes == [5]
                assert len(measured.waits) == 1

    run(case())


def test_a_body_is_json_of_the_type_that_is_given(run):
    """A patch names its kind of patch."""

    async def case() -> None:
        async with (
            scripted() as server,
            connected(ClientSettings(master=server.url)) as connection,
        ):
            kind = "application/merge-patch+json"
            request = ApiRequest("/x", method="PATCH", body={"a": "ä"}, content_type=kind)
            reading = asyncio.ensure_future(connection.read(request))
            exchange = await server.asked()
            exchange.reply({})
            await reading
            assert exchange.headers["Content-Type"] == kind
            assert exchange.body == b'{"a": "\\u00e4"}'

    run(case())


def test_another_user_is_impersonated_with_every_request(run, tmp_path):
    """
    Each group and extra value is a header; keys are escaped, since a header's name has no `/`.
    """
    user = {
        "token": "abc",
        "as": "jörg",
        "as-uid": "7",
        "as-groups": ["one", "two"],
        "as-user-extra": {"example.org/ä%": ["x", "z"], "scopes": []},
    }

    async def case() -> None:
        async with scripted() as server:
            path = kubeconfig(tmp_path / "config", server.url, user)
            async with connected(ClientSettings(kubeconfig=path)) as connection:
                for _ in range(2):
                    headers = (await answered(server, connection)).headers
                    found = [(k, v) for k, v in headers.items() if k.startswith("Impersonate-")]
                    assert found == [
                        ("Impersonate-User", "jörg"),
                        ("Impersonate-Uid", "7"),
                        ("Impersonate-Group", "one"),
                        ("Impersonate-Group", "two"),
                        ("Impersonate-Extra-example.org%2F%C3%A4%25", "x"),
                        ("Impersonate-Extra-example.org%2F%C3%A4%25", "z"),
                    ]
                    assert headers["Authorization"] == "Bearer abc"

    run(case())


def test_a_port_that_speaks_tls_says_so_when_asked_without(run):
    """The answer is 400, and only its body says why."""

    async def case() -> None:
        async with (
            scripted() as server,
            connected(ClientSettings(master=server.url)) as connection,
        ):
            for body, said in (
                (b"Client sent an HTTP request to an HTTPS server.\n", "400 .*use https"),
                (b"no", "400 Bad Request$"),
            ):
                reading = asyncio.ensure_future(connection.read(PAGE))
                (await server.asked()).reply(body, 400)
                with pytest.raises(RequestError, match=said):
                    await reading

    run(case())


def test_a_token_that_is_not_accepted_is_read_again_at_once(run, tmp_path):
    """The second attempt has the token that the file holds by now."""
    measured = Measured()

    async def case() -> None:
        async with scripted() as server:
            token = tmp_path / "token"
            token.write_text("first")
            path = kubeconfig(tmp_path / "config", server.url, {"tokenFile": str(token)})
            settings = ClientSettings(kubeconfig=path)
            async with connected(settings, observer=measured) as connection:
                reading = asyncio.ensure_future(connection.read(PAGE))
                first = await server.asked()
                token.write_text("second")
                first.refuse(401, "Unauthorized")
                second = await server.asked()
                second.reply({})
                await reading
                tokens = [e.headers["Authorization"] for e in (first, second)]
                assert tokens == ["Bearer first", "Bearer second"]
                assert measured.retries == ["401"]

    run(case())


def test_credentials_that_are_never_accepted_raise_an_error_with_their_file(run, tmp_path):
    """The client tries once more, then the caller gets the error."""

    async def case() -> None:
        async with scripted() as server:
            path = kubeconfig(tmp_path / "config", server.url, {"token": "abc"})
            async with connected(ClientSettings(kubeconfig=path)) as connection:
                reading = asyncio.ensure_future(connection.read(PAGE))
                for _ in range(2):
                    (await server.asked()).refuse(401, "Unauthorized", "Unauthorized")
                with pytest.raises(RequestError, match=f"credentials from {path}") as caught:
                    await reading
                assert caught.value.status.code == 401

    run(case())


def test_a_plugin_is_run_again_when_its_token_is_not_accepted(run, tmp_path):
    """A token without an expiry gives no other sign of being too old."""

    async def case() -> None:
        count = tmp_path / "count"
        script = tmp_path / "plugin"
        script.write_text(
            f"#!/bin/sh\necho x >> {count}\nn=$(wc -l < {count})\n"
            'echo "{\\"apiVersion\\":\\"v1\\",\\"kind\\":\\"ExecCredential\\",'
            '\\"status\\":{\\"token\\":\\"t$n\\"}}"\n'
        )
        script.chmod(0o755)
        user = {"exec": {"command": str(script), "apiVersion": "v1"}}
        async with scripted() as server:
            path = kubeconfig(tmp_path / "config", server.url, user)
            async with connected(ClientSettings(kubeconfig=path)) as connection:
                assert (await answered(server, connection)).headers["Authorization"] == "Bearer t1"
                reading = asyncio.ensure_future(connection.read(PAGE))
                (await server.asked()).refuse(401)
                second = await server.asked()
                assert second.headers["Authorization"] == "Bearer t2"
                second.reply({})
                await reading

    run(case())


def test_a_plugin_that_fails_at_start_is_run_with_the_first_request(run, tmp_path):
    """The network may not be up yet; a wrong kubeconfig, however, is an error at start."""

    async def case() -> None:
        user = {"exec": {"command": str(tmp_path / "later"), "apiVersion": "v1"}}
        path = kubeconfig(tmp_path / "config", "http://127.0.0.1:1", user)
        async with connected(ClientSettings(kubeconfig=path)) as connection:
            with pytest.raises(RequestError, match="credential plugin"):
                await connection.read(PAGE)
        with pytest.raises(ConfigError):
            await Connection(ClientSettings(kubeconfig="/nowhere"), print).open()

    run(case())


def test_a_kubeconfig_that_is_rewritten_is_followed(run, tmp_path):
    """An API server may move; while the file cannot be read, the previous one stays in use."""
    problems: list[Problem] = []

    async def case() -> None:
        async with scripted() as old, scripted() as new:
            path = kubeconfig(tmp_path / "config", old.url)
            async with connected(ClientSettings(kubeconfig=path), problems) as connection:
                await answered(old, connection)
                (tmp_path / "config").write_text("{")
                for _ in range(2):
                    await answered(old, connection)
                assert len(problems) == 1
                assert "not valid YAML" in str(problems[0])
                assert "the previous credentials stay in use" in str(problems[0])
                kubeconfig(tmp_path / "config", new.url)
                await answered(new, connection)

    run(case())


def test_an_answer_that_stops_in_the_middle_is_a_failure(run):
    """So is an answer that never begins; both errors name the host."""

    async def case() -> None:
        async with (
            scripted() as server,
            connected(ClientSettings(master=server.url)) as connection,
        ):
            reading = asyncio.ensure_future(connection.read(PAGE))
            exchange = await server.asked()
            await exchange.send(b"abc")
            exchange.abort()
            with pytest.raises(RequestError, match=f"127.0.0.1:{server.port}"):
                await reading
            with pytest.raises(RequestError, match="does not answer") as caught:
                await connection.read(ApiRequest("/slow", head_s=0.05))
            assert caught.value.is_silent

    run(case())


@pytest.mark.parametrize(("qps", "burst", "held"), [(0.001, 2, True), (-1, 2, False)])
def test_requests_beyond_the_burst_wait(run, qps, burst, held):
    """A negative qps means no bound; further pages of a list do not count."""

    async def case() -> None:
        async with scripted() as server:
            settings = ClientSettings(master=server.url, qps=qps, burst=burst)
            async with connected(settings) as connection:
                for _ in range(burst):
                    await answered(server, connection)
                third = asyncio.ensure_future(connection.read(PAGE))
                free = asyncio.ensure_future(connection.read(ApiRequest("/page", counted=False)))
                (await server.asked("/page")).reply({})
                await asyncio.wait_for(free, FOREVER_S)
                if held:
                    assert not third.done()
                else:
                    (await server.asked()).reply({})
                    await asyncio.wait_for(third, FOREVER_S)
                third.cancel()
                await asyncio.gather(third, return_exceptions=True)

    run(case())


def test_a_proxy_of_the_kubeconfig_is_asked(run, tmp_path):
    """The proxy gets the request with the address of the API server."""

    async def case() -> None:
        async with scripted() as proxy:
            path = kubeconfig(tmp_path / "config", "http://api.invalid:6443", proxy_url=proxy.url)
            async with connected(ClientSettings(kubeconfig=path)) as connection:
                exchange = await answered(proxy, connection)
                assert exchange.headers["Host"] == "api.invalid:6443"

    run(case())
