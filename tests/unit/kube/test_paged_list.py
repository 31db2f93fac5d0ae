"""How many objects the pages of a list are asked for with."""

from __future__ import annotations

import msgspec

from nfproxy.kube.pagedlist import PagedList
from nfproxy.kube.watch import Page

MB = 1 << 20


def read(pages: PagedList, sizes: list[int]) -> list[int]:
    """Read a list of objects with these sizes in bytes; return how many each page had."""
    counts, at = [], 0
    while at < len(sizes) or not counts:
        limit = int(pages.request(64 * MB).query["limit"])
        items = sizes[at : at + limit]
        at += len(items)
        counts.append(len(items))
        raw = tuple(msgspec.Raw(b"{}") for _ in items)
        token = str(at) if at < len(sizes) else ""
        pages.add(Page("1", token, raw), sum(items))
    pages.reset()
    return counts


def test_large_objects_come_in_small_pages() -> None:
    """A page is in memory as a whole: after the first one, each has 2 MB at most."""
    pages = PagedList({})
    sizes = [40_000] * 2000

    first = read(pages, sizes)
    assert first[0] == 500
    assert max(first[1:]) * 40_000 <= 2 * MB
    assert max(read(pages, sizes)) * 40_000 <= 2 * MB

    assert read(pages, [1000] * 2000)[1:] == [500, 500, 500, 448]


def test_a_list_says_how_large_objects_are() -> None:
    """Also one that came in a stream."""
    pages = PagedList({})
    pages.learn(objects=5000, size=5000 * 20_000)

    assert max(read(pages, [20_000] * 1000)) * 20_000 <= 2 * MB


def test_small_pages_before_large_ones_are_no_list_without_end() -> None:
    """The objects of each page count beside what it was asked for with."""
    pages = PagedList({})
    counts = read(pages, [500_000] * 2000 + [1] * 20_000)

    assert counts[1] == 4
    assert counts[-2] == 500


def test_after_an_answer_that_was_too_long_pages_stay_small() -> None:
    """Small objects at the beginning of a list must not make its later pages too long again."""
    pages = PagedList({})
    assert read(pages, [1] * 500) == [500]
    pages.shrink()

    assert max(read(pages, [1] * 1000)) == 100
