"""
The garbage collector, and a first load of everything.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def bulk_load() -> Iterator[None]:
    """
    Keep the garbage collector out of a first load, and what was loaded out of its later work.

    A load makes some hundred thousand objects and no cycles among them; the collector would walk
    them again and again, which doubles the time. Afterwards they mostly stay, and a full
    collection over them would delay a change by a tenth of a second; so they are frozen
    (what goes away later is freed by its reference count all the same).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
