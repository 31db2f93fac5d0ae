"""One look at a directory: only what changed is read."""

from __future__ import annotations

import os

import pytest

from nfproxy.manifests.scan import scan
from nfproxy.manifests.watching import targets


@pytest.fixture
def root(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("")
    return tmp_path


def test_files_with_a_known_signature_are_not_read(root):
    known = scan(str(root), {}, set(), "").listing.files

    assert scan(str(root), known, set(), "").contents == {}


def test_a_changed_file_is_read(root):
    known = scan(str(root), {}, set(), "").listing.files
    (root / "b.yaml").write_text("a: 1")
    found = scan(str(root), known, set(), "")

    assert [*found.contents] == [str(root / "b.yaml")]


def test_a_change_of_mode_is_a_change(root):
    """An unreadable file that can be read again has the size and time it had."""
    known = scan(str(root), {}, set(), "").listing.files
    (root / "a.yaml").chmod(0o600)

    assert [*scan(str(root), known, set(), "").contents] == [str(root / "a.yaml")]


def test_a_suspect_is_read_whatever_its_signature(root):
    """Two changes within one tick of the file system's clock leave one signature."""
    known = scan(str(root), {}, set(), "").listing.files
    suspects = {str(root / "a.yaml"), "/elsewhere"}

    assert [*scan(str(root), known, suspects, "").contents] == [str(root / "a.yaml")]


def test_a_suspect_that_the_last_scan_has_seen_as_it_is_is_not_read_again(root):
    """One rename rings more than once, and a large file takes a second to read."""
    path = root / "a.yaml"
    os.utime(path)
    known = scan(str(root), {}, set(), "").listing.files
    since_ns = known[str(path)].ctime_ns

    def read(later_ms: int) -> list[str]:
        return [*scan(str(root), known, {str(path)}, "", since_ns + later_ms * 10**6).contents]

    assert (read(5), read(50)) == ([str(path)], [])


def test_a_file_that_cannot_be_read_does_not_parse(root):
    """It is unlinked between the look and the reading, in effect: a link into /proc that fails."""
    (root / "c.yaml").symlink_to("/proc/self/mem")
    content = scan(str(root), {}, set(), "").contents[str(root / "c.yaml")]

    assert not content.parsed
    assert "cannot be read: Input/output error" in str(content.problems[0])


def test_a_root_that_is_gone(tmp_path):
    assert scan(str(tmp_path / "nowhere"), {}, set(), "").error == "No such file or directory"


def test_the_way_to_a_directory_is_watched_name_by_name(tmp_path):
    base = os.path.realpath(tmp_path)
    (tmp_path / "real/m").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/../real")
    found = targets(f"{base}/link/m", [])

    assert found.tree == f"{base}/link/m"
    assert found.names[base] == {"link", "real"}
    assert found.names[f"{base}/real"] == {"m"}
    assert "/" in found.names


def test_a_way_that_breaks_off_is_watched_up_to_there(tmp_path):
    base = os.path.realpath(tmp_path)
    found = targets(f"{base}/x/y", [])

    assert (found.tree, found.names[base]) == ("", {"x"})
    assert f"{base}/x" not in found.names


def test_a_loop_of_links_ends(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    assert targets(str(tmp_path / "a"), []).tree == ""


def test_links_that_stay_inside_need_no_watch_of_their_own(tmp_path):
    base = os.path.realpath(tmp_path)
    (tmp_path / "m/d").mkdir(parents=True)
    (tmp_path / "m/d/real").write_text("")
    (tmp_path / "m/a.yaml").symlink_to("d/real")
    (tmp_path / "m/b.yaml").symlink_to("/etc/hostname")
    found = targets(f"{base}/m", [f"{base}/m/a.yaml", f"{base}/m/b.yaml"])

    assert f"{base}/m/d" not in found.names
    assert found.names["/etc"] == {"hostname"}
