"""A namespace whose foreign changes are reported."""

from collections.abc import Iterator

import pytest
from support.kernel.watched import Watched

from nfproxy.tools.lab import Lab


@pytest.fixture
def watched(namespaces_allowed: None) -> Iterator[Watched]:
    with Lab() as lab:
        made = Watched(lab.namespace("node"))
        yield made
        made.kernel.close()
