"""nfproxy does not run, or the kernel does not hold what it should."""

from __future__ import annotations

import signal

from incidents.conftest import Incident
from support.processes.commands import ORDINARY_USER


def test_nfproxy_does_not_run_and_the_kernel_keeps_its_rules(stopped: Incident) -> None:
    with stopped.nfproxy() as daemon:
        daemon.end(signal.SIGKILL)
    assert all(one.answered for one in stopped.clients_try())
    answer = stopped.explain("shop/web")
    assert "warn NobodyRuns" in answer.codes
    assert answer.exit_status == 0


def test_nfproxy_never_ran(stopped: Incident) -> None:
    assert not any(one.answered for one in stopped.clients_try())
    answer = stopped.explain("shop/web")
    assert "fail NobodyRuns" in answer.codes
    assert answer.exit_status == 1


def test_a_hand_removed_an_endpoint(stopped: Incident) -> None:
    with stopped.nfproxy() as daemon:
        daemon.end(signal.SIGKILL)
    stopped.on_node("nft delete element ip nfproxy endpoints-tcp { 10.96.0.10 . 80 . 1 }")
    assert not all(one.answered for one in stopped.clients_try())
    answer = stopped.explain("shop/web")
    assert answer.codes[:2] == ["fail KernelDiffers", "warn NobodyRuns"]
    assert "10.96.0.10:80/tcp" in answer.messages


def test_a_hand_removed_a_frontend(stopped: Incident) -> None:
    with stopped.nfproxy() as daemon:
        daemon.end(signal.SIGKILL)
    stopped.on_node("nft delete element ip nfproxy frontends { 10.96.0.10 . tcp . 80 }")
    assert not any(one.answered for one in stopped.clients_try())
    answer = stopped.explain("shop/web")
    assert answer.codes[:2] == ["fail NotProgrammed", "warn NobodyRuns"]


def test_without_permission_the_depth_is_less(incident: Incident) -> None:
    words = ("explain", "shop/web", "-f", incident.manifests, "-o", "json")
    found = incident.commands.run(*words, prefix=ORDINARY_USER)
    assert found.code == 0, found.err
    assert found.data["seen"]["kernel"] is False
    assert "NET_ADMIN" in "".join(found.data["seen"]["missing"])
