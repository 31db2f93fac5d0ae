"""Processes: this one's privileges and OOM score adjustment, and the others of its network."""

import logging
from pathlib import Path

from nfproxy.host.processes import (
    command_line_of,
    name_of,
    own_privileges,
    set_oom_score_adj,
    starter_of,
)


def test_privileges_are_read_from_the_status(tmp_path):
    """Capabilities as a bit mask, and whether a seccomp filter is in place."""
    (tmp_path / "self").mkdir()
    status = tmp_path / "self/status"
    status.write_text(
        "Name:\tx\nCapPrm:\t0000000000001000\nCapEff:\t0000000000001000\nSeccomp:\t2\n"
    )
    assert own_privileges(tmp_path) == (1 << 12, True)
    assert own_privileges(tmp_path).may_administer_network

    status.write_text("CapEff:\t0000000000000800\nSeccomp:\t0\n")
    assert own_privileges(tmp_path) == (1 << 11, False)
    assert not own_privileges(tmp_path).may_administer_network


def test_a_process_that_has_ended_has_neither_name_nor_command_line(tmp_path):
    """It may end between two looks at it."""
    assert name_of(4711, tmp_path) == ""
    assert command_line_of(4711, tmp_path) == []


def test_the_oom_score_adjustment_is_written(tmp_path):
    """As the kernel reads it: a number and a newline."""
    path = tmp_path / "oom_score_adj"
    path.write_text("0\n")

    set_oom_score_adj(-999, path=path)

    assert path.read_text() == "-999\n"


def test_a_failure_is_only_logged(tmp_path, caplog):
    """Once, at level debug: a container may not lower it."""
    caplog.set_level(logging.DEBUG)
    set_oom_score_adj(-999, path=tmp_path)

    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "SYS_RESOURCE" in caplog.text


def test_it_is_tried_twice(tmp_path, monkeypatch, caplog):
    """A failure that passes is not even logged."""
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "oom_score_adj"
    write, failures = Path.write_text, [OSError("busy")]

    def busy_at_first(*arguments):
        if failures:
            raise failures.pop()
        return write(*arguments)

    monkeypatch.setattr(Path, "write_text", busy_at_first)
    set_oom_score_adj(-999, path=path)

    assert path.read_text() == "-999\n"
    assert caplog.records == []


def test_what_started_a_process(tmp_path: Path) -> None:
    """Its parent's name and number; nothing where that says nothing, or the number is another's."""
    parents = {4711: 812, 4712: 1, 4713: 9}
    for pid, parent in parents.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b) S {parent} 1 1 0")
    (tmp_path / "812").mkdir()
    (tmp_path / "812" / "comm").write_text("kube-flannel\n")

    assert starter_of(4711, "a) b", tmp_path) == "kube-flannel (pid 812)"
    assert starter_of(4711, "nft", tmp_path) == ""
    assert [starter_of(pid, "a) b", tmp_path) for pid in (4712, 4713, 4714)] == [""] * 3
