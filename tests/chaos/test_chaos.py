"""Faults of all kinds, one after another, while objects change and connections are made."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from chaos import apifaults, nodefaults
from chaos.breaks import BREAKS, Break
from chaos.stage import SETTLE_S, Act, Stage
from support.processes.apidaemon import site_in
from support.responders import Responders

from nfproxy.tools.lab import Cluster

FAULTS: tuple[Act, ...] = (*apifaults.FAULTS, *nodefaults.FAULTS)
SHORT_S, SOON_S = 3.0, 12.0  # for one fault; a broken nfproxy need not get as long as another

#: Makes a stage of files that differ, and of how long it may take to settle.
Stages = Callable[..., Stage]


@pytest.fixture
def stages(
    cluster: Cluster, responders: Responders, tmp_path: Path, chaos_seed: int
) -> Iterator[Stages]:
    """A node whose pods answer, and whose daemon does not run yet."""

    def make(files: dict[str, str] | None = None, settle_s: float = SETTLE_S) -> Stage:
        return Stage(site, cluster, responders, tmp_path, chaos_seed, files, settle_s)

    with site_in(cluster.nodes[0].namespace, tmp_path / "site") as site:
        yield make
    for pod in cluster.pods:
        responders.stop(pod)


@contextmanager
def steps_shown(stage: Stage, seconds: float, seed: int) -> Iterator[None]:
    """Print the steps made inside."""
    try:
        yield
    finally:
        print(f"to repeat: --chaos={seconds:g} --chaos-seed={seed}", *stage.steps, sep="\n  ")


@pytest.mark.timeout(0)
def test_nothing_is_wrong_after_faults(
    stages: Stages, chaos_s: float, chaos_seed: int, pytestconfig: pytest.Config
) -> None:
    """
    The kernel holds what it should, as if nothing had happened. No wrong endpoint has answered, and
    no connection has failed but while another process's change of the tables was not repaired.
    """
    names = [name for name in pytestconfig.getoption("chaos_only").split(",") if name]
    stage = stages()
    with steps_shown(stage, chaos_s, chaos_seed):
        stage.endure([act for act in FAULTS if not names or act.__name__ in names], chaos_s)


def broken(breaks: tuple[Break, ...]) -> dict[str, str]:
    """Return the files of nfproxy that these breaks change, with their text then."""
    files: dict[str, str] = {}
    for one in breaks:
        text = files.get(one.file) or one.path.read_text()
        assert text.count(one.line) == 1, f"{one.line!r} is not once in {one.file}"
        files[one.file] = text.replace(one.line, one.instead)
    return files


def test_every_fault_has_a_break() -> None:
    """And the line that it breaks is in nfproxy."""
    assert {act.__name__ for act in FAULTS} == BREAKS.keys()
    for breaks in BREAKS.values():
        for name, text in broken(breaks).items():
            compile(text, name, "exec")


@pytest.mark.doubles
@pytest.mark.timeout(0)
@pytest.mark.parametrize("act", FAULTS, ids=lambda act: act.__name__)
def test_a_broken_line_is_noticed(act: Act, stages: Stages, chaos_seed: int) -> None:
    """Each fault alone makes nfproxy fail without the line that handles it."""
    stage = stages(broken(BREAKS[act.__name__]), SOON_S)
    with steps_shown(stage, SHORT_S, chaos_seed):
        try:
            stage.endure([act], SHORT_S)
        except (AssertionError, subprocess.SubprocessError) as error:
            print(f"{act.__name__} failed as it should: {error}")
        else:
            pytest.fail(f"nfproxy passes although it is broken: {BREAKS[act.__name__]}")
