"""
The daemon's benchmark works. How long anything takes is not asserted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from bench.daemon import LARGE, Measured, Storm, targets

ROOT = Path(__file__).parents[2]


def test_every_number_is_there() -> None:
    """
    A start, changes one by one and many at a time, with a daemon that uses memory.
    """
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-m", "bench.daemon", "--quick", "-o", "json"],
        env={**os.environ, "PYTHONPATH": path},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = msgspec.json.decode(done.stdout, type=list[Measured])
    (storm,) = result.storms
    assert result.started > 0
    assert result.resident > 10e6
    assert len(result.latency) == 5
    assert min(result.latency) > 0
    assert storm.commits_per_s > 0


def test_targets_are_judged() -> None:
    """
    What is slow, large, busy or behind is not met.
    """
    calm = Storm(50, 500, 500, 20, 0.2, 0.01)
    good = Measured(str(LARGE), 3.9, 139_000_000, 0, 0.004, [0.0019] * 100, [calm])
    bad = Measured(str(LARGE), 4.1, 141_000_000, 0, 0.006, [0.0201] * 100, [])

    assert [target.met for target in targets([good])] == [True] * 6
    assert [target.met for target in targets([bad])] == [False] * 6
