"""Several transactions, each made while the kernel works on the one before."""

from collections.abc import Iterator

import pytest
from support.kernel.watched import Watched

from nfproxy.errors import TransactionError
from nfproxy.model.addresses import Family
from nfproxy.nft import schema
from nfproxy.reconcile.transition import Operation

FAMILY, NAME = Family.IPV4, schema.CLUSTER_IPS


def of(*numbers: int, add: bool = True) -> list[Operation]:
    """Return changes of cluster IPs."""
    return [Operation(add, FAMILY, NAME, number.to_bytes(4, "big")) for number in numbers]


def held(watched: Watched) -> set[int]:
    """Return the cluster IPs that the kernel has."""
    return {int.from_bytes(key, "big") for key, _ in watched.kernel.elements(FAMILY, NAME)}


def test_they_take_effect_in_order(watched: Watched) -> None:
    """What one adds, a later one may delete; and none is another process's change."""
    watched.kernel.commit_all([of(1, 2), of(1, add=False), of(3)])
    watched.kernel.commit_all([])

    assert held(watched) == {2, 3}
    assert watched.reported() == ""


def test_what_comes_behind_a_refused_one_is_not_committed(watched: Watched) -> None:
    """What came before stays, and the next transaction is answered by itself."""
    made: list[int] = []

    def transactions() -> Iterator[list[Operation]]:
        for number, operations in enumerate((of(1), of(9, add=False), of(2), of(3), of(4))):
            made.append(number)
            yield operations

    with pytest.raises(TransactionError, match="ENOENT"):
        watched.kernel.commit_all(transactions())

    assert held(watched) == {1}
    assert made == [0, 1, 2]
    watched.kernel.commit(of(5))
    assert held(watched) == {1, 5}


def test_an_error_in_making_one_comes_after_those_before(watched: Watched) -> None:
    """Nothing goes on in a thread afterwards."""

    def transactions() -> Iterator[list[Operation]]:
        yield of(1)
        raise ValueError("made for a test")

    with pytest.raises(ValueError, match="for a test"):
        watched.kernel.commit_all(transactions())

    assert held(watched) == {1}


def test_a_script_is_loaded_behind_what_was_sent(watched: Watched) -> None:
    """What makes a transaction may find that it needs a chain; of one that fails it hears."""
    flush = f"flush set ip nfproxy {NAME}\n"

    def transactions(*before: Operation) -> Iterator[list[Operation]]:
        yield [*of(1, 2), *before]
        watched.kernel.load(flush)
        yield of(3)

    watched.kernel.commit_all(transactions())
    assert held(watched) == {3}

    with pytest.raises(TransactionError, match="ENOENT"):
        watched.kernel.commit_all(transactions(*of(9, add=False)))
    watched.kernel.load(flush)
    assert held(watched) == set()
