"""The memory limit, read from control groups and judged."""

from pathlib import Path

import pytest
from support.preflight import put

from nfproxy.tools.preflight.access import ApiAccess
from nfproxy.tools.preflight.findings import Level
from nfproxy.tools.preflight.memory import (
    judge_memory,
    read_memory_limit,
    read_possible_processors,
)

MI = 1 << 20


@pytest.mark.parametrize(
    ("limit", "services", "slices", "level"),
    [
        (None, 10_000, 10_000, Level.OK),
        (256 * MI, None, None, Level.OK),
        (1024 * MI, 45_000, 45_000, Level.OK),
        (256 * MI, 10_000, 10_000, Level.OK),
        (256 * MI, 10_000, 50_000, Level.FAIL),
        (256 * MI, 30_000, None, Level.WARN),
        (64 * MI, 10, 10, Level.WARN),
        (32 * MI, None, None, Level.FAIL),
    ],
)
def test_the_limit_covers_the_services(
    limit: int | None, services: int | None, slices: int | None, level: Level
) -> None:
    """The default limit of 1 Gi covers the largest cluster that was measured."""
    finding = judge_memory(limit, ApiAccess(services=services, slices=slices))

    assert level is finding.level
    assert ("resources.limits.memory" in finding.remedy) is (level is not Level.OK)


def test_the_kernels_counters_count_for_each_possible_processor(tmp_path: Path) -> None:
    """16 bytes for each frontend and processor that the machine may have."""
    access = ApiAccess(services=45_000, slices=45_000)
    few, many = (judge_memory(None, access, processors).found for processors in (2, 512))
    assert "265 MB for 45000 Services, 71 MB of it in the kernel" in few
    assert "632 MB for 45000 Services, 438 MB of it in the kernel" in many

    put(tmp_path, {"devices/system/cpu/possible": "0-127\n"})
    assert read_possible_processors(tmp_path) == 128
    put(tmp_path, {"devices/system/cpu/possible": "0\n"})
    assert read_possible_processors(tmp_path) == 1
    assert read_possible_processors(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/", {"memory.max": "1000\n"}, 1000),
        ("0::/", {"memory.max": "max\n"}, None),
        ("0::/", {}, None),
        ("0::/a/b", {"a/b/memory.max": "max\n", "a/memory.max": "500\n"}, 500),
        ("0::/a/b", {"a/b/memory.max": "400\n", "a/memory.max": "500\n"}, 400),
        ("0::/../../x", {"memory.max": "9\n"}, 9),
        ("4:memory:/p\n0::/", {"memory/p/memory.limit_in_bytes": "77\n"}, 77),
        ("4:cpu:/p", {"memory/p/memory.limit_in_bytes": "77\n"}, None),
        (
            "4:memory:/",
            {"memory/memory.limit_in_bytes": "9223372036854771712\n"},
            None,
        ),
    ],
)
def test_the_least_limit_counts(
    tmp_path: Path, group: str, files: dict[str, str], expected: int | None
) -> None:
    """The least limit of the group and those above counts, in both versions of control groups."""
    proc = put(tmp_path / "proc", {"self/cgroup": f"{group}\n"})
    sys = put(tmp_path / "sys", {f"fs/cgroup/{name}": text for name, text in files.items()})

    assert expected == read_memory_limit(proc, sys)
