"""How much fits one transaction is learned, within bounds."""

from nfproxy.reconcile.costs import TRANSACTION_S, Costs


def size(costs: Costs) -> int:
    return int(TRANSACTION_S / costs.operation_s)


def test_transactions_become_smaller_on_a_slower_machine():
    """As many operations as take the time that one transaction should."""
    costs = Costs()
    for _ in range(50):
        costs.learn(size(costs), size(costs) * 15e-6)

    assert 2500 <= size(costs) <= 2800


def test_what_is_fixed_does_not_make_transactions_ever_smaller():
    """A look at very many chains takes as long for one operation as for thousands."""
    costs = Costs()
    for _ in range(50):
        costs.learn(size(costs), 0.08 + size(costs) * 4e-6)

    assert size(costs) > 1900
