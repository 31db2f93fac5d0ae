"""Commits what waits, in portions of one transaction each, and finds what the kernel refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from nfproxy.nft.chains import Chain
from nfproxy.plan.desired import Desired
from nfproxy.plan.frontends import FrontendKey
from nfproxy.reconcile.backlog import ServicePart
from nfproxy.reconcile.batch import Batch, BatchSum
from nfproxy.reconcile.chainloading import ChainLoading
from nfproxy.reconcile.chainuses import ChainKey
from nfproxy.reconcile.portions import portions
from nfproxy.reconcile.refusals import Refused, apply_apart
from nfproxy.reconcile.syncreport import Dataplane
from nfproxy.reconcile.tracker import Tracker
from nfproxy.reconcile.transition import Operation

_CHAINS_SOON = 500  # come with those that a transaction needs; so many take some 50 ms
_PARTS_SOON = 5000  # the parts that are asked for such chains

# At a start, the portions that are made in so much time are one commit. The kernel works on each
# while the next one is made, so only the last one is waited for.
_AHEAD_S = 0.5

# Where transactions are limited, an operation is expected to take so many bytes.
_OPERATION_BYTES = 280


class Committing:
    """
    What commits portions of a tracker's backlog: chains first, then elements that point to them.

    `last` is the portion that was taken out last. `is_start` is true until everything has been
    programmed once.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        tracker: Tracker,
        loading: ChainLoading,
        desired: Desired,
        clock: Callable[[], float],
    ) -> None:
        """Commit nothing yet. `clock` returns monotonic seconds."""
        self._dataplane = dataplane
        self._tracker = tracker
        self._loading = loading
        self._desired = desired
        self._clock = clock
        self.last = Batch()
        self.is_start = False
        self._is_careful = False  # the kernel has refused something

    @property
    def most_operations(self) -> int | None:
        """How many operations a portion may have, where its bytes are limited."""
        limit = self._dataplane.transaction_limit
        return limit // _OPERATION_BYTES if limit is not None else None

    @property
    def is_ahead(self) -> bool:
        """Whether portions are made while the kernel works on those before: at a start."""
        return self.is_start and not self._is_careful

    def be_careful(self) -> None:
        """
        Make no portion ahead any more, since the kernel has refused one.

        What was made behind that takes it for committed: the tables have to be read.
        """
        self._is_careful = True

    def commit_several(self, done: BatchSum) -> None:
        """
        Commit portions that are made ahead, and let `done` have them. Raises DataplaneError.

        The first one that leaves something behind is the last: how long that stays counts from the
        end of its commit, since packets met the old tables until then.
        """
        self._dataplane.commit_all(self._ahead(done))
        self._tracker.committed(self.last, self._clock())

    def _ahead(self, done: BatchSum) -> Iterator[Sequence[Operation]]:
        """Yield the transactions of several portions, and take over all of them but the last."""
        tracker, until_s = self._tracker, self._clock() + _AHEAD_S
        while True:
            # The kernel works on the transaction before for at most as long as this one is made.
            began_s = self._clock()
            self.last = batch = tracker.portion(self.most_operations)
            done.chains_made += self.load_chains(batch)
            yield from self.transactions(batch, began_s)
            done.include(batch)
            is_all = not (tracker.backlog or batch.unfinished)
            if is_all or batch.leaves_something or (now_s := self._clock()) >= until_s:
                return
            tracker.committed(batch, now_s)
            self.last = batch = Batch()  # its operations need no memory while the next are made

    def commit_apart(self) -> tuple[BatchSum, list[Refused]]:
        """Commit what the kernel takes of a portion that it refused; return that, and the rest."""
        tracker, batch, done = self._tracker, self.last, BatchSum()

        def apply(parts: Sequence[ServicePart]) -> None:
            one = tracker.batch_of(parts)
            self.load_chains(one)
            for transaction in self.transactions(one):
                self._dataplane.commit(transaction)
            tracker.committed(one, self._clock())
            done.include(one)

        tracker.forget_strays(batch)
        refused = apply_apart(tracker.in_order(batch.parts), apply)
        for one in refused:
            tracker.leave_out(one.service, one.part)
        tracker.committed(Batch(unfinished=batch.unfinished), self._clock())
        return done, refused

    def transactions(self, batch: Batch, began_s: float | None = None) -> Iterator[list[Operation]]:
        """
        Yield a batch's operations as transactions that fit the kernel's buffer: nearly always one.

        What a transaction took is the time until the next one is asked for: of the first one from
        `began_s` on, if given.
        """
        for transaction in portions(batch.operations, self._dataplane.transaction_limit):
            began_s = self._clock() if began_s is None else began_s
            yield transaction
            self._tracker.costs.learn(len(transaction), self._clock() - began_s)
            began_s = None

    def load_chains(self, batch: Batch) -> int:
        """Load the chains that a batch needs and the tables lack; return how many were loaded."""
        missing = self._missing_chains(key for key, step in batch.steps if step.is_whole)
        if not missing:
            return 0
        # Services whose turn was too short need the others soon, and each script takes a child.
        rest = itertools.islice(itertools.chain.from_iterable(batch.unfinished), _PARTS_SOON)
        soon = self._missing_chains(part for part in rest if isinstance(part, FrontendKey))
        missing.update(self._loading.soon(dict(itertools.islice(soon.items(), _CHAINS_SOON))))
        self._loading.load_chains(missing)
        self._tracker.chains.made_ahead(missing, self._clock())
        return len(missing)

    def _missing_chains(self, keys: Iterable[FrontendKey]) -> dict[ChainKey, Chain]:
        loaded = self._tracker.chains.loaded
        needed = self._loading.chains_of(keys, self._desired)
        return {at: chain for at, chain in needed.items() if loaded.get(at) != chain}
