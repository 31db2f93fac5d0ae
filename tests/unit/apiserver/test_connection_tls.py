"""Certificates of both sides of a connection to the API server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.client.certificates import Authority
from support.client.connecting import PAGE, answered, connected, kubeconfig
from support.client.scriptedserver import scripted

from nfproxy.apiserver.access import ClientSettings
from nfproxy.kube.apistatus import RequestError


def test_a_client_certificate_that_is_replaced_is_shown_next(run, tmp_path, authority):
    """
    A watch that is under way keeps its connection; the next request makes a new one. Both sides
    check the other's certificate.
    """

    async def case() -> None:
        context = authority.server(clients=True)
        certificate, key = authority.issue("one")
        shown_crt, shown_key = tmp_path / "crt", tmp_path / "key"

        def show(crt: Path, key: Path) -> None:
            shown_crt.write_bytes(crt.read_bytes())
            shown_key.write_bytes(key.read_bytes())

        show(certificate, key)
        async with scripted(context) as server:
            user = {"client-certificate": str(shown_crt), "client-key": str(shown_key)}
            path = kubeconfig(
                tmp_path / "config", server.url, user, certificate_authority=str(authority.file)
            )
            async with connected(ClientSettings(kubeconfig=path)) as connection:
                watching = connection.ask(PAGE)
                opening = asyncio.ensure_future(watching.__aenter__())
                watch = await server.asked()
                await watch.send(b"a")
                response = await opening
                assert await response.content.readany() == b"a"
                assert "one" in str(peer(watch))

                show(*authority.issue("two"))
                reading = asyncio.ensure_future(connection.read(PAGE))
                exchange = await server.asked()
                assert "two" in str(peer(exchange))
                exchange.reply({})
                await reading

                await watch.send(b"b")
                assert await response.content.readany() == b"b"
                await watching.__aexit__(None, None, None)

    run(case())


def peer(exchange: Any) -> Any:
    """Return the certificate of the client."""
    return exchange.request.transport.get_extra_info("peercert")


@pytest.mark.parametrize(
    ("days", "trusted", "said"),
    [(-1, True, "has expired"), (2, False, "is not trusted")],
)
def test_a_server_s_certificate_is_always_checked(run, tmp_path, authority, days, trusted, said):
    """The error says what is wrong; only the kubeconfig can turn verification off."""

    async def case() -> None:
        other = Authority(tmp_path / "other")
        async with scripted(authority.server(days)) as server:
            ca = authority if trusted else other
            path = kubeconfig(tmp_path / "config", server.url, certificate_authority=str(ca.file))
            async with connected(ClientSettings(kubeconfig=path)) as connection:
                with pytest.raises(RequestError, match=said):
                    await connection.read(PAGE)
                kubeconfig(tmp_path / "config", server.url, insecure_skip_tls_verify=True)
                await answered(server, connection)

    run(case())


def test_the_name_to_verify_may_differ_from_the_address(run, tmp_path, authority):
    """Behind a tunnel or a load balancer, `tls-server-name` gives the name to verify."""

    async def case() -> None:
        async with scripted(authority.server()) as server:
            fields = {"certificate_authority": str(authority.file)}
            path = kubeconfig(
                tmp_path / "config", server.url, tls_server_name="other.example.org", **fields
            )
            async with connected(ClientSettings(kubeconfig=path)) as connection:
                with pytest.raises(RequestError, match="is not trusted"):
                    await connection.read(PAGE)
                kubeconfig(
                    tmp_path / "config", server.url, tls_server_name="api.example.org", **fields
                )
                await answered(server, connection)

    run(case())
