"""
Brings the kernel's tables in step with the desired state.

The cost of a change is the size of the change: the reconciler reads the tables at the start,
after a failure and when it is asked to. Otherwise it relies on what it has committed.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence

import msgspec

from nfproxy.errors import NfproxyError, TransactionError
from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft.chains import Chain
from nfproxy.nft.stages import ASIDE, IN_PLACE
from nfproxy.plan.desired import NOTHING, Desired, Touched
from nfproxy.reconcile.batch import BatchSum
from nfproxy.reconcile.chainloading import ChainLoading, Survey
from nfproxy.reconcile.chainuses import IDLE_S, ChainKey, chains_ahead
from nfproxy.reconcile.committing import Committing
from nfproxy.reconcile.costs import TRANSACTION_S
from nfproxy.reconcile.extent import Extent
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.refusals import Refused, may_be_about_contents
from nfproxy.reconcile.restoring import is_much, restore
from nfproxy.reconcile.script import script
from nfproxy.reconcile.syncreport import Dataplane, Report, ResyncReason
from nfproxy.reconcile.tracker import Tracker

log = logging.getLogger(__name__)

# Tables of another layout are replaced in one transaction up to so many elements, for which
# libnftables takes some 230 MB and the kernel half a second.
_SCRIPT_ELEMENTS = 100_000


class Reconciler:
    """
    Keeps one node's tables equal to a Desired.

    One thread at a time may call it. After an exception the next `sync` reads the kernel's tables
    and goes on from what it finds there. `cleanup_failures` counts failed attempts to remove
    unused chains.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        desired: Desired,
        config: NodeConfig,
        families: Sequence[Family],
        clock: Callable[[], float],
        *,
        makes_chains_ahead: bool = False,
    ) -> None:
        """
        Read and write nothing yet.

        `clock` returns monotonic seconds. With `makes_chains_ahead` a start loads chains that
        frontends may need next, too; later the caller calls `make_chains_ahead`.
        """
        self._dataplane = dataplane
        dataplane.use_names(desired.names)
        self._desired = desired
        self._loading = ChainLoading(dataplane, config.program, families)
        self._program_changed = False
        self._families = tuple(families)
        self._clock = clock
        self._makes_chains_ahead = makes_chains_ahead
        self._resync_reason: ResyncReason | None = ResyncReason.START
        self._resyncing: ResyncReason | None = None  # tables were read, and not all was compared
        self._tracker = Tracker(desired, families)
        self._committing = Committing(dataplane, self._tracker, self._loading, desired, clock)
        self.cleanup_failures = 0

    @property
    def trusted(self) -> bool:
        """Whether the kernel is known to hold what was last committed."""
        return self._resync_reason is None

    def distrust(self, reason: ResyncReason) -> None:
        """Let the next `sync` read the kernel's tables; an earlier reason to do so remains."""
        self._resync_reason = self._resync_reason or reason

    def reconfigure(self, config: NodeConfig) -> None:
        """Use another node configuration; the next `sync` loads the program if that changed."""
        if config.program != self._loading.program:
            self._loading.program = config.program
            self._program_changed = True

    def touch(self, touched: Touched) -> None:
        """Let the next syncs commit what these parts of the desired state differ by."""
        # What the tables are read for is compared as a whole, so the parts need not wait now.
        self._tracker.backlog.add(touched if self.trusted else Touched(services=touched.services))

    def sync(self, touched: Touched = NOTHING) -> Report:
        """
        Commit what touched parts of the desired state differ by: as much as fits a transaction.

        What is left goes with the next calls. Raises DataplaneError; then nothing, or a part that
        leaves every frontend in order, is committed.
        """
        tracker = self._tracker
        tracker.backlog.add(touched)
        reason, elements_read, chains_made = self._resync_reason, 0, 0
        self._begin()
        if reason is not None:
            self._resyncing = reason
            self._dataplane.expect_load()
            self._loading.begin(is_start=reason is ResyncReason.START)
            # Elements of another layout are nothing to go on from.
            elements_read = 0 if self._loading.other_layout else self._read_tables()
            chains_made = self._take_over_program()
        elif self._program_changed:
            self._reload_chains()
        committing, done, refused = self._committing, BatchSum(), list[Refused]()
        committing.is_start = self._resyncing is ResyncReason.START
        try:
            if committing.is_ahead:
                committing.commit_several(done)
            else:
                batch = committing.last = tracker.portion(committing.most_operations)
                # Chains come first: an element cannot point to a chain that does not exist.
                done.chains_made = committing.load_chains(batch)
                for transaction in committing.transactions(batch):
                    self._dataplane.commit(transaction)
                # Until its end packets met the old tables, so leftovers stay from now on.
                tracker.committed(batch, self._clock())
                done.include(batch)
        except TransactionError as error:
            # Anything else than the elements themselves, such as another process's change, ends
            # when the tables are read. This was refused right after that.
            if self._resyncing is None or not may_be_about_contents(error):
                raise
            if committing.is_ahead:
                committing.be_careful()
                return self.sync()
            done, refused = committing.commit_apart()
        is_resynced = self._resyncing is not None and not tracker.backlog
        for (is_new, family, name), count in done.counts.items():
            self._loading.elements[family, name] += count if is_new else -count
        is_in_force = self._loading.stage.hooked
        if is_resynced and not is_in_force:
            self._loading.change_over()
            is_in_force = is_resynced = self._loading.stage.hooked
            # If these were not the last tables, the next sync begins with the last ones.
            self._resync_reason = None if is_in_force else self._resyncing
        else:
            self._resync_reason = None
        if is_resynced:
            self._resyncing = None
        return Report(
            operations=done.operations,
            chains_made=chains_made + done.chains_made,
            reason=reason,
            elements_read=elements_read,
            resynced=is_resynced,
            frontends=done.changed,
            finished=Touched(
                done.planned,
                services=tracker.backlog.take_finished() if is_in_force else set(),
            ),
            left=max(len(tracker.backlog), not is_in_force),
            refused=tuple(refused),
            left_out=tracker.left_out(),
        )

    def put_back(self, extent: Extent) -> Report:
        """
        Undo what other processes changed, and then go on as `sync` does.

        Only what they touched is read, where it is known that all else is as it was committed.
        """
        if extent.rules:
            self._dataplane.expect_load()
        if self._loading.stage == ASIDE:
            return self.sync()  # what was changed gives way soon
        is_known = self.trusted and self._resyncing is None and not self._program_changed
        if extent.everything or not is_known or is_much(extent, self._tracker.held):
            self.distrust(ResyncReason.FOREIGN)
            return self.sync()
        tracker, limit = self._tracker, self._dataplane.transaction_limit
        self._begin()
        restored = restore(extent, tracker.held, self._dataplane, self._families)
        # In halves: the kernel begins with the first while the second one is made.
        most = int(TRANSACTION_S / tracker.costs.operation_s / 2)
        transactions = restored.transactions(limit, most)
        first = [*itertools.islice(transactions, 1)]  # while what loads rules starts
        chains_made = self._restore_program() if extent.rules else 0
        self._dataplane.commit_all(itertools.chain(first, transactions))
        self._resync_reason = None
        report = self.sync()
        return msgspec.structs.replace(
            report,
            operations=report.operations + restored.operations,
            chains_made=report.chains_made + chains_made,
            reason=ResyncReason.FOREIGN,
            elements_read=restored.elements_read,
            resynced=True,
            frontends=report.frontends | restored.frontends,
            is_partial=True,
        )

    def make_chains_ahead(self) -> int:
        """
        Load the chains that frontends may need next, if it is time; return how many.

        A change then need not wait for the child process. A failure leaves that to the change.
        """
        uses, now = self._tracker.chains, self._clock()
        if not self.trusted or uses.ahead_at is None or uses.ahead_at > now:
            return 0
        missing = uses.missing_ahead()
        try:
            if missing:
                self._loading.load_chains(missing)
        except NfproxyError as error:
            log.info("cannot load chains ahead of their use: %s", error)
            return 0
        uses.made_ahead(missing, now)
        return len(missing)

    def next_ahead(self) -> float | None:
        """Return the clock's time at which `make_chains_ahead` may have something to do."""
        return self._tracker.chains.ahead_at

    def next_due(self) -> float | None:
        """Return the clock's time at which `tidy` has something to do, None if never."""
        return self._tracker.next_at

    def tidy(self) -> int:
        """
        Remove leftovers that are due; return the number of element operations.

        Raises DataplaneError; then the next `sync` reads the tables.
        """
        if self._resync_reason is not None:
            return 0
        now = self._clock()
        batch = self._tracker.leftovers(now)
        self._begin()
        for transaction in self._committing.transactions(batch):
            self._dataplane.commit(transaction)
        self._resync_reason = None
        self._tracker.removed(batch)
        self._remove_idle_chains(now)
        return len(batch.operations)

    def _begin(self) -> None:
        """Count what follows as failed until it is done. A start that fails is still a start."""
        is_start = ResyncReason.START in (self._resyncing, self._resync_reason)
        self._resync_reason = ResyncReason.START if is_start else ResyncReason.FAILURE

    def _read_tables(self) -> int:
        """Read the kernel's tables; return how many elements they have."""
        self._desired.names.changed.clear()  # reading finds the names that differ
        observed = observe(self._dataplane.elements, self._families)
        self._tracker.reset(observed)
        self._loading.elements = observed.elements
        return observed.elements.total()

    # --- chains --------------------------------------------------------------------------

    def _reload_chains(self) -> None:
        """Load the program and the rules of all chains for a changed configuration."""
        # After the last commit it is known which chains there are, so nothing has to be read.
        known = {at: chain for at, chain in self._tracker.chains.loaded.items() if chain}
        self._loading.load_program(known)
        self._program_changed = False

    def _take_over_program(self) -> int:
        """
        Load the program of every table: fixed chains, needed chains, and shapes that exist.

        This includes the rules of shapes that elements still point to, so that nothing depends on
        what an earlier or another process has put there. Where the kernel refuses that (a table of
        another layout), the tables are replaced as a whole.
        """
        chains = self._loading.chains_of(self._desired.frontends, self._desired)
        if self._makes_chains_ahead:
            chains = chains_ahead(chains) | chains
        foreign = self._loading.survey(chains)
        try:
            why: object = self._loading.other_layout
            if not why:
                self._loading.load_program(chains, foreign)
        except TransactionError as error:
            if not (may_be_about_contents(error) and self._loading.exist()):
                raise
            why = error
        if why:
            log.warning("the nfproxy tables have another layout (%s): replacing them", why)
            chains, foreign = self._replace_tables(), Survey()
        self._program_changed = False
        # Those that no frontend turns out to use are idle from now on.
        self._tracker.chains.reset({**dict.fromkeys(foreign.unknown), **chains}, self._clock())
        return len(chains)

    def _restore_program(self) -> int:
        """Load the program and the chains that the tables should have; return how many."""
        uses = self._tracker.chains
        chains = {at: chain for at, chain in uses.loaded.items() if chain}
        self._loading.remove_orphans()
        foreign = self._loading.survey(chains)
        self._loading.load_program(chains, foreign)
        found = {**dict.fromkeys(foreign.unknown), **chains}
        new = {at: chain for at, chain in found.items() if at not in uses.loaded}
        uses.made_ahead(new, self._clock())
        return len(chains)

    def _replace_tables(self) -> dict[ChainKey, Chain]:
        """Load the script that `render` prints, read what it made, and return its chains."""
        chains = self._loading.chains_of(self._desired.frontends, self._desired)
        elements = sum(1 + sum(map(len, f.own_slots)) for f in self._desired.frontends.values())
        is_small = elements <= _SCRIPT_ELEMENTS and self._dataplane.transaction_limit is None
        if is_small and self._loading.stage == IN_PLACE:
            self._dataplane.load(script(self._desired, self._loading.program, self._families))
        else:
            # All elements are too much for one transaction, so they are added to empty tables:
            # beside those that packets come to.
            if self._loading.stage == IN_PLACE and self._loading.is_in_force:
                self._loading.go_to(ASIDE)
            self._loading.load_tables(chains)
        self._read_tables()
        return chains

    def _remove_idle_chains(self, now: float) -> None:
        """Remove chains that have been idle long enough; a failure only postpones that."""
        uses = self._tracker.chains
        idle = uses.due(now)
        if not idle:
            return
        try:
            self._loading.remove(idle, uses.loaded)
        except NfproxyError as error:
            log.warning("cannot remove unused chains: %s; next try in %.0f s", error, IDLE_S)
            self.cleanup_failures += 1
            uses.removal_failed(idle, now)
        else:
            uses.removed(idle)
