"""Which changes of the configuration file end the process."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from nfproxy.daemon.background import ConfigChangedError, until_config_changes

LOOK_S = 0.01


def watch(file: Path, change: Callable[[], object], limit_s: float) -> None:
    """Change a watched file. Raises what the watch raises, or TimeoutError."""

    async def both() -> None:
        waiting = asyncio.create_task(until_config_changes(str(file), LOOK_S))
        await asyncio.sleep(2 * LOOK_S)
        change()
        await asyncio.wait_for(waiting, limit_s)

    asyncio.run(both())


def ends(file: Path, change: Callable[[], object]) -> bool:
    """Assert that a change ends the wait with an error that names the file."""
    with pytest.raises(ConfigChangedError, match=r"config\.conf has changed"):
        watch(file, change, 20.0)
    return True


def stays(file: Path, change: Callable[[], object]) -> bool:
    """Assert that a change does not end the wait."""
    with pytest.raises(TimeoutError):
        watch(file, change, 30 * LOOK_S)
    return True


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.conf"
    path.write_text("mode: nftables\n")
    return path


def test_written_to(file: Path) -> None:
    """An editor that writes in place."""
    assert ends(file, lambda: file.write_text("mode: nftables\nclusterCIDR: 10.0.0.0/8\n"))


def test_replaced_by_a_file_renamed_over_it(file: Path) -> None:
    """An editor that writes another file and renames it."""
    other = file.with_name("other")
    other.write_text("mode: ''\n")

    assert ends(file, lambda: other.rename(file))


@pytest.mark.parametrize("change", ["touch", "unlink"])
def test_touched_or_removed(file: Path, change: str) -> None:
    """A new time stamp is no new content, and a missing file has none."""
    assert stays(file, getattr(file, change))


def test_an_update_of_a_config_map(tmp_path: Path) -> None:
    """The kubelet points a link to a new directory and removes the old one."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.conf").write_text(name)
    (tmp_path / "data").symlink_to("first")
    file = tmp_path / "config.conf"
    file.symlink_to("data/config.conf")

    def update() -> None:
        (tmp_path / "new").symlink_to("second")
        (tmp_path / "new").rename(tmp_path / "data")
        (tmp_path / "first" / "config.conf").unlink()
        (tmp_path / "first").rmdir()

    assert stays(file, update)
    assert file.read_text() == "second"
