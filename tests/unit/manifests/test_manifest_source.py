"""A real directory, followed by inotify."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from nfproxy.errors import InputError
from nfproxy.manifests.source import ManifestSource
from nfproxy.model.addresses import Family
from nfproxy.model.changes import Changes, Problem

FOREVER_S = 20  # only to end a test that fails


def service(name: str, version: int) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"clusterIP": f"10.96.0.{version}", "ports": [{"port": 80}]},
        }
    )


def versions(changes: Changes) -> dict[str, int]:
    """Return changes of Services as name → version, 0 for gone."""
    return {
        name.name: service.cluster_ips[Family.IPV4][3] if service else 0
        for name, service in changes.services.items()
    }


async def next_changes(source: ManifestSource) -> Changes:
    while True:
        await source.changed()
        if changes := source.take():
            return changes


class Followed:
    """A source that is being followed, and its changes."""

    def __init__(self, source: ManifestSource, problems: asyncio.Queue[Problem]) -> None:
        self.source = source
        self.problems = problems
        self.changes: asyncio.Queue[dict[str, int]] = asyncio.Queue()

    async def run(self) -> None:
        async with self.source:
            while True:
                self.changes.put_nowait(versions(await next_changes(self.source)))

    async def next(self) -> dict[str, int]:
        return await asyncio.wait_for(self.changes.get(), FOREVER_S)

    async def next_problem(self) -> str:
        return str(await asyncio.wait_for(self.problems.get(), FOREVER_S))


@contextlib.asynccontextmanager
async def following(path: Path, directory: bool = True) -> AsyncIterator[Followed]:
    problems: asyncio.Queue[Problem] = asyncio.Queue()
    followed = Followed(ManifestSource(str(path), "n1", problems.put_nowait), problems)
    await followed.source.load()
    task = asyncio.create_task(followed.run())
    try:
        if directory:  # after this change, the directory is being watched
            (path / "ready.yaml").write_text(service("ready", 1))
            assert await followed.next() == {"ready": 1}
        yield followed
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@pytest.fixture
def root(tmp_path) -> Path:
    made = tmp_path / "manifests"
    made.mkdir()
    (made / "a.yaml").write_text(service("one", 1))
    return made


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


def test_a_directory_that_vanishes_and_returns(root, tmp_path):
    async def test() -> None:
        async with following(root) as followed:
            root.rename(tmp_path / "away")
            assert "in use as before" in await followed.next_problem()
            (tmp_path / "away/a.yaml").write_text(service("one", 2))
            assert followed.changes.empty()
            (tmp_path / "away").rename(root)
            assert await followed.next() == {"one": 2}
            (root / "a.yaml").write_text(service("one", 3))
            assert await followed.next() == {"one": 3}
            assert followed.source.problems == ()

    run(test)


def test_a_directory_that_is_deleted_and_made_again(root):
    async def test() -> None:
        async with following(root) as followed:
            shutil.rmtree(root)
            assert "in use as before" in await followed.next_problem()
            root.mkdir()
            assert "is empty, and not the directory it was" in await followed.next_problem()
            (root / "b.yaml").write_text(service("one", 2))
            assert await followed.next() == {"one": 2, "ready": 0}

    run(test)


def test_the_way_to_the_directory_may_vanish_and_return(tmp_path):
    root = tmp_path / "x/y/z"
    root.mkdir(parents=True)
    (root / "a.yaml").write_text(service("one", 1))

    async def test() -> None:
        async with following(root) as followed:
            (tmp_path / "x").rename(tmp_path / "away")
            await followed.next_problem()
            (tmp_path / "x").mkdir()
            (tmp_path / "x/y").mkdir()
            (tmp_path / "away/y/z").rename(root)
            (root / "a.yaml").write_text(service("one", 2))
            assert await followed.next() == {"one": 2}

    run(test)


def test_a_config_map_volume(tmp_path):
    """As the kubelet makes it: files link into ..data, which is swapped as a whole."""
    root = tmp_path / "volume"

    def publish(number: int, **files: str) -> None:
        (root / f"..v{number}").mkdir(parents=True)
        for name, text in files.items():
            (root / f"..v{number}/{name}.yaml").write_text(text)
        (root / "..data_tmp").symlink_to(f"..v{number}")
        (root / "..data_tmp").rename(root / "..data")
        for name in files:
            with contextlib.suppress(FileExistsError):
                (root / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
        for link in root.glob("*.yaml"):
            if link.is_symlink() and link.stem not in files:
                link.unlink()
        if number > 1:
            shutil.rmtree(root / f"..v{number - 1}")

    publish(1, a=service("one", 1), b=service("two", 1))

    async def test() -> None:
        async with following(root) as followed:
            publish(2, a=service("one", 2), b=service("two", 1))
            assert await followed.next() == {"one": 2}
            publish(3, a=service("one", 3), c=service("three", 1))
            seen: dict[str, int] = {}
            while seen != {"one": 3, "two": 0, "three": 1}:
                seen |= await followed.next()

    run(test)


def test_a_directory_behind_links_is_swapped(tmp_path):
    for version in (1, 2):
        (tmp_path / f"v{version}").mkdir()
        (tmp_path / f"v{version}/a.yaml").write_text(service("one", version))
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "link").symlink_to(tmp_path / "current")

    async def test() -> None:
        async with following(tmp_path / "link") as followed:
            (tmp_path / "next").symlink_to("v2")
            (tmp_path / "next").rename(tmp_path / "current")
            assert await followed.next() == {"one": 2}
            (tmp_path / "v2/a.yaml").write_text(service("one", 3))
            assert await followed.next() == {"one": 3}

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


def test_a_directory_replaced_by_another_is_followed(root, tmp_path):
    """Replaced within one look: the names on the way are what they were."""
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared/a.yaml").write_text(service("one", 2))

    async def test() -> None:
        async with following(root) as followed:
            root.rename(tmp_path / "away")
            (tmp_path / "prepared").rename(root)
            assert await followed.next() == {"one": 2}
            assert await followed.next() == {"ready": 0}  # nothing is waited for any more
            (root / "a.yaml").write_text(service("one", 3))
            assert await followed.next() == {"one": 3}

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
