"""The process's OOM score adjustment."""

import logging
from pathlib import Path

from nfproxy.host.oom import set_oom_score_adj


def test_the_value_is_written(tmp_path):
    """
    As the kernel reads it: a number and a newline.
    """
    path = tmp_path / "oom_score_adj"
    path.write_text("0\n")

    set_oom_score_adj(-999, path=path)

    assert path.read_text() == "-999\n"


def test_a_failure_is_only_logged(tmp_path, caplog):
    """
    Once, for those who look closely: a container may not lower it.
    """
    caplog.set_level(logging.DEBUG)
    set_oom_score_adj(-999, path=tmp_path)

    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "SYS_RESOURCE" in caplog.text


def test_it_is_tried_twice(tmp_path, monkeypatch, caplog):
    """
    A failure that passes is not even logged.
    """
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
