"""A real directory, followed by inotify."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.manifests.following import FOREVER_S, following, next_changes, run, service, versions

from nfproxy.errors import InputError
from nfproxy.manifests.source import ManifestSource
from nfproxy.model.changes import Problem


def test_load_gives_everything(root):
    (root / "sub").mkdir()
    (root / "sub/b.json").write_text(service("two", 1))
    (root / "bad.yaml").write_text("a: [")
    problems: list[Problem] = []
    source = ManifestSource(str(root), "n1", problems.append)

    assert versions(asyncio.run(source.load())) == {"one": 1, "two": 1}
    assert problems == [*source.problems]
    assert len(problems) == 1


def test_a_directory_that_is_not_there_at_the_start_is_an_error(tmp_path):
    source = ManifestSource(str(tmp_path / "nowhere"), "n1", print)

    with pytest.raises(InputError, match="No such file or directory"):
        asyncio.run(source.load())


def test_a_fifo_in_place_of_the_directory_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(InputError, match="is no directory"):
        asyncio.run(ManifestSource(str(tmp_path / "fifo"), "n1", print).load())


def test_what_changed_between_load_and_changes_is_not_missed(root):
    async def test() -> None:
        async with ManifestSource(str(root), "n1", print) as source:
            await source.load()
            (root / "b.yaml").write_text(service("two", 1))
            found = await asyncio.wait_for(next_changes(source), FOREVER_S)
            assert versions(found) == {"two": 1}

    run(test)


def test_files_are_followed(root):
    async def test() -> None:
        async with following(root) as followed:
            (root / "b.yml").write_text(service("two", 1))
            assert await followed.next() == {"two": 1}
            (root / "b.yml").write_text(service("two", 2))
            assert await followed.next() == {"two": 2}
            (root / ".b.tmp").write_text(service("two", 3))
            (root / ".b.tmp").rename(root / "b.yml")
            assert await followed.next() == {"two": 3}
            (root / "b.yml").unlink()
            assert await followed.next() == {"two": 0}

    run(test)


def test_a_change_that_leaves_size_and_time_alone_is_seen(root):

    async def test() -> None:
        path = root / "a.yaml"
        stamp = path.stat()
        async with following(root) as followed:
            path.write_text(service("one", 2))
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            assert await followed.next() == {"one": 2}

    run(test)


def test_new_directories_are_followed(root):
    async def test() -> None:
        async with following(root) as followed:
            (root / "x/y").mkdir(parents=True)
            (root / "x/y/b.yaml").write_text(service("two", 1))
            assert await followed.next() == {"two": 1}
            (root / "x/y/b.yaml").write_text(service("two", 2))
            assert await followed.next() == {"two": 2}
            shutil.rmtree(root / "x")
            assert await followed.next() == {"two": 0}

    run(test)


def test_a_directory_moved_in_is_followed(root, tmp_path):
    async def test() -> None:
        (tmp_path / "prepared").mkdir()
        (tmp_path / "prepared/b.yaml").write_text(service("two", 1))
        async with following(root) as followed:
            (tmp_path / "prepared").rename(root / "x")
            assert await followed.next() == {"two": 1}
            (root / "x/b.yaml").write_text(service("two", 2))
            assert await followed.next() == {"two": 2}

    run(test)


def test_a_broken_file_keeps_its_objects_until_it_is_mended(root):
    async def test() -> None:
        async with following(root) as followed:
            (root / "a.yaml").write_text("a: [")
            reported = {await followed.next_problem(), await followed.next_problem()}
            assert any("1 object of the last good version in use" in p for p in reported)
            assert followed.changes.empty()
            (root / "a.yaml").write_text(service("one", 2))
            assert await followed.next() == {"one": 2}
            assert followed.source.problems == ()

    run(test)


def test_a_problem_is_reported_once(root):
    async def test() -> None:
        async with following(root) as followed:
            (root / "b.yaml").write_text("kind: [")
            await followed.next_problem()
            (root / "c.yaml").write_text(service("two", 1))
            assert await followed.next() == {"two": 1}
            assert followed.problems.empty()

    run(test)


def test_a_file_linked_from_elsewhere_is_followed(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.txt").write_text(service("two", 1))

    async def test() -> None:
        async with following(root) as followed:
            (root / "b.yaml").symlink_to(tmp_path / "elsewhere/b.txt")
            assert await followed.next() == {"two": 1}
            (tmp_path / "elsewhere/b.txt").write_text(service("two", 2))
            assert await followed.next() == {"two": 2}

    run(test)


def test_a_single_file_is_followed(root):
    async def test() -> None:
        async with following(root / "a.yaml", directory=False) as followed:
            (root / "other.yaml").write_text(service("two", 1))
            (root / "new").write_text(service("one", 2))
            (root / "new").rename(root / "a.yaml")
            assert await followed.next() == {"one": 2}

    run(test)


def test_the_node_and_service_cidrs_are_followed(root):
    def node(zone: str) -> str:
        labels = {"topology.kubernetes.io/zone": zone}
        metadata = {"name": "n1", "labels": labels}
        return json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": metadata})

    async def test() -> None:
        async with ManifestSource(str(root), "n1", print) as source:
            await source.load()
            (root / "n.yaml").write_text(node("a"))
            found = await asyncio.wait_for(next_changes(source), FOREVER_S)
            assert found.node is not None
            assert (found.node.zone, found.services) == ("a", {})
            (root / "n.yaml").write_text(node("b"))
            found = await asyncio.wait_for(next_changes(source), FOREVER_S)
            assert found.node is not None
            assert found.node.zone == "b"

    run(test)


def test_many_changes_arrive_and_the_last_counts(root):
    async def test() -> None:
        async with following(root) as followed:
            for number in range(100):
                (root / f"f{number % 10}.yaml").write_text(service(f"s{number % 10}", number + 1))
                await asyncio.sleep(0)
            seen: dict[str, int] = {}
            while seen != {f"s{number}": 91 + number for number in range(10)}:
                seen |= await followed.next()

    run(test)


def test_a_slow_writer_does_not_lose_objects(root):
    """A file is truncated and then written bit by bit; at no time an object goes."""
    names = [f"s{number}" for number in range(5)]

    def write(version: int, pause: Callable[[], None]) -> None:
        with (root / "big.yaml").open("w") as file:
            for name in names:
                file.write(f"---\n{service(name, version)}\n")
                file.flush()
                pause()

    write(1, lambda: None)

    async def test() -> None:
        async with following(root) as followed:
            await asyncio.to_thread(write, 2, lambda: time.sleep(0.06))
            seen: dict[str, int] = {}
            while seen != dict.fromkeys(names, 2):
                batch = await followed.next()
                assert 0 not in batch.values()
                seen |= batch

    run(test)


def test_without_inotify_it_says_so_and_goes_on(root, monkeypatch):
    """A machine may have used up its watches."""

    async def refuse(*args: Any, **options: Any) -> AsyncIterator[set[Any]]:
        raise OSError(28, "No space left on device")
        yield set()

    monkeypatch.setattr("nfproxy.manifests.watching.awatch", refuse)
    monkeypatch.setattr("nfproxy.manifests.source._WITHOUT_WATCH_S", 0.01)

    async def test() -> None:
        async with following(root) as followed:
            assert "cannot be watched (No space left on device)" in await followed.next_problem()
            (root / "b.yaml").write_text(service("two", 1))
            assert await followed.next() == {"two": 1}

    run(test)


def test_slices_that_name_no_service_are_one_line(tmp_path):
    """Of all files together, and with their number."""
    text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s%d}\n"
    for number in range(3):
        other = text % number + "addressType: IPv4\nendpoints: []\n"
        (tmp_path / f"{number}.yaml").write_text(other)

    async def case() -> tuple[Problem, ...]:
        async with ManifestSource(str(tmp_path), "n", lambda problem: None) as source:
            await source.load()
            return source.problems

    (problem,) = asyncio.run(case())
    assert str(problem) == (
        "EndpointSlices: 3 slices without label kubernetes.io/service-name; ignored"
    )
