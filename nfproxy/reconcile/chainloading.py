"""Loads the fixed program and chains into the kernel, in transactions that it takes."""

from __future__ import annotations

import itertools
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from nfproxy.model.addresses import Family
from nfproxy.model.nodeconfig import ProgramConfig
from nfproxy.nft import ruleset
from nfproxy.nft.chains import (
    FIXED_CHAINS,
    Chain,
    Shape,
    clients_maps,
    is_clients_map,
    is_ours,
    parse_chain,
    parse_draw,
)
from nfproxy.nft.schema import NEXT_TABLE, OUR_TABLES
from nfproxy.nft.stages import IN_PLACE, LAYOUT, Stage, first_stage, layout_of, next_stage
from nfproxy.plan.desired import Desired
from nfproxy.plan.frontends import FrontendKey
from nfproxy.reconcile.chaintexts import chains_text, load_texts, of_family
from nfproxy.reconcile.chainuses import ChainKey
from nfproxy.reconcile.costs import TRANSACTION_S
from nfproxy.reconcile.syncreport import Dataplane

log = logging.getLogger(__name__)

_Chains = Mapping[ChainKey, Chain]

# What a new rule takes for each element of a map that it looks up (nft_validate_register_store).
_ELEMENT_S = 55e-9
_LOOK_UP = re.compile(r"map @([\w-]+)")

# More such rules than a chain has.
_MOST_RULES = 12


class Survey(dict[Family, list[str]]):
    """
    The base chains of other processes, by family.

    `unknown` are our chains whose names do not say which rules they have.
    """

    unknown: Sequence[ChainKey] = ()


class ChainLoading:
    """
    Loads chains for a program's configuration: `program`, which may change.

    `elements` is how many elements each map has, about: the kernel checks them for each new rule
    that looks something up there. `stage` says which tables are worked on. `other_layout` says
    which layout one of them had at `begin`, "" where they have this one.
    """

    def __init__(
        self, dataplane: Dataplane, program: ProgramConfig, families: Collection[Family]
    ) -> None:
        """Load nothing yet."""
        self.program = program
        self.stage = IN_PLACE
        self.other_layout = ""
        self.elements = Counter[tuple[Family, str]]()
        self._dataplane = dataplane
        self._families = families

    # --- which tables --------------------------------------------------------------------

    def begin(self, *, is_start: bool) -> None:
        """
        Find out which tables to work on, and remove what is left of a change of layout.

        A table whose comment names no layout is one that another process made. A start takes it for
        one of another layout: whose elements it has is unknown.
        """
        self.remove_orphans()
        self._find_stage()
        rows = (self._dataplane.table_row(family, self.stage.table) for family in self._families)
        layouts = {layout_of(row.comment) for row in rows if row} - {LAYOUT}
        named = sorted(layout for layout in layouts if layout is not None)
        self.other_layout = f"layout {named[0]}" if named else ""
        if is_start and None in layouts:
            self.other_layout = self.other_layout or "none is named in its comment"

    def remove_orphans(self) -> None:
        """Remove tables of our names that another process made, owned, and left behind."""
        for name, family in itertools.product(OUR_TABLES, self._families):
            row = self._dataplane.table_row(family, name)
            if row is not None and row.is_orphan:
                log.warning(
                    "table %s %s has the flag persist, which another process gave it: removing it",
                    family.table,
                    name,
                )
                # Alone: `add table` before it would be refused.
                self._dataplane.load(f"delete table {family.table} {name}\n")

    def _find_stage(self) -> None:
        if not self._existing(NEXT_TABLE):
            self.go_to(IN_PLACE)
            return
        self.go_to(
            first_stage(
                {name for name in OUR_TABLES if self._hooked_chains(name, family)}
                for family in self._families
            )
        )
        if self.stage == IN_PLACE:
            self._remove_tables(NEXT_TABLE)

    def go_to(self, stage: Stage) -> None:
        """Work on the tables of a stage from now on."""
        self.stage = stage
        self._dataplane.table = stage.table

    @property
    def is_in_force(self) -> bool:
        """Whether packets come to one of the tables that are worked on."""
        return any(self._hooked_chains(self.stage.table, family) for family in self._families)

    def exist(self) -> bool:
        """Return whether any of the tables that are worked on is there."""
        return bool(self._existing(self.stage.table))

    def change_over(self) -> None:
        """
        Let packets come to the tables that are filled, in place of those that were in force.

        These are removed a moment later: a packet may be on its way in them.
        """
        before = self.stage
        for families in self._at_once():
            self._dataplane.load("".join(self._change_over_text(f, before) for f in families))
        self.go_to(next_stage(before))
        self._remove_tables(before.other_table)

    def _change_over_text(self, family: Family, before: Stage) -> str:
        text = ruleset.program_text(self.program, family, (), stage=before._replace(hooked=True))
        hooked = self._hooked_chains(before.other_table, family)
        gone = (ruleset.delete_chain_text(family, name, before.other_table) for name in hooked)
        return text + "".join(gone)

    def _at_once(self) -> Iterable[Collection[Family]]:
        """Return the families whose programs are loaded in one transaction: all, if it may be."""
        if self._dataplane.transaction_limit is None:
            return [self._families]
        return [(family,) for family in self._families]

    def _hooked_chains(self, table: str, family: Family) -> list[str]:
        """Return the base chains of a table that the kernel runs."""
        row = self._dataplane.table_row(family, table)
        if row is None or row.is_dormant:
            return []
        return [chain.name for chain in self._dataplane.chains(family, table) if chain.hook]

    def _existing(self, table: str) -> list[Family]:
        return [family for family in self._families if self._dataplane.table_row(family, table)]

    def _remove_tables(self, table: str) -> None:
        if found := self._existing(table):
            texts = (ruleset.delete_table_text(family, table) for family in found)
            self._dataplane.load("".join(texts))

    # --- their chains --------------------------------------------------------------------

    def chains_of(self, keys: Iterable[FrontendKey], desired: Desired) -> dict[ChainKey, Chain]:
        """Return the chains that frontends of this node's families need."""
        return {
            (key.family, chain.name): chain
            for key in keys
            if key.family in self._families and (wanted := desired.frontends.get(key))
            for chain in wanted.chains
        }

    def load_chains(self, chains: _Chains) -> None:
        """Load chains into tables that have the program."""
        self._load(chains, lambda _, first: chains_text(first, self.program, self.stage))

    def load_program(
        self, chains: _Chains, foreign: Mapping[Family, list[str]] | None = None
    ) -> None:
        """Load the program and chains; remove base chains of other processes."""
        others = foreign or {}
        self._load(
            chains,
            lambda families, first: "".join(
                ruleset.program_text(
                    self.program, f, of_family(first, f), others.get(f, ()), self.stage
                )
                for f in families
            ),
        )

    def load_tables(self, chains: _Chains) -> None:
        """Put new tables with the program and chains, without elements, in place of the old."""
        self.elements.clear()
        self._load(
            chains,
            lambda families, first: "".join(
                ruleset.replacement_text(self.program, f, of_family(first, f), self.stage)
                for f in families
            ),
        )

    def survey(self, chains: dict[ChainKey, Chain]) -> Survey:
        """Look at the chains that the tables have; add those with known rules to `chains`."""
        foreign, unknown = Survey(), list[ChainKey]()
        for family in self._families:
            for found in self._dataplane.chains(family):
                where, chain = (family, found.name), parse_chain(found.name)
                if found.name in FIXED_CHAINS or where in chains:
                    continue
                if found.hook is not None:
                    foreign.setdefault(family, []).append(found.name)
                elif chain is not None:
                    chains[where] = chain
                    for draw in chain.draws if isinstance(chain, Shape) else ():
                        chains.setdefault((family, draw.name), draw)
                elif is_ours(found.name):
                    unknown.append(where)
        for family, names in foreign.items():
            log.warning(
                "table %s nfproxy: removing base chains of another process: %s",
                family.table,
                ", ".join(names),
            )
        foreign.unknown = unknown
        return foreign

    def remove(self, idle: Sequence[ChainKey], loaded: Mapping[ChainKey, Chain | None]) -> None:
        """Remove idle chains, and the maps of clients that only they use."""
        if text := _removal_text(self._dataplane, self._families, idle, loaded):
            self._dataplane.load(text)

    def soon(self, chains: _Chains) -> _Chains:
        """Return those of some chains that are needed soon which one transaction may load."""
        left, some = 1.0, dict(chains)
        if self._are_cheap(len(chains)):
            return some
        for where, chain in chains.items():
            text = chains_text({where: chain}, self.program, self.stage)
            left -= self._share_of(where[0], text)
            if left < 0:
                del some[where]
        return some

    def _are_cheap(self, count: int) -> bool:
        """Return whether so many chains take little, or cannot be divided."""
        largest = max(self.elements.values(), default=0)
        return count <= 1 or count * _MOST_RULES * _ELEMENT_S * largest <= TRANSACTION_S

    def _share_of(self, family: Family, text: str) -> float:
        """Return what share of a transaction the rules of a chain take by what they look up."""
        names = _LOOK_UP.findall(text)
        return sum([self.elements[family, name] for name in names]) * _ELEMENT_S / TRANSACTION_S

    def _load(self, chains: _Chains, text: Callable[[Collection[Family], _Chains], str]) -> None:
        """
        Load the text for some chains, in one transaction if it takes as many.

        Otherwise each family has its own, and further chains follow the first portion: no element
        of this sync points to them yet, and the rules of each are replaced at once.
        """
        limit = self._dataplane.transaction_limit
        share = None if self._are_cheap(len(chains)) else self._share_of
        for portion in load_texts(
            chains, self.program, text, self._families, limit, self.stage, share
        ):
            self._dataplane.load(portion)


def _removal_text(
    dataplane: Dataplane,
    families: Iterable[Family],
    idle: Sequence[ChainKey],
    loaded: Mapping[ChainKey, Chain | None],
) -> str:
    """Return the text that removes idle chains, and the maps of clients that only they use."""
    families = tuple(families)
    # An attempt that was reported as failed may have removed them all the same.
    there = {(family, chain.name) for family in families for chain in dataplane.chains(family)}
    # Rules lead to chains that draw, so these go last.
    ordered = sorted(idle, key=lambda chain: parse_draw(chain[1]) is not None)
    table = dataplane.table
    text = "".join(ruleset.delete_chain_text(*chain, table) for chain in ordered if chain in there)
    gone = set(idle)
    for family in {family for family, name in idle if parse_chain(name) is None}:
        used = {
            map_name
            for (of, name), chain in loaded.items()
            if of is family and (of, name) not in gone
            for map_name in clients_maps(name, chain)
        }
        held = (name for name in dataplane.set_names(family) if is_clients_map(name))
        unused = (name for name in held if name not in used)
        text += "".join(ruleset.delete_map_text(family, name, table) for name in unused)
    return text
