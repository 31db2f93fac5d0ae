"""
The layout of our tables, and what is done where those in the kernel have another one.

A table has one of two names while it is filled, and packets come to it or not.

Nearly always the table is in force, and its elements change in place. Tables of another layout
serve until new ones are full. As nf_tables renames no table, the new ones are filled under a second
name, without base chains; then these pass from the old tables to them in one transaction. The same
brings everything back to the first name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from nfproxy.nft.schema import NEXT_TABLE, TABLE

#: Part of the table's comment. nfproxy replaces a table of another layout as a whole.
LAYOUT = 3

TABLE_COMMENT = f"nfproxy layout {LAYOUT}, managed: changes are undone"
_LAYOUT_IN_COMMENT = re.compile(r"nfproxy layout (\d+)\b")


def layout_of(comment: str) -> int | None:
    """Return the layout that a table's comment names, None if it names none."""
    found = _LAYOUT_IN_COMMENT.match(comment)
    return int(found[1]) if found else None


class Stage(NamedTuple):
    """The table that is worked on. `hooked`: it has base chains, so packets come to it."""

    table: str
    hooked: bool

    @property
    def other_table(self) -> str:
        """The table with the other name."""
        return NEXT_TABLE if self.table == TABLE else TABLE


IN_PLACE = Stage(TABLE, hooked=True)
ASIDE = Stage(NEXT_TABLE, hooked=False)  # tables of another layout are in force
BACK = Stage(TABLE, hooked=False)  # those of the second name are in force


def first_stage(in_force: Iterable[Collection[str]]) -> Stage:
    """
    Return where to begin, whatever an earlier process may have left.

    `in_force` has the names of our tables that packets come to, for each family.
    """
    is_aside = any(NEXT_TABLE in names and TABLE not in names for names in in_force)
    return BACK if is_aside else IN_PLACE


def next_stage(stage: Stage) -> Stage:
    """Return the stage after the change-over to the tables of one."""
    return BACK if stage == ASIDE else IN_PLACE


class FamilyTables(NamedTuple):
    """
    Our tables of one family, by name.

    Packets come to those `in_force`; they come to none that is `dormant`. `other_layout` has those
    whose comment names another layout than that of this version.
    """

    there: frozenset[str]
    in_force: frozenset[str]
    dormant: frozenset[str] = frozenset()
    other_layout: frozenset[str] = frozenset()

    @property
    def serving(self) -> str:
        """The table that packets come to; the usual one if it is one of two, or if none is."""
        return NEXT_TABLE if self.in_force == {NEXT_TABLE} else TABLE
