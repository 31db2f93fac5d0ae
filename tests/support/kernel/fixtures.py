"""
Fixtures: network namespaces for a module, and a real kernel in one of them.
"""

from collections.abc import Iterator

import pytest
from support.kernel.real import RealKernel

from nfproxy.tools.lab import Lab


@pytest.fixture(scope="module")
def lab(namespaces_allowed: None) -> Iterator[Lab]:
    """Namespaces for one module."""
    with Lab() as made:
        yield made


@pytest.fixture
def real(lab: Lab) -> Iterator[RealKernel]:
    """The kernel in a namespace without any rules."""
    namespace = lab.namespace("rules")
    kernel = RealKernel(namespace)
    yield kernel
    kernel.close()
    lab.drop(namespace)
