"""What we wait for other processes' transactions, in a namespace with real ones."""

import logging
import threading
import time

import pytest

from nfproxy.dataplane import kernel
from nfproxy.dataplane.kernel import Kernel
from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.netlink.elements import element_requests
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft import ruleset, schema
from nfproxy.reconcile.transition import Operation
from nfproxy.tools.lab import Lab

PROGRAM = ruleset.program_text(NodeConfig(node_name="node-1").program, Family.IPV4, ())
COUNT = 200_000
LONG_S, SEEN_S = 0.05, 0.01


def elements(numbers: range, *, add: bool = True) -> list[Operation]:
    """Return changes of cluster IPs, one for each number."""
    return [
        Operation(add, Family.IPV4, schema.CLUSTER_IPS, number.to_bytes(4, "big"))
        for number in numbers
    ]


def test_waits_for_long_transactions_are_measured_and_logged(
    namespaces_allowed: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While they last, and afterwards. Where no other process commits there is none."""
    monkeypatch.setattr(kernel, "_LONG_S", LONG_S)
    stop, waits, seen = threading.Event(), [], [0.0]
    large = [element_requests(elements(range(COUNT), add=add)) for add in (True, False)]

    with Lab() as lab, caplog.at_level(logging.WARNING):
        namespace = lab.namespace("node")
        ours: Kernel = namespace.call(Kernel)
        theirs: NftSocket = namespace.call(NftSocket)
        ours.turn_wait.waited = waits.append
        namespace.call(ours.load, PROGRAM)
        ours.commit(elements(range(COUNT, COUNT + 1)))
        assert max(waits) < LONG_S

        def be_busy() -> None:
            while not stop.is_set():
                for requests in large:
                    theirs.commit(requests)

        def wait() -> None:
            until_s = time.monotonic() + 20
            while min(max(waits) / LONG_S, max(seen) / SEEN_S) < 1 and time.monotonic() < until_s:
                ours.commit(elements(range(COUNT, COUNT + 1)))

        busy, waiting = threading.Thread(target=be_busy), threading.Thread(target=wait)
        busy.start()
        waiting.start()
        while waiting.is_alive():
            seen.append(ours.turn_wait.waiting_s)
            time.sleep(0.005)
        stop.set()
        busy.join()
        assert ours.turn_wait.waiting_s == 0.0
        ours.close()
        theirs.close()

    assert max(waits) >= LONG_S
    assert max(seen) >= SEEN_S
    assert "for another process's transaction on nf_tables" in caplog.text
