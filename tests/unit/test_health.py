"""When the proxy is healthy, and what the health pages answer."""

import json
from collections.abc import Callable

import pytest

from nfproxy.health import ZERO_TIME, Answer, Health, HealthState, Instant, rfc3339
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.model.node import Node

V4, V6 = FAMILIES
START_NS = 1_767_323_045_123_456_789  # 2026-01-02T03:04:05.123456789Z
START = "2026-01-02T03:04:05.123456789Z"


def at(seconds: float) -> Instant:
    """Return the moment `seconds` after the start; the monotonic clock has its own zero."""
    return Instant(1000 + seconds, START_NS + round(seconds * 1e9))


def running(*families: Family) -> Health:
    """Return the health of a proxy on an eligible Node, started at second 0."""
    health = Health(sync_period_s=30)
    health.node_seen(Node("node-1"))
    for family in families or FAMILIES:
        health.started(family, at(0))
    return health


def body(answer: Answer) -> dict[str, object]:
    decoded = json.loads(answer.body)
    assert isinstance(decoded, dict)
    return decoded


def test_the_body_is_kube_proxys_to_the_byte():
    """Compact, keys in order, nine fraction digits; with a 200 the time of update is now."""
    health = running()
    health.succeeded(V4, at(1))

    expected = (
        '{"lastUpdated":"2026-01-02T03:04:07.123456789Z",'
        '"currentTime":"2026-01-02T03:04:07.123456789Z","nodeEligible":true,"healthy":true,'
        '"status":{"IPv4":{"lastUpdated":"2026-01-02T03:04:06.123456789Z","healthy":true},'
        f'"IPv6":{{"lastUpdated":"{START}","healthy":true}}}}}}'
    )
    assert (200, expected) == (health.healthz(at(2)).code, health.healthz(at(2)).body.decode())


def test_only_healthz_has_the_node_and_only_readyz_has_programmed():
    """All other keys are the same in the three bodies."""
    health = running()
    common = {"lastUpdated", "currentTime", "healthy", "status"}

    assert common | {"nodeEligible"} == body(health.healthz(at(0))).keys()
    assert common == body(health.livez(at(0))).keys()
    assert common | {"programmed", "reason"} == body(health.readyz(at(0))).keys()


def test_before_any_family_has_started_it_is_healthy_without_a_status():
    """As kube-proxy before any family has reported; the Node is not known yet."""
    health = Health(sync_period_s=30)

    assert health.livez(at(0)).code == 200
    assert "status" not in body(health.livez(at(0)))
    assert health.healthz(at(0)).code == 503
    assert body(health.healthz(at(0)))["lastUpdated"] == ZERO_TIME


def test_healthz_says_why_it_is_503():
    """Each reason about the Node, and none in an answer of 200."""
    health = Health(sync_period_s=30)
    health.started(V4, at(0))

    def reason() -> object:
        return body(health.healthz(at(1))).get("reason")

    assert reason() == "the Node object has not been read yet"
    health.node_missing("there is no Node 'vm', but 'vm.example.org'")
    assert reason() == "there is no Node 'vm', but 'vm.example.org'"
    health.node_seen(Node("vm"))
    assert reason() is None
    health.node_seen(Node("vm", leaving=True))
    assert reason() == "the Node is about to be removed"
    health.node_gone()
    assert reason() == "the Node object was deleted"
    health.queued(V4, at(0))
    assert body(health.healthz(at(60)))["reason"] == (
        "the Node object was deleted; no sync has succeeded for 60 s; see the log"
    )


@pytest.mark.parametrize(("waited_s", "code"), [(59.9, 200), (60, 503), (3600, 503)])
def test_a_request_may_wait_for_two_sync_periods(waited_s: float, code: int):
    """Counted from the request, not from the last success."""
    health = running()
    health.succeeded(V4, at(1))
    health.queued(V4, at(100))

    assert code == health.livez(at(100 + waited_s)).code
    assert (code == 200) == health.healthy(at(100 + waited_s))


def test_the_oldest_request_counts():
    """Further requests do not put the deadline off."""
    health = running()
    for second in range(0, 70, 10):
        health.queued(V6, at(second))

    assert not health.healthy(at(60))


def test_a_success_answers_all_requests():
    """The next request has the whole time again."""
    health = running()
    health.queued(V4, at(0))
    health.succeeded(V4, at(70))
    health.queued(V4, at(80))

    assert health.healthy(at(139))


def test_without_a_request_it_stays_healthy():
    """As in an idle cluster."""
    assert running().healthy(at(1e6))


def test_one_family_late_makes_the_whole_unhealthy():
    """The body says which one; the time of update is the other family's last success."""
    health = running()
    health.queued(V6, at(0))
    health.succeeded(V4, at(30))
    answer = health.livez(at(60))

    assert answer.code == 503
    assert {
        "lastUpdated": rfc3339(at(30).unix_ns),
        "currentTime": rfc3339(at(60).unix_ns),
        "healthy": False,
        "status": {
            "IPv4": {"lastUpdated": rfc3339(at(30).unix_ns), "healthy": True},
            "IPv6": {"lastUpdated": START, "healthy": False},
        },
        "reason": "no sync has succeeded for 60 s; see the log",
    } == body(answer)


def test_a_family_that_is_not_proxied_does_not_count():
    """On a node without IPv6 only IPv4 is in the status."""
    health = running(V4)
    health.queued(V6, at(0))

    assert health.healthy(at(100))
    assert {"IPv4"} == set(body(health.livez(at(0)))["status"])  # type: ignore[call-overload]


def test_a_wall_clock_that_jumps_changes_nothing():
    """Waiting is measured by the monotonic clock."""
    health = running()
    health.queued(V4, at(0))

    assert health.healthy(Instant(at(59).monotonic_s, at(7200).unix_ns))
    assert not health.healthy(Instant(at(61).monotonic_s, at(-7200).unix_ns))


def leaving(health: Health) -> None:
    health.node_seen(Node("node-1", leaving=True))


@pytest.mark.parametrize("event", [leaving, Health.node_gone])
def test_a_node_that_goes_is_drained_but_the_proxy_is_live(event: Callable[[Health], None]):
    """
    ``/healthz`` asks load balancers to stay away (KEP-3836); a restart would not help.

    So does a deleted Node; kube-proxy goes by the last object it saw.
    """
    health = running()
    for family in FAMILIES:
        health.succeeded(family, at(1))
    event(health)

    assert health.healthz(at(5)).code == 503
    assert tuple(body(health.healthz(at(5)))[k] for k in KEYS) == (False, True)
    assert rfc3339(at(1).unix_ns) == body(health.healthz(at(5)))["lastUpdated"]
    assert health.livez(at(5)).code == 200
    assert health.readyz(at(5)).code == 200


KEYS = ("nodeEligible", "healthy")


def test_a_node_that_comes_back_is_used_again():
    """The autoscaler may take the taint off, and a Node may be registered again."""
    health = running()
    health.node_gone()
    health.node_seen(Node("node-1"))

    assert health.healthz(at(1)).code == 200


def test_it_is_ready_when_every_family_has_been_programmed():
    """Afterwards it is ready while the sync is healthy."""
    health = running()

    assert health.readyz(at(1)).code == 503
    health.succeeded(V4, at(2))
    assert health.readyz(at(2)).code == 503
    health.succeeded(V6, at(3))
    assert health.readyz(at(3)).code == 200
    health.queued(V6, at(10))
    assert (health.readyz(at(11)).code, health.readyz(at(70)).code) == (200, 503)


def test_a_foreign_change_keeps_traffic_away_until_its_repair():
    """Of one family, too, and it says why; the proxy is live, since a restart would not help."""
    health = running()
    for family in FAMILIES:
        health.succeeded(family, at(1))
    health.out_of_step([V6], "nft (pid 7) deleted table ip6 nfproxy")
    health.succeeded(V4, at(2))
    health.succeeded(V6, at(2))

    assert [p(at(2)).code for p in (health.healthz, health.readyz)] == [503, 503]
    assert health.livez(at(2)).code == 200
    assert (health.healthy(at(2)), health.serving(at(2))) == (True, False)
    said = body(health.readyz(at(2)))
    assert said["reason"] == "nft (pid 7) deleted table ip6 nfproxy"
    assert said["programmed"] is False
    assert [s["healthy"] for s in said["status"].values()] == [True, False]  # type: ignore[attr-defined]
    health.repaired()
    assert [p(at(3)).code for p in (health.healthz, health.readyz)] == [200, 200]
    assert health.serving(at(3))


def test_it_is_not_ready_before_a_family_has_started():
    """ "Every family" does not hold for no family."""
    assert Health(30).readyz(at(0)).code == 503


def test_a_first_sync_that_fails_shows():
    """kube-proxy stays healthy then, since it has no pending request."""
    health = running()
    health.queued(V4, at(0))  # at the failure
    health.queued(V4, at(30))

    assert (health.healthy(at(59)), health.healthy(at(60))) == (True, False)


@pytest.mark.parametrize(
    ("rest_ns", "text"),
    [(0, "05Z"), (1, "05.000000001Z"), (120_000_000, "05.12Z"), (999_999_999, "05.999999999Z")],
)
def test_times_have_no_trailing_zeros(rest_ns: int, text: str):
    """As Go prints RFC 3339 with nanoseconds."""
    assert f"2026-01-02T03:04:{text}" == rfc3339(1_767_323_045_000_000_000 + rest_ns)


def test_pages_say_why_the_api_server_cannot_be_followed():
    """Whatever their code, which does not change: installed rules serve."""
    health = running()
    for family in FAMILIES:
        health.succeeded(family, at(1))
    trouble = ["credentials for the API server cannot be read; the log says why"]
    health.explain_api_server(lambda: "".join(trouble))

    for page in (health.healthz, health.livez, health.readyz):
        assert page(at(2)).code == 200
        assert body(page(at(2)))["apiServer"] == trouble[0]
    trouble.clear()
    assert "apiServer" not in body(health.healthz(at(2)))


def test_waiting_for_another_process_is_not_being_stuck():
    """A restart would wait as long. Load balancers stay away: changes do not arrive."""
    health, wait_s = running(), [0.0]
    health.explain_waits(lambda: wait_s[0])
    health.queued(V4, at(0))
    assert (health.livez(at(61)).code, health.healthz(at(61)).code) == (503, 503)
    wait_s[0] = 75.4

    assert (health.livez(at(61)).code, health.healthz(at(61)).code) == (200, 503)
    for answer in (health.livez(at(61)), health.healthz(at(61))):
        said = json.loads(answer.body)["kernel"]
        assert said == "waiting for another process's transaction on nf_tables for 75 s"


def test_values_say_what_the_pages_say():
    """For those who need no JSON."""
    health = Health(sync_period_s=30)
    health.started(V4, at(0))
    health.explain_api_server(lambda: "refused")
    health.parts_refused(2)

    assert health.state(at(1)) == HealthState(
        "Services have not been programmed yet",
        "the Node object has not been read yet",
        "refused",
        "the kernel refuses 2 parts of what it should hold; see the log",
    )
    health.succeeded(V4, at(1))
    health.node_seen(Node("node-1"))
    health.explain_api_server(str)
    health.parts_refused(0)
    assert health.state(at(2)) == HealthState("", "", "", "")
    health.out_of_step([V4], "nft deleted table ip nfproxy")
    assert health.state(at(2)).not_ready == "nft deleted table ip nfproxy"
