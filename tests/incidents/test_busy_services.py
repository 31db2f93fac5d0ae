"""``nfproxy services`` on a node: how many connections each Service port has."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess

import pytest
from incidents.conftest import WEB, Incident

NEW = 7  # the column with new connections


def test_services_count_their_connections(incident: Incident) -> None:
    incident.clients_try()
    client = incident.cluster.pod(1, 2)
    with client.namespace.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.connect((WEB, 80))
        held.recv(100)
        found = incident.commands.run(
            "services", "-f", incident.manifests, "-n", "shop", "--sort", "open", "-o", "json"
        )
    assert found.code == 1, found.err
    rows = {f"{row['namespace']}/{row['name']}": row for row in found.data["services"]}
    assert next(iter(rows)) == "shop/web"
    web, other = rows["shop/web"], rows["shop/api"]
    assert (web["newConnections"], web["open"], web["unanswered"]) == (17, 1, 0)
    assert (other["newConnections"], other["open"]) == (0, 0)
    assert found.data["seen"]["kernel"] is True


def test_watching_prints_the_busiest_again_and_again(incident: Incident) -> None:
    words = ("services", "-f", incident.manifests, "--watch", "0.5")
    process = incident.node.namespace.start(
        incident.commands.argv(*words), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        rows = (line for line in process.stdout if line.startswith("shop/web:http\t"))
        next(rows)  # each listing has one; it ends with the process
        for row in itertools.islice(rows, 40):
            if row.split("\t")[NEW] not in ("0", "-"):
                break
            incident.clients_try(times=4)
        else:
            pytest.fail("no listing counted a connection")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        incident.node.namespace.stop(process)
