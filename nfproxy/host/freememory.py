"""This process's memory: how it is taken and given back, and when Python looks for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator

_ARENA_MAX = -8  # M_ARENA_MAX

#: New objects before the collector looks at them; usually 700.
_RARELY = 50_000


def use_one_arena() -> None:
    """
    Let all threads take memory from one place; call it before there are threads.

    By default each has its own, and cannot use what another one gave back. Python lets one thread
    run at a time, so they rarely wait for each other. Only glibc has arenas.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_ARENA_MAX, 1)


def give_back() -> None:
    """
    Return free memory to the kernel: after much work it lies between what stays.

    For that takes glibc; elsewhere nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keep Python's garbage collector away from work that makes many objects without cycles."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def modules_load() -> Iterator[None]:
    """
    Keep Python's garbage collector away from imports, and from what they leave: modules stay.

    It would walk them again and again meanwhile, in every full collection, and at the end of the
    process.
    """
    with without_collector():
        yield
        gc.freeze()


@contextlib.contextmanager
def rarely_collected() -> Iterator[None]:
    """
    Let Python's garbage collector run rarely while objects come in that stay.

    It would walk all that came before again and again. It is not off: how long lists take is for an
    API server to decide, and attempts to reach one leave cycles.
    """
    before = gc.get_threshold()
    gc.set_threshold(_RARELY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def bulk_load() -> Iterator[None]:
    """
    Keep Python's garbage collector away from the first planning, and from what it leaves.

    The first planning makes some hundred thousand objects without cycles. The collector would walk
    them again and again, which doubles the time. Most of them stay afterwards, and a full
    collection would delay a later change by a tenth of a second. So they are frozen; reference
    counts still free them.
    """
    with without_collector():
        try:
            yield
        finally:
            gc.collect()
            gc.freeze()
    give_back()
