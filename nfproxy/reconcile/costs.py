"""
How much fits one transaction.

The kernel works on one transaction at a time, and another process's commit waits for ours. How long
depends on the machine, on the size of the sets and on who listens, so it is learned on the way.
"""

from __future__ import annotations

#: How long one transaction should take. A machine may need twice what the last one took.
TRANSACTION_S = 0.04

# An operation takes 2 to 8 microseconds on a small machine. What is fixed in a transaction, such as
# the kernel's look at all chains, counts in what was learned: without a bound, many chains make
# transactions small, so that each operation costs more, and the next ones smaller still.
_FIRST_S, _LEAST_S, _MOST_S = 8e-6, 1e-6, 2e-5

# What is fixed in a transaction outweighs fewer operations. At the highest cost, transactions are
# larger: they must teach that it has fallen.
_FEWEST = 200

# How much of the difference to what was known a transaction counts.
_RISING, _FALLING = 0.5, 0.25


class Costs:
    """What an operation costs, in seconds: what the last transactions took."""

    def __init__(self) -> None:
        """Start with what was measured."""
        self.operation_s = _FIRST_S

    def learn(self, operations: int, seconds: float) -> None:
        """
        Learn from a transaction.

        One may have been easier than most, or the processor was busy with something else, so each
        counts in part.
        """
        if operations < _FEWEST:
            return
        difference_s = seconds / operations - self.operation_s
        learned_s = difference_s * (_RISING if difference_s > 0 else _FALLING)
        self.operation_s = min(max(self.operation_s + learned_s, _LEAST_S), _MOST_S)
