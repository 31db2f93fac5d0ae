"""
The part of ``nfproxy diff`` about tables, chains and sets; ``views.compare`` compares elements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher

import msgspec

from nfproxy.dataplane.ourtables import our_tables
from nfproxy.dataplane.program import ChainContents, Program, programs_in_kernel, programs_of_texts
from nfproxy.dataplane.rulelisting import Place, rules_in_kernel, rules_of_texts
from nfproxy.dataplane.strangers import Stranger, strangers_in_kernel
from nfproxy.errors import MissingFeatureError
from nfproxy.model.addresses import Family
from nfproxy.netlink.sockets import NftSocket
from nfproxy.nft import ruleset
from nfproxy.nft.chains import FIXED_CHAINS, Chain
from nfproxy.nft.schema import NEXT_TABLE, SCHEMAS, TABLE, verdict
from nfproxy.nft.stages import LAYOUT, FamilyTables
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.chaintexts import load_texts, of_family
from nfproxy.reconcile.script import wanted_chains
from nfproxy.text import one_line, plural, shown_name
from nfproxy.views.compare import DIFFERS, FOREIGN, MISSING, SURPLUS, Difference

#: So many chains are shown rule by rule; a table that another program has rewritten has more.
_MOST_SHOWN = 20

_OTHER_RULES = "other rules"  # where nft cannot list them


class ProgramDifference(msgspec.Struct, frozen=True):
    """
    How the tables differ, and the nft text that ends the differences.

    Families in `replace` have no table, or one of another layout: theirs is created again as a
    whole. `mend` is the text that gives the other families' tables their program, before elements
    change. `clear` is the text that removes foreign base chains, after that. `warning` says why
    rules could not be compared, "" where they were.
    """

    rows: list[Difference]
    replace: tuple[Family, ...]
    mend: dict[Family, str]
    clear: str
    warning: str


def compare_programs(
    planner: Planner, families: Sequence[Family], limit: int | None
) -> ProgramDifference:
    """
    Compare each family's table in the kernel with the one it should have.

    `limit` is the most bytes that the kernel takes in one transaction, None for no limit.
    """
    with NftSocket() as netlink:
        ours = our_tables(netlink)
    held = programs_in_kernel(families)
    wanted, warning = _wanted(planner, families, held, limit)
    texts = _RuleTexts(planner, families, limit, _differing(held, wanted))
    rows: list[Difference] = []
    replace: list[Family] = []
    mend: dict[Family, str] = {}
    clear = ""
    for family in families:
        have, want = held.get(family), wanted[family]
        if (tables := ours.get(family)) and NEXT_TABLE in tables.there:
            rows.append(_second_row(family, tables))
            clear += ruleset.delete_table_text(family, NEXT_TABLE)
        if tables and tables.serving == NEXT_TABLE:
            not_in_force = f"not in force: {family.table} {NEXT_TABLE} is, in its place"
            change = MISSING if have is None else DIFFERS
            rows.append(_row(family, f"table {family.table} {TABLE}", change, (not_in_force,)))
            replace.append(family)
        elif have is None:
            count = sum(1 for key in planner.desired.frontends if key.family is family)
            what = f"no Service works over {family.label} on this node"
            details = (f"{what} ({plural(count, 'frontend')})",) if count else ()
            rows.append(_row(family, f"table {family.table} {TABLE}", MISSING, details))
            replace.append(family)
        elif misfits := _misfits(have, want):
            details = (f"of another layout: {', '.join(misfits)}",)
            rows.append(_row(family, f"table {family.table} {TABLE}", DIFFERS, details))
            replace.append(family)
        elif found := [*_rows(family, have, want, texts)]:
            rows += found
            mend[family] = _program_text(planner, family)
            clear += _clear_text(family, have, want)
    readable = [family for family in families if family not in replace]
    rows += [
        _row(one.family, f"{one.kind} {shown_name(one.name)}", FOREIGN, _details(one))
        for one in strangers_in_kernel(readable)
        if not one.is_hooked
    ]
    return ProgramDifference(rows, tuple(replace), mend, clear, warning)


def _wanted(
    planner: Planner,
    families: Sequence[Family],
    held: Mapping[Family, Program],
    limit: int | None,
) -> tuple[Mapping[Family, Program], str]:
    try:
        return programs_of_texts(_texts(planner, families, limit), families), ""
    except MissingFeatureError as error:
        right = {family: _as_held(planner, family, held.get(family)) for family in families}
        return right, f"rules are not compared: {error}"


def _texts(planner: Planner, families: Sequence[Family], limit: int | None) -> Iterator[str]:
    """Return the nft texts that make the wanted program."""
    program = planner.config.program
    chains = {
        (family, name): chain
        for family in families
        for name, chain in wanted_chains(planner.desired, family).items()
    }

    def whole(of: Collection[Family], some: Mapping[tuple[Family, str], Chain]) -> str:
        return "".join(ruleset.program_text(program, one, of_family(some, one)) for one in of)

    return load_texts(chains, program, whole, families, limit)


class _RuleTexts:
    """The rules of chains that differ, as nft prints them; read where there are any."""

    def __init__(
        self,
        planner: Planner,
        families: Sequence[Family],
        limit: int | None,
        places: Sequence[Place],
    ) -> None:
        self._held = rules_in_kernel(places) if places else {}
        self._wanted = (
            rules_of_texts(_texts(planner, families, limit), places) if self._held else {}
        )

    def changes(self, place: Place) -> list[str]:
        """Return the rules that one of both has alone, in order: "- RULE", "+ RULE"."""
        if place not in self._held or place not in self._wanted:
            return []
        have, want = self._held[place], self._wanted[place]
        lines: list[str] = []
        for tag, i, j, k, m in SequenceMatcher(None, have, want, autojunk=False).get_opcodes():
            if tag != "equal":
                lines += [f"- {one_line(rule)}" for rule in have[i:j]]
                lines += [f"+ {one_line(rule)}" for rule in want[k:m]]
        return lines


def _differing(held: Mapping[Family, Program], wanted: Mapping[Family, Program]) -> list[Place]:
    """Return the chains whose rules differ, so many as are shown."""
    found = [
        (family, name)
        for family, have in held.items()
        for name in sorted(have.chains.keys() & wanted[family].chains.keys())
        if have.chains[name].rules != wanted[family].chains[name].rules
    ]
    return found[:_MOST_SHOWN]


def _as_held(planner: Planner, family: Family, held: Program | None) -> Program:
    """Return the wanted program by names alone, because its rules are unknown."""
    nothing = ChainContents(())
    chains = held.chains if held else {}
    names = (*FIXED_CHAINS, *wanted_chains(planner.desired, family))
    sets = {name: layout for name, layout in (held.sets if held else {}).items() if name in SCHEMAS}
    return Program(False, {name: chains.get(name, nothing) for name in names}, sets)


def _program_text(planner: Planner, family: Family) -> str:
    chains = wanted_chains(planner.desired, family).values()
    return ruleset.program_text(planner.config.program, family, chains)


def _misfits(have: Program, want: Program) -> list[str]:
    """Return what is not changed in place: sets of another layout, chains at another hook."""
    sets = [n for n in sorted(have.sets.keys() & want.sets.keys()) if have.sets[n] != want.sets[n]]
    chains = [
        n
        for n in sorted(have.chains.keys() & want.chains.keys())
        if have.chains[n].hook != want.chains[n].hook
    ]
    layout = [f"layout {have.layout}"] if have.layout not in (None, LAYOUT) else []
    return [*layout, *(f"set {name}" for name in sets), *(f"chain {name}" for name in chains)]


def _rows(family: Family, have: Program, want: Program, texts: _RuleTexts) -> Iterator[Difference]:
    if have.dormant:
        dormant = f"dormant: the kernel does not use it, so no Service works over {family.label}"
        yield _row(family, f"table {family.table} {TABLE}", DIFFERS, (dormant,))
    for name in sorted(want.sets.keys() - have.sets.keys()):
        yield _row(family, f"set {name}", MISSING)
    for name in sorted(want.chains.keys() - have.chains.keys()):
        yield _row(family, f"chain {name}", MISSING)
    for name in _foreign_base_chains(have, want):
        foreign = "another process's, and packets come to it"
        yield _row(family, f"chain {shown_name(name)}", SURPLUS, (foreign,))
    for name in sorted(want.chains.keys() & have.chains.keys()):
        changes = _chain_changes(have.chains[name], want.chains[name])
        rules = texts.changes((family, name))
        if details := (*(one for one in changes if not (rules and one == _OTHER_RULES)), *rules):
            yield _row(family, f"chain {name}", DIFFERS, details)


def _row(family: Family, subject: str, change: str, details: tuple[str, ...] = ()) -> Difference:
    return Difference(family.label, "", subject, change, details)


def _second_row(family: Family, tables: FamilyTables) -> Difference:
    """Return that there is a second table."""
    serves = "packets come to it" if NEXT_TABLE in tables.in_force else "no packet comes to it"
    details = (
        f"{serves}; tables of another layout are being replaced by means of it, or that did not "
        "end: the next start of nfproxy removes it",
    )
    return _row(family, f"table {family.table} {NEXT_TABLE}", SURPLUS, details)


def _foreign_base_chains(have: Program, want: Program) -> list[str]:
    """Return the base chains of others: packets come to them, whatever nfproxy's chains do."""
    return [n for n in sorted(have.chains.keys() - want.chains.keys()) if have.chains[n].hook]


def _details(stranger: Stranger) -> tuple[str, ...]:
    return (f"another process's; unless it is used, remove it: {stranger.command}",)


def _chain_changes(have: ChainContents, want: ChainContents) -> Iterator[str]:
    if have.policy != want.policy:
        yield f"policy {_policy(have)} → {_policy(want)}"
    if len(have.rules) != len(want.rules):
        yield f"{plural(len(have.rules), 'rule')} → {plural(len(want.rules), 'rule')}"
    elif have.rules != want.rules:
        yield _OTHER_RULES


def _policy(chain: ChainContents) -> str:
    return "none" if chain.policy is None else str(verdict(chain.policy))


def _clear_text(family: Family, have: Program, want: Program) -> str:
    """Return the text that removes foreign base chains."""
    where = f"{family.table} {TABLE}"
    chains = _foreign_base_chains(have, want)
    return "".join(
        (
            *(f"flush chain {where} {name}\n" for name in chains),
            *(f"delete chain {where} {name}\n" for name in chains),
        )
    )
