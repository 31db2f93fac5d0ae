"""``nfproxy diff``: compare the desired state with the kernel."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import groupby

import click

from nfproxy.cli.difftext import difference_lines, difference_row, equal_line
from nfproxy.cli.inputs import asked_services, planned
from nfproxy.cli.options import allow_empty_option, files_option
from nfproxy.cli.output import output_option, print_data, warn
from nfproxy.cli.programdiff import ProgramDifference, compare_programs
from nfproxy.cli.textlayout import is_terminal, terminal_width
from nfproxy.config.flags import Flags, GroupedCommand, context_flags
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
from nfproxy.views.compare import FOREIGN, Difference, compare


@click.command("diff", cls=GroupedCommand, short_help="Compare the objects with the kernel.")
@click.argument("what", nargs=-1, metavar="[WHAT]...")
@files_option
@output_option(
    "table", "json", "yaml", "nft", help="nft: the transaction that would end the differences."
)
@allow_empty_option
@context_flags
def command(
    what: tuple[str, ...], files: tuple[str, ...], output: str, allow_empty: bool, flags: Flags
) -> None:
    """
    Compare the tables that this node should have with those in the kernel, and change nothing.

    In terms of Services and endpoints, the kernel's state: "missing", "surplus" (no object asks
    for it), "differs". The slot of an endpoint makes no difference. Chains are compared rule by
    rule. Where a whole table is missing, that is one row; -v=1 lists what was in it, too.

    WHAT, a Service (NAMESPACE/NAME) or an address of one, asks about that Service, and about rules
    that all Services share.

    "foreign" is what another process has put there and nfproxy does not use: no difference.

    Exit status: 0 equal, 1 different, 2 failed.
    """
    require_privileges()
    is_empty_allowed = allow_empty or output != "nft"
    planner, source = planned(
        files,
        flags,
        own_addresses(),
        allow_empty=is_empty_allowed,
        allow_unusable=allow_empty,
    )
    only = asked_services(planner, what) if what else None
    families = families_to_program()
    with closing(Kernel()) as kernel:
        programs = compare_programs(planner, families, kernel.transaction_limit)
        if programs.warning:
            warn(programs.warning)
        readable = [family for family in families if family not in programs.replace]
        observed = observe(kernel.elements, readable)
        rows, operations = compare(planner.desired, observed, families, only)
    is_equal = all(row.change == FOREIGN for row in (*programs.rows, *rows))
    if output == "nft":
        click.echo(_transaction(planner, families, programs, operations), nl=False)
    elif output != "table":
        print_data([*programs.rows, *rows], output)
    else:
        replaced = {family.label for family in programs.replace}
        if flags.given.get("v", "0") == "0":
            rows = [row for row in rows if row.family not in replaced]
        _print([*programs.rows, *rows])
        if is_equal:
            click.echo(equal_line(planner.desired, source))
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


def _print(rows: Sequence[Difference]) -> None:
    if not is_terminal():
        for row in rows:
            click.echo("\t".join(difference_row(row)))
    elif rows:
        for line in difference_lines(rows, terminal_width()):
            click.echo(line)
