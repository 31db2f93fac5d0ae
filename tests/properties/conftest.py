"""What all properties share."""

from collections.abc import Iterator

import pytest

from nfproxy.plan import service


@pytest.fixture(scope="session", autouse=True)
def worth() -> Iterator[None]:
    """Let frontends share a list already where it saves four slots, as objects here are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "WORTH_SLOTS", 4)
        yield
