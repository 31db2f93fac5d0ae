"""Directories of manifests that vanish, return, or are swapped behind links."""

from __future__ import annotations

import contextlib
import shutil

from support.manifests.following import following, run, service


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
