"""Faults of all kinds, one after another, while objects change and connections are made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import apifaults, nodefaults
from chaos.stage import Act, Stage
from support.processes.apidaemon import site_in
from support.responders import Responders

from nfproxy.tools.lab import Cluster

FAULTS: tuple[Act, ...] = (*apifaults.FAULTS, *nodefaults.FAULTS)
IN_STEP = "equal: "
GROWTH = 8 << 20  # bytes that memory may vary by
MOST = 300 << 20  # bytes, while a list is as long as it may be
TRACE = "Traceback"
BETWEEN_S = 0.3  # so long on average nothing goes wrong


@pytest.fixture
def stage(
    cluster: Cluster, responders: Responders, tmp_path: Path, chaos_seed: int
) -> Iterator[Stage]:
    """A node whose pods answer, and whose daemon does not run yet."""
    with site_in(cluster.nodes[0].namespace, tmp_path / "site") as site:
        yield Stage(site, cluster, responders, tmp_path, chaos_seed)
    for pod in cluster.pods:
        responders.stop(pod)


@pytest.mark.timeout(0)
def test_nothing_is_wrong_after_faults(
    stage: Stage, chaos_s: float, chaos_seed: int, pytestconfig: pytest.Config
) -> None:
    """
    The kernel holds what it should, as if nothing had happened. No wrong endpoint has answered, and
    no connection has failed but while another process's change of the tables was not repaired.
    """
    began = time.monotonic()
    names = [name for name in pytestconfig.getoption("chaos_only").split(",") if name]
    faults = [act for act in FAULTS if not names or act.__name__ in names]
    note = f"to repeat: --chaos={chaos_s:g} --chaos-seed={chaos_seed}"
    try:
        with stage.running(), stage.traffic(chaos_s) as streams:
            order: list[Act] = []
            while time.monotonic() < began + chaos_s:
                order = order or stage.random.sample(faults, len(faults))
                act = order.pop()
                stage.steps.append(f"{time.monotonic() - began:6.2f} s {act.__name__}")
                act(stage)
                stage.live(stage.random.expovariate(1 / BETWEEN_S))
            assert stage.settled().startswith(IN_STEP)
            before = stage.memory()
            stage.live(chaos_s / 5)
            assert stage.memory() - before < GROWTH
            assert stage.memory("VmHWM") < MOST
            assert stage.settled().startswith(IN_STEP)
            for stream in streams:
                stream.wait_for(20)
        assert [stage.unexcused(stream) for stream in streams] == [[], []]
        answers = [set(stream.answers) for stream in streams]
        assert answers == list(stage.wanted.values())
        assert stage.ended == []
        assert [line for log in stage.logs for line in log.splitlines() if TRACE in line] == []
    finally:
        print(note, *stage.steps, sep="\n  ")
