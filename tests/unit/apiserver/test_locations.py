"""At which addresses and ports the API servers are."""

from nfproxy.apiserver.locations import Locations
from nfproxy.apiserver.serverpool import Server
from nfproxy.model.addresses import parse_address


def places(run, *servers: Server) -> set[tuple[bytes, int]]:
    locations = Locations()
    run(locations.find(servers))
    return {*locations.current}


def test_every_server_counts_with_its_port(run):
    """A port that the URL leaves out is the scheme's. An IPv4-mapped address is IPv4."""
    found = places(
        run,
        Server("https://192.0.2.1:6443"),
        Server("https://[2001:db8::1]"),
        Server("http://[::ffff:192.0.2.2]"),
    )
    assert found == {
        (parse_address("192.0.2.1"), 6443),
        (parse_address("2001:db8::1"), 443),
        (parse_address("192.0.2.2"), 80),
    }


def test_a_name_counts_with_its_addresses_and_a_proxy_too(run):
    found = places(run, Server("https://localhost:6443", "http://user:secret@192.0.2.9:3128"))

    assert (parse_address("127.0.0.1"), 6443) in found
    assert (parse_address("192.0.2.9"), 3128) in found


def test_a_name_that_cannot_be_resolved_keeps_its_addresses(run, monkeypatch):
    """A server that is no longer configured does not."""
    name, other = Server("https://localhost:6443"), Server("https://192.0.2.1:6443")
    locations = Locations()

    async def case() -> None:
        await locations.find((name, other))
        before = locations.current

        async def fails(*_: object, **__: object) -> None:
            raise OSError

        monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", fails)
        await locations.find((name,))
        assert locations.current == before - {(parse_address("192.0.2.1"), 6443)}

    run(case())
