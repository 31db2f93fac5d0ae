"""What all properties share."""

from collections.abc import Iterator

import pytest

from nfproxy.plan import service


@pytest.fixture(scope="module", autouse=True)
def worth() -> Iterator[None]:
    """
    Let frontends share a list already where it saves four slots, as objects here are small.

    For each module: the same process may run other tests afterwards.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "WORTH_SLOTS", 4)
        yield
