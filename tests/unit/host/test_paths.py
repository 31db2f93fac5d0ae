"""Paths with links, and files of a host below a directory that stands for its root."""

import os
from pathlib import Path

import pytest

from nfproxy.errors import InputError
from nfproxy.host.paths import HostRoot


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with an /etc, beside a file that a link must not reach."""
    (tmp_path / "outside").write_text("secret")
    made = tmp_path / "root"
    (made / "etc").mkdir(parents=True)
    return made


def test_links_never_lead_out(root: Path) -> None:
    """Absolute links start at the host's root directory, and .. ends there."""
    (root / "outside").write_text("the host's")
    (root / "etc/absolute").symlink_to("/outside")
    (root / "etc/relative").symlink_to("../../../../outside")
    (root / "etc/folder").symlink_to("/etc")
    host = HostRoot(root)

    assert host.read("/etc/absolute") == "the host's"
    assert host.read("/etc/relative") == "the host's"
    assert host.read("/etc/folder/folder/absolute") == "the host's"
    assert host.read("../outside") == "the host's"


def test_what_cannot_be_read_is_said(root: Path) -> None:
    """
    A circle of links, a pipe without a writer and a directory neither hang nor crash the reader.
    """
    (root / "etc/a").symlink_to("b")
    (root / "etc/b").symlink_to("a")
    os.mkfifo(root / "etc/pipe")
    host = HostRoot(root)

    assert host.read("/etc/none") is None
    assert host.read("/etc/none/at/all") is None
    troubles = {
        "/etc/a": "symbolic links",
        "/etc/pipe": "not a regular file",
        "/etc": "not a regular file",
    }
    for path, words in troubles.items():
        with pytest.raises(InputError, match=words):
            host.read(path)
    with pytest.raises(InputError, match="cannot be used"):
        host.read("/etc/\0")


def test_contents_are_bounded_and_need_not_be_text(root: Path) -> None:
    """The reader takes a megabyte at most."""
    (root / "etc/large").write_bytes(b"\xff" + b"a" * (2 << 20))

    text = HostRoot(root).read("/etc/large")
    assert text is not None
    assert len(text) == 1 << 20
    assert text.startswith("\N{REPLACEMENT CHARACTER}a")
