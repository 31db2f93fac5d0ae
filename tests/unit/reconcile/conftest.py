"""nfproxy over a kernel in memory."""

import pytest
from support.kernel.fake import FlakyKernel
from support.kernel.memoryproxy import MemoryProxy


@pytest.fixture
def proxy() -> MemoryProxy:
    """No objects yet, nothing programmed."""
    return MemoryProxy(FlakyKernel())
