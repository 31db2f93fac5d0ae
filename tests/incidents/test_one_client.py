"""What ``nfproxy explain --from`` says of one client is what its packets get."""

from __future__ import annotations

import signal
from typing import Any

from incidents.conftest import WEB, Answer, Incident
from support.packets.sending import Outcome, Probe, probe, probe_many
from support.processes.commands import wait_until

POD = "10.244.1.12"


def target(answer: Answer) -> dict[str, Any]:
    """Return what the client gets at what was asked about."""
    found: dict[str, Any] = answer.data["client"]["target"]
    return found


def endpoint(outcome: Outcome, incident: Incident) -> str:
    """Return the address of the pod that answered."""
    return incident.cluster.host(outcome.by).ipv4


def test_a_client_in_no_source_range_is_dropped(incident: Incident) -> None:
    """Another address of the same machine is in one, and its packets are not dropped by a rule."""
    client = incident.cluster.client
    kept_out, allowed = (pair.ipv4 for pair in client.addresses[:2])
    assert probe(client, "203.0.113.80", 80, source_address=kept_out).dropped

    answer = incident.explain("203.0.113.80:80", "--from", kept_out)
    other = incident.explain("203.0.113.80:80", "--from", allowed)

    assert "shop/api:http, on node-1: DROPPED" in answer.first_line
    assert (answer.codes[0], answer.exit_status) == ("fail SourceRange", 1)
    assert "node port 30081, cluster IP 10.96.0.80" in answer.messages
    assert target(other)["answer"] == "endpoints"
    assert "fail SourceRange" not in other.codes


def test_a_client_that_reaches_endpoints(incident: Incident) -> None:
    """All that it gets, and whose address they see, from a pod and from outside."""
    outside = incident.cluster.client
    for source, address, port in (
        (incident.cluster.pod(1, 2), WEB, 80),
        (outside, "192.168.77.11", 30080),
    ):
        outcomes = probe_many([Probe(source, address, port)] * 40)
        answer = incident.explain(f"{address}:{port}", "--from", source.ipv4)

        assert set(target(answer)["endpoints"]) == {
            f"{endpoint(one, incident)}:8080" for one in outcomes
        }
        assert {target(answer)["sourceChanged"]} == {one.masqueraded for one in outcomes}


def test_a_remembered_client_has_one_endpoint(incident: Incident) -> None:
    """Session affinity: the kernel is asked which one."""
    incident.change("web", sessionAffinity="ClientIP")
    wait_until(lambda: "affinity-" in incident.on_node("nft list map ip nfproxy frontends"))
    before = incident.explain("shop/web", "--from", POD)
    first = probe(incident.cluster.pod(1, 2), WEB, 80)

    after = incident.explain("shop/web", "--from", POD)

    assert len(target(before)["endpoints"]) == 2
    assert target(after)["endpoints"] == [f"{endpoint(first, incident)}:8080"]
    assert "this client has one" in after.text


def test_what_another_process_deleted_shows(stopped: Incident) -> None:
    """The rules are followed with the elements that the kernel has."""
    with stopped.nfproxy() as daemon:
        daemon.end(signal.SIGKILL)
    stopped.on_node("nft delete element ip nfproxy frontends { 10.96.0.10 . tcp . 80 }")
    assert probe(stopped.cluster.pod(1, 2), WEB, 80).refused

    answer = stopped.explain("shop/web", "--from", POD)

    assert target(answer)["answer"] == "refused"
    assert "the Service has no such port" in answer.text
    assert answer.exit_status == 1
