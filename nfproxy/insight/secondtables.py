"""
Tables ``nfproxy-next`` in words: tables of another layout are replaced by means of them.

They may be left by a process that ended meanwhile, or by a return to a version without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from nfproxy.model.addresses import Family
from nfproxy.nft.schema import NEXT_TABLE, TABLE
from nfproxy.nft.stages import FamilyTables


class SecondTables(NamedTuple):
    """
    What is to say of them; `look` is "" where nothing is to do.

    `is_bad` says that packets may get what the objects do not ask for.
    """

    text: str
    look: str
    is_bad: bool


def second_tables(found: Mapping[Family, FamilyTables], *, runs: bool) -> SecondTables | None:
    """Return what to say, None where there are none; `runs` says whether nfproxy does."""
    held = {family: one for family, one in found.items() if NEXT_TABLE in one.there}
    if not held:
        return None
    both = [f for f, one in held.items() if {TABLE, NEXT_TABLE} <= one.in_force]
    if both:
        return SecondTables(
            f"{_names(both)} {_are(both)} in force beside the tables that nfproxy works with, as "
            "after a return to an older version: the kernel asks them for Services that they have",
            "; ".join(delete_second(family) for family in both),
            is_bad=True,
        )
    serving = [family for family, one in held.items() if one.serving == NEXT_TABLE]
    what = f"{_names(serving)} {_are(serving)} in force" if serving else ""
    idle = [family for family in held if family not in serving]
    if idle:
        what += (", " if what else "") + f"{_names(idle)} {_are(idle)} not in force"
    if runs:
        left = "" if serving else ". If that was left, the next start of nfproxy removes it"
        text = f"tables of another layout are being replaced: {what}{left}"
        return SecondTables(text, "", is_bad=False)
    return SecondTables(
        f"a change of the tables' layout did not end: {what}. What is in force serves on, and the "
        "next start of nfproxy goes on with the change",
        "start nfproxy",
        is_bad=False,
    )


def delete_second(family: Family) -> str:
    """Return the command that removes a family's second table."""
    return f"nft delete table {family.table} {NEXT_TABLE}"


def _names(families: Iterable[Family]) -> str:
    return " and ".join(f"{family.table} {NEXT_TABLE}" for family in sorted(families))


def _are(families: list[Family]) -> str:
    return "are" if len(families) > 1 else "is"
