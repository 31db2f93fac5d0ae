"""
Brings the kernel in step with the desired state.

The cost of a change is the size of the change: the kernel's tables are read at the
start and after a failure only. Between those, what was committed is what is there.
"""

from __future__ import annotations

import enum
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from nfproxy.errors import NfproxyError, TransactionError
from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.nft import ruleset
from nfproxy.nft.chains import FIXED_CHAINS, Chain, is_ours, parse_shape
from nfproxy.plan.desired import Desired, Touched
from nfproxy.plan.frontends import AffinityListKey, FrontendKey, SharedElement
from nfproxy.reconcile.affinity import NO_ADDRESSES, all_stale_entries, stale_entries
from nfproxy.reconcile.interface import Dataplane
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.script import script
from nfproxy.reconcile.transition import ABSENT, FrontendState, Operation, clean, transition

log = logging.getLogger(__name__)

#: How long what an old verdict may still ask for is left in place. A packet passes
#: the chain in microseconds; this allows for one that was preempted inside it.
LINGER_S = 0.1

#: Unused chains are kept for a while: rollouts pass through the same counts, one after the other,
#: and making a chain takes a child process.
IDLE_S = 300.0

#: More operations than this are staged in several transactions and switched on in the last.
STAGE_OPERATIONS = 20_000


class ResyncReason(enum.StrEnum):
    """Why the reconciler read the kernel's tables as a whole."""

    START = "start"
    FAILURE = "failure"
    AUDIT = "audit"
    FOREIGN = "foreign"


class Report(msgspec.Struct, frozen=True):
    """
    What one synchronisation did.

    `operations` counts element changes, `chains_made` the chains whose rules were loaded.
    `reason` says why the tables were read, None where they were not; `elements_read` counts.
    """

    operations: int = 0
    chains_made: int = 0
    reason: ResyncReason | None = None
    elements_read: int = 0

    @property
    def resynced(self) -> bool:
        """Whether the tables were read."""
        return self.reason is not None


ChainKey = tuple[Family, str]


class Reconciler:
    """
    Keeps one node's tables equal to a Desired.

    Not safe for use by two threads at once. After an exception from `sync` the next
    call reads the kernel anew and goes on from what is really there.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        desired: Desired,
        config: NodeConfig,
        families: Sequence[Family],
        clock: Callable[[], float],
    ) -> None:
        """Remember what to work with; nothing is read or written yet."""
        self._dataplane = dataplane
        self._desired = desired
        self._program = config.program
        self._program_changed = False
        self._families = tuple(families)
        self._clock = clock
        self._resync: ResyncReason | None = ResyncReason.START
        self._states: dict[FrontendKey, FrontendState] = {}
        self._shared: set[SharedElement] = set()
        self._strays: list[Operation] = []
        self._affinity_lists: dict[AffinityListKey, frozenset[bytes]] = {}
        self._programmed: dict[ChainKey, Chain | None] = {}
        self._uses: Counter[ChainKey] = Counter()
        self._chains_of: dict[FrontendKey, tuple[str, ...]] = {}
        self._idle: dict[ChainKey, float] = {}
        self._lingering: dict[FrontendKey, float] = {}
        self._recheck: dict[AffinityListKey, float] = {}
        self._recheck_all: float | None = None
        self.cleanup_failures = 0  # attempts to remove unused chains that came to nothing

    @property
    def trusted(self) -> bool:
        """Tell whether the kernel is known to hold what was last committed."""
        return self._resync is None

    def distrust(self, reason: ResyncReason = ResyncReason.AUDIT) -> None:
        """Read the kernel's tables at the next `sync`; an earlier reason to do so remains."""
        self._resync = self._resync or reason

    def reconfigure(self, config: NodeConfig) -> None:
        """Use another node configuration; the next `sync` loads the program if that changed."""
        if config.program != self._program:
            self._program = config.program
            self._program_changed = True

    def sync(self, touched: Touched) -> Report:
        """
        Commit what the touched parts of the desired state differ by.

        Raises DataplaneError; then nothing, or an unreachable part, has been committed.
        """
        reason = self._resync
        self._fail_unless_done()
        elements_read = 0
        if reason is not None:
            elements_read = self._observe()
            touched = self._everything()
        made = self._load_chains(touched, resync=reason is not None)
        operations = self._commit(touched, resync=reason is not None)
        self._resync = None
        return Report(operations, made, reason, elements_read)

    def _fail_unless_done(self) -> None:
        """Count what follows as failed until it is done; a start that fails is still a start."""
        if self._resync is not ResyncReason.START:
            self._resync = ResyncReason.FAILURE

    # --- the difference ----------------------------------------------------------------

    def _everything(self) -> Touched:
        touched = self._desired.everything()
        touched.frontends |= self._states.keys()
        touched.shared_elements |= self._shared
        return touched

    def _commit(self, touched: Touched, *, resync: bool) -> int:
        prepare: list[Operation] = []
        stage: list[Operation] = []
        main: list[Operation] = []
        states: list[tuple[FrontendKey, FrontendState, bool]] = []
        for key in touched.frontends:
            if key.family not in self._families:
                continue
            wanted = self._desired.frontends.get(key)
            step = transition(key, self._states.get(key, ABSENT), wanted)
            prepare += step.prepare
            stage += step.stage
            main += step.main
            states.append((key, step.state, step.lingers))
        shared = self._shared_operations(touched.shared_elements)
        main += shared
        if resync:
            main += all_stale_entries(self._dataplane, self._desired, self._families)
        else:
            main += stale_entries(
                self._dataplane, self._desired, self._left(touched.affinity_lists)
            )
        # Strays may be in the way of what comes, so they go first.
        (prepare or stage)[:0] = self._strays
        for part in _parts(prepare, stage, main):
            self._dataplane.commit(part)
        now = self._clock()  # until here packets met the old tables, and that may have been long
        self._strays = []
        for key, state, lingers in states:
            self._settle(key, state, now if lingers else None)
        for operation in shared:
            element = SharedElement(operation.family, operation.set, operation.key)
            (self._shared.add if operation.add else self._shared.discard)(element)
        self._settle_affinity_lists(touched.affinity_lists, now)
        if resync:
            self._recheck_all = now + LINGER_S
        return len(prepare) + len(stage) + len(main)

    def _shared_operations(self, shared: Iterable[SharedElement]) -> list[Operation]:
        """Return deletions, then additions: a range may give way to a larger one."""
        gone: list[Operation] = []
        come: list[Operation] = []
        for element in shared:
            if element.family not in self._families:
                continue
            wanted = element in self._desired.shared_elements
            if wanted != (element in self._shared):
                (come if wanted else gone).append(Operation(wanted, *element))
        return gone + come

    def _settle(self, key: FrontendKey, state: FrontendState, lingers: float | None) -> None:
        """Take over a frontend's committed state."""
        if state == ABSENT:
            self._states.pop(key, None)
        else:
            self._states[key] = state
        if lingers is None:
            self._lingering.pop(key, None)
        else:
            self._lingering[key] = lingers + LINGER_S
        self._count_chains(key)

    # --- chains ------------------------------------------------------------------------

    def _load_chains(self, touched: Touched, *, resync: bool) -> int:
        """Make the chains that touched frontends need, before anything points to them."""
        needed: dict[Family, dict[str, Chain]] = {family: {} for family in self._families}
        for key in touched.frontends:
            wanted = self._desired.frontends.get(key)
            if wanted is not None and key.family in needed:
                for chain in wanted.chains:
                    needed[key.family][chain.name] = chain
        if resync:
            return self._load_program(needed)
        if self._program_changed:
            return self._reload_program(needed)
        text = []
        made: list[tuple[ChainKey, Chain]] = []
        for family, chains in needed.items():
            missing = [c for n, c in chains.items() if self._programmed.get((family, n)) != c]
            if missing:
                text.append(ruleset.chains_text(missing, self._program, family))
                made += [((family, chain.name), chain) for chain in missing]
        if text:
            self._dataplane.load("".join(text))
            self._programmed.update(made)
        return len(made)

    def _load_program(self, needed: dict[Family, dict[str, Chain]]) -> int:
        """
        Give every table its program: fixed chains, needed chains, and shapes found in use.

        The rules of shapes that elements still point to are written too, so that nothing
        depends on what an earlier process, or a stranger, had put there. Where that is
        refused (a table of another layout), tables are replaced as a whole.
        """
        text = []
        programmed: dict[ChainKey, Chain | None] = {}
        for family in self._families:
            chains = dict(needed[family])
            foreign = []
            for found in self._dataplane.chains(family):
                if found.name in FIXED_CHAINS or found.name in chains:
                    continue
                shape = parse_shape(found.name)
                if found.hook is not None:
                    foreign.append(found.name)
                elif shape is not None:
                    chains[found.name] = shape
                else:
                    programmed[family, found.name] = None
                    if not is_ours(found.name):
                        log.warning("chain %s of table %s is not ours", found.name, family.table)
            if foreign:
                log.warning("removing foreign base chains of table %s: %s", family.table, foreign)
            text.append(ruleset.program_text(self._program, family, chains.values(), foreign))
            programmed.update({(family, name): chain for name, chain in chains.items()})
        try:
            self._dataplane.load("".join(text))
        except TransactionError as error:
            if not any(self._dataplane.has_table(family) for family in self._families):
                raise
            log.warning("replacing tables of another layout: %s", error)
            self._replace_tables()
            return len(self._programmed)
        self._programmed = programmed
        self._program_changed = False
        self._idle = dict.fromkeys(programmed, self._clock() + IDLE_S)
        return len(programmed)

    def _reload_program(self, needed: dict[Family, dict[str, Chain]]) -> int:
        """
        Load every chain that may be in use with the rules of another configuration.

        The tables need not be read: after the last commit it is known which chains there are.
        """
        programmed = {key: chain for key, chain in self._programmed.items() if chain is not None}
        for family, chains in needed.items():
            programmed.update({(family, name): chain for name, chain in chains.items()})
        text = [
            ruleset.program_text(
                self._program, family, [c for (f, _), c in programmed.items() if f is family]
            )
            for family in self._families
        ]
        self._dataplane.load("".join(text))
        self._programmed.update(programmed)
        self._program_changed = False
        return len(programmed)

    def _replace_tables(self) -> None:
        """Load the complete script that `render` prints, then read back what it made."""
        self._dataplane.load(script(self._desired, self._program, self._families))
        self._program_changed = False
        self._programmed = {}
        for key, wanted in self._desired.frontends.items():
            for chain in wanted.chains:
                self._programmed[key.family, chain.name] = chain
        self._observe()

    def _count_chains(self, key: FrontendKey) -> None:
        """Count which chains elements point to; those nobody uses become idle."""
        wanted = self._desired.frontends.get(key)
        new = tuple(chain.name for chain in wanted.chains) if wanted else ()
        old = self._chains_of.get(key, ())
        if new == old:
            return
        if new:
            self._chains_of[key] = new
        else:
            self._chains_of.pop(key, None)
        for name in new:
            self._uses[key.family, name] += 1
            self._idle.pop((key.family, name), None)
        for name in old:
            chain = (key.family, name)
            self._uses[chain] -= 1
            if not self._uses[chain]:
                del self._uses[chain]
                self._idle[chain] = self._clock() + IDLE_S

    # --- session affinity --------------------------------------------------------------

    def _left(self, lists: Iterable[AffinityListKey]) -> list[AffinityListKey]:
        """Return the lists that endpoints have just left."""
        return [
            key
            for key in lists
            if self._affinity_lists.get(key, NO_ADDRESSES)
            - self._desired.affinity_lists.get(key, NO_ADDRESSES)
        ]

    def _settle_affinity_lists(self, lists: Iterable[AffinityListKey], now: float) -> None:
        for key in lists:
            known = self._affinity_lists.get(key, NO_ADDRESSES)
            allowed = self._desired.affinity_lists.get(key)
            if known - (allowed or NO_ADDRESSES):
                # A packet on its way may have noted it after we looked.
                self._recheck[key] = now + LINGER_S
            if allowed is None:
                self._affinity_lists.pop(key, None)
            else:
                self._affinity_lists[key] = allowed

    # --- what is due later ---------------------------------------------------------------

    def next_due(self) -> float | None:
        """Return the clock's time at which `tidy` has something to do, None if never."""
        due = [*self._lingering.values(), *self._recheck.values(), *self._idle.values()]
        if self._recheck_all is not None:
            due.append(self._recheck_all)
        return min(due, default=None)

    def tidy(self) -> int:
        """
        Remove what lingers and is due; return the number of element operations.

        Raises DataplaneError; then the next `sync` starts from a fresh reading.
        """
        if self._resync is not None:
            return 0
        now = self._clock()
        due = [key for key, when in self._lingering.items() if when <= now]
        lists = [key for key, when in self._recheck.items() if when <= now]
        operations: list[Operation] = []
        states = []
        for key in due:
            step = clean(key, self._states.get(key, ABSENT))
            operations += step.main
            states.append((key, step.state))
        every = self._recheck_all is not None and self._recheck_all <= now
        if every:
            operations += all_stale_entries(self._dataplane, self._desired, self._families)
        else:
            operations += stale_entries(self._dataplane, self._desired, lists)
        self._fail_unless_done()
        self._dataplane.commit(operations)
        for key, state in states:
            self._settle(key, state, None)
        for number in lists:
            del self._recheck[number]
        if every:
            self._recheck_all = None
        self._resync = None
        self._drop_idle_chains(now)
        return len(operations)

    def _drop_idle_chains(self, now: float) -> None:
        idle = [chain for chain, when in self._idle.items() if when <= now]
        if not idle:
            return
        try:
            # An attempt that was reported as failed may have done it all the same.
            there = {(f, chain.name) for f in self._families for chain in self._dataplane.chains(f)}
            text = "".join(ruleset.delete_chain_text(*chain) for chain in idle if chain in there)
            if text:
                self._dataplane.load(text)
        except NfproxyError as error:
            log.warning("unused chains stay for now: %s", error)
            self.cleanup_failures += 1
            for chain in idle:
                self._idle[chain] = now + IDLE_S
                self._programmed.pop(chain, None)  # or not: to be made anew before it is used
            return
        for chain in idle:
            del self._idle[chain]
            self._programmed.pop(chain, None)

    # --- the kernel's side ---------------------------------------------------------------

    def _observe(self) -> int:
        """Read the tables, and forget what was believed of them; return the number of elements."""
        observed = observe(self._dataplane, self._families)
        self._states = observed.frontends
        self._shared = observed.shared_elements
        self._strays = observed.strays
        self._affinity_lists = {}
        self._chains_of = {}
        self._uses = Counter()
        self._idle = {}
        self._lingering = {}
        self._recheck = {}
        self._recheck_all = None
        return observed.elements


def _parts(
    prepare: list[Operation], stage: list[Operation], main: list[Operation]
) -> Iterator[list[Operation]]:
    """Yield the transactions of one synchronisation, in order. Nearly always it is one."""
    if prepare:
        yield prepare
    if len(stage) + len(main) <= STAGE_OPERATIONS:
        yield stage + main
        return
    for at in range(0, len(stage), STAGE_OPERATIONS):
        yield stage[at : at + STAGE_OPERATIONS]
    yield main
