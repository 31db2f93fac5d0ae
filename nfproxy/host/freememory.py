"""This process's memory: giving back what is free, and when Python looks for garbage."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator


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
def bulk_load() -> Iterator[None]:
    """
    Keep Python's garbage collector away from the first planning, and from what it leaves.

    The first planning makes some hundred thousand objects without cycles. The collector would walk
    them again and again, which doubles the time. Most of them stay afterwards, and a full
    collection would delay a later change by a tenth of a second. So they are frozen; reference
    counts still free them.
    """
    try:
        with without_collector():
            yield
    finally:
        gc.collect()
        gc.freeze()
        give_back()
