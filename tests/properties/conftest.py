"""Kernels of one's own, and how long to look for counter-examples."""

from collections.abc import Iterator

import pytest

from nfproxy.tools.lab import Lab


@pytest.fixture(scope="module")
def lab(namespaces_allowed: None) -> Iterator[Lab]:
    """Namespaces for one module."""
    with Lab() as made:
        yield made
