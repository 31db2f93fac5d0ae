"""``nfproxy diff``: compare the desired state with the kernel."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby

import click

from nfproxy.cli.inputs import allow_empty_option, files_option, planned
from nfproxy.cli.output import OutputRow, output_option, print_data, print_table, warn
from nfproxy.cli.programdiff import ProgramDifference, compare_programs
from nfproxy.config.flags import Flags, GroupedCommand, node_flags
from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.probes import families_to_program, require_privileges
from nfproxy.host.addresses import own_addresses
from nfproxy.model.addresses import Family
from nfproxy.nft import ruleset, schema
from nfproxy.nft.chains import Chain, Shape
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.script import element_text, script, wanted_chains
from nfproxy.reconcile.transition import Operation
from nfproxy.views.compare import Difference, compare

_COLOURS = {
    **{"added": "green", "removed": "red", "leftover": "red"},
    **{"changed": "yellow", "foreign": "blue"},
}


@click.command("diff", cls=GroupedCommand, short_help="Compare the objects with the kernel.")
@files_option
@output_option(
    "table", "json", "yaml", "nft", help="nft: the transaction that would end the differences."
)
@allow_empty_option
@node_flags
def command(files: tuple[str, ...], output: str, allow_empty: bool, flags: Flags) -> None:
    """
    Compare the tables that this node should have with those in the kernel, and change nothing.

    In terms of Services and endpoints: "added" is missing in the kernel, "removed" is there and
    should not be. The slot of an endpoint makes no difference. Chains are compared rule by rule.

    "foreign" is what another process has put there and nfproxy does not use: no difference.

    Exit status: 0 equal, 1 different, 2 failed.
    """
    require_privileges()
    planner = planned(files, flags, own_addresses(), allow_empty=allow_empty or output != "nft")
    families = families_to_program()
    with closing(Kernel()) as kernel:
        programs = compare_programs(planner, families, kernel.transaction_limit)
        if programs.warning:
            warn(programs.warning)
        readable = [family for family in families if family not in programs.replace]
        rows, operations = compare(planner.desired, observe(kernel.elements, readable), families)
    rows = [*programs.rows, *rows]
    is_equal = all(row.change == "foreign" for row in rows)
    if output == "nft":
        click.echo(_transaction(planner, families, programs, operations), nl=False)
    elif output != "table":
        print_data(rows, output)
    else:
        if rows:
            titles = ("CHANGE", "FAMILY", "SERVICE", "WHAT", "DETAILS")
            print_table(titles, map(_table_row, rows))
        if is_equal:
            click.echo("equal: the kernel holds what it should")
    sys.exit(0 if is_equal else 1)


def _transaction(
    planner: Planner,
    families: Sequence[Family],
    programs: ProgramDifference,
    operations: Sequence[Operation],
) -> str:
    """
    Return the nft script that ends the differences.

    New chains come before the elements that point to them. Foreign base chains go last.
    """
    parts = [script(planner.desired, planner.config.program, programs.replace)]
    changes = [o for o in operations if o.family not in programs.replace]
    for family in families:
        chains = _chains_for(planner, family, changes)
        if family in programs.mend:
            parts.append(programs.mend[family])
        elif chains:
            parts.append(ruleset.chains_text(chains, planner.config.program, family))
    for (add, family, name), group in groupby(changes, key=lambda o: (o.add, o.family, o.set)):
        rows = ",\n".join(f"\t{element_text(planner.desired, o)}" for o in group)
        verb = "add" if add else "delete"
        parts.append(f"{verb} element {family.table} {schema.TABLE} {name} {{\n{rows}\n}}\n")
    return "".join((*parts, programs.clear))


def _chains_for(planner: Planner, family: Family, operations: Sequence[Operation]) -> list[Chain]:
    """Return the chains that added verdicts point to; adding one that exists changes nothing."""
    names = {
        o.value.chain
        for o in operations
        if o.add and o.family is family and isinstance(o.value, schema.Verdict)
    }
    wanted = wanted_chains(planner.desired, family)
    shapes = [chain for n, chain in wanted.items() if n in names and isinstance(chain, Shape)]
    names |= {draw.name for shape in shapes for draw in shape.draws}
    return [chain for n, chain in wanted.items() if n in names]


def _table_row(row: Difference) -> OutputRow:
    start = (row.change, row.family)
    return OutputRow(
        (*start, row.service, row.subject, "\n".join(row.details)),
        _COLOURS[row.change],
        plain=(*start, row.service or "-", row.subject, "; ".join(row.details)),
    )
