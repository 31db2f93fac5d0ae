"""nfproxy over a kernel in memory."""

import pytest
from support.fakekernel import FlakyKernel
from support.memoryproxy import MemoryProxy


@pytest.fixture
def proxy() -> MemoryProxy:
    """No objects yet, nothing programmed."""
    return MemoryProxy(FlakyKernel())
