"""Which files are manifests, and reading them within limits."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
from pathlib import Path

import pytest

from nfproxy.errors import InputError
from nfproxy.manifests.files import MAX_JSON_MIB, MAX_YAML_MIB, MIB, list_files, read_text
from nfproxy.text import shown_path


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def listed(root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in list_files(str(root)).files]


def test_manifests_are_found_by_their_ending_at_any_depth(tmp_path):
    touch(
        tmp_path, "b.yaml", "a.yml", "sub/deep/c.json", "README.md", "d.yaml~", "e.yaml.swp", "yaml"
    )

    assert listed(tmp_path) == ["a.yml", "b.yaml", "sub/deep/c.json"]


def test_order_is_by_path_and_not_by_age(tmp_path):
    touch(tmp_path, "z.yaml", "m/z.yaml", "a.yaml", "m/a.yaml", "b/q.yaml")

    assert listed(tmp_path) == ["a.yaml", "b/q.yaml", "m/a.yaml", "m/z.yaml", "z.yaml"]


def test_hidden_files_and_directories_are_left_out(tmp_path):
    touch(tmp_path, ".a.yaml", ".git/b.yaml", "..data/c.yaml", "d.yaml")

    assert listed(tmp_path) == ["d.yaml"]


def test_links_are_followed_and_loops_end(tmp_path):
    touch(tmp_path, "real/a.yaml", "other/b.yaml")
    (tmp_path / "m").mkdir()
    (tmp_path / "m/up").symlink_to("..")
    (tmp_path / "m/loop").symlink_to("loop")
    (tmp_path / "m/b.yaml").symlink_to("../other/b.yaml")
    (tmp_path / "m/gone.yaml").symlink_to("nowhere")
    listing = list_files(str(tmp_path / "m"))

    assert [*listing.files] == [
        f"{tmp_path}/m/b.yaml",
        f"{tmp_path}/m/up/other/b.yaml",
        f"{tmp_path}/m/up/real/a.yaml",
    ]
    assert {f"{tmp_path}/m/gone.yaml": "is a link to nothing"} == {
        path: why for path, why in listing.unreadable.items() if "loop" not in path
    }


def test_what_is_no_file_is_reported_and_not_opened(tmp_path):
    """Opening a FIFO would wait for ever."""
    os.mkfifo(tmp_path / "fifo.yaml")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.json"))
    (tmp_path / "directory.yaml").mkdir()
    listing = list_files(str(tmp_path))

    assert listing.files == {}
    assert {f"{tmp_path}/fifo.yaml", f"{tmp_path}/s.json"} == set(listing.unreadable)


def test_a_tree_deeper_than_the_stack_is_listed(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("x.yaml", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    try:
        assert len(list_files(str(tmp_path)).files) == 1
    finally:  # pytest's own cleaning up would go down by recursion, and fail
        subprocess.run(["rm", "-rf", f"{tmp_path}/d"], check=True)


def test_a_single_file_needs_no_ending(tmp_path):
    touch(tmp_path, "objects.txt")

    assert [str(tmp_path / "objects.txt")] == [*list_files(str(tmp_path / "objects.txt")).files]


def test_a_root_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        list_files(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("name", "start", "mib"),
    [
        ("a.yaml", b"kind: List\n", 100),
        ("a.yaml", b"kind: List\n", MAX_YAML_MIB),
        ("a.json", b"{", MAX_JSON_MIB),
        ("a.yaml", b" \n{", MAX_JSON_MIB),
    ],
)
def test_a_file_beyond_the_limit_is_refused_unread(tmp_path, name, start, mib):
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(start)
        file.truncate(mib * MIB + 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(InputError, match=r"is larger than .* MiB, the limit for its format; split"):
        read_text(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10 * 1024


def test_a_pipe_beyond_the_limit_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    pid = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", f'head -c {(MAX_YAML_MIB + 2) * MIB} /dev/zero >"$0"', str(tmp_path / "pipe")],
        {**os.environ},
    )
    with pytest.raises(InputError, match="convert it to JSON"):
        read_text(str(tmp_path / "pipe"))
    os.waitpid(pid, 0)


def test_a_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    script = 'exec >"$0"; for i in 1 2 3; do head -c 1000 /dev/zero | tr "\\0" a; sleep 0.01; done'
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", script, str(tmp_path / "pipe")], {**os.environ})

    assert read_text(str(tmp_path / "pipe")).data == b"a" * 3000
    os.waitpid(pid, 0)


@pytest.mark.parametrize("content", [b"kind: List\n", b"x" * 5000, b"", b"a\r\n"])
def test_a_file_is_read_whole(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + content)
    text = read_text(str(tmp_path / "a.yaml"))

    assert (content, False, False) == (text.data, text.json, text.json_only)


@pytest.mark.parametrize(
    ("name", "content", "json", "json_only"),
    [
        ("a.json", b"kind: x", True, True),
        ("a.yaml", b'\xef\xbb\xbf\n {"a": 1}', True, False),
        ("a.yaml", b"a: {}", False, False),
    ],
)
def test_json_is_recognised(tmp_path, name, content, json, json_only):
    (tmp_path / name).write_bytes(content)
    text = read_text(str(tmp_path / name))

    assert (json, json_only) == (text.json, text.json_only)


def test_what_cannot_be_read_says_why(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file or directory"):
        read_text(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_text(str(tmp_path))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/m/a b.yaml", "/etc/m/a b.yaml"),
        ("a\n\x1b[2J.yaml", "'a\\n\\x1b[2J.yaml'"),
        (os.fsdecode(b"\xff.yaml"), "'\\udcff.yaml'"),
    ],
)
def test_a_hostile_path_is_escaped_in_messages(path, text):
    assert text == shown_path(path)
