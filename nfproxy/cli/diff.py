"""``nfproxy diff``: desired state against the kernel."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import msgspec
import yaml
from rich.console import Console
from rich.table import Table

from nfproxy.app import families_of_host
from nfproxy.cli.inputs import files_option, planned, warn
from nfproxy.config.flags import Flags, GroupedCommand, node_flags
from nfproxy.dataplane.diagnose import require_privileges
from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.rules import Program, program_in_kernel, program_of_text
from nfproxy.errors import MissingFeatureError
from nfproxy.model.addresses import Family
from nfproxy.nft import ruleset, schema
from nfproxy.nft.chains import FIXED_CHAINS, Chain, is_ours
from nfproxy.reconcile.compare import Difference, compare
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.planner import Planner
from nfproxy.reconcile.script import script, wanted_chains
from nfproxy.reconcile.transition import Operation

_COLOURS = {"added": "green", "removed": "red", "leftover": "red", "changed": "yellow"}


@click.command("diff", cls=GroupedCommand)
@files_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "nft"]),
    default="table",
    show_default=True,
    help="nft: the transaction that would be applied.",
)
@node_flags
def command(files: tuple[str, ...], output: str, flags: Flags) -> None:
    """
    Compare what this node's tables should be with what they are, and change nothing.

    In terms of Services and endpoints: "added" is what the kernel lacks, "removed" what it has
    and should not. In which slot an endpoint sits makes no difference. Chains are compared
    rule by rule.

    Exit status: 0 equal, 1 different, 2 failed.
    """
    require_privileges()
    planner, _ = planned(files, flags)
    families = families_of_host()
    kernel = Kernel()
    try:
        missing = [family for family in families if not kernel.has_table(family)]
        rows, operations = compare(planner.desired, observe(kernel, families), families)
    finally:
        kernel.close()
    chain_rows, text = _compare_program(planner, families, missing)
    rows = [*chain_rows, *rows]
    if output == "nft":
        click.echo(_transaction(planner, families, missing, text, operations), nl=False)
    elif output == "table":
        _print_table(rows)
    else:
        data = msgspec.to_builtins(rows)
        click.echo(
            msgspec.json.format(msgspec.json.encode(data), indent=2).decode()
            if output == "json"
            else yaml.safe_dump(data, sort_keys=False).rstrip()
        )
    sys.exit(1 if rows else 0)


def _compare_program(
    planner: Planner, families: Sequence[Family], missing: Sequence[Family]
) -> tuple[list[Difference], str]:
    """Return the rows about tables and chains, and the text that would mend them."""
    rows = [
        Difference(family.label, "", f"table {family.table} nfproxy", "added") for family in missing
    ]
    present = tuple(family for family in families if family not in missing)
    if not present:
        return rows, ""
    config = planner.config
    text = "".join(
        ruleset.program_text(config, family, wanted_chains(planner.desired, family).values())
        for family in present
    )
    held = program_in_kernel(present)
    try:
        right = program_of_text(text, present)
    except MissingFeatureError as error:
        warn(f"rules are not compared: {error}")
        right = {name: chain for name, chain in held.items() if _expected(planner, *name)}
    found = list(_chain_rows(held, right))
    if not found:
        return rows, ""
    foreign = {
        family: [name for f, name in held if f is family and not is_ours(name)]
        for family in present
    }
    mend = "".join(
        ruleset.program_text(
            config, family, wanted_chains(planner.desired, family).values(), foreign[family]
        )
        for family in present
    )
    return [*rows, *found], mend


def _expected(planner: Planner, family: Family, name: str) -> bool:
    return name in FIXED_CHAINS or name in wanted_chains(planner.desired, family)


def _chain_rows(held: Program, right: Program) -> list[Difference]:
    rows = []
    for family, name in sorted(held.keys() | right.keys()):
        have, want = held.get((family, name)), right.get((family, name))
        subject = f"chain {name}"
        if want is None:
            if not is_ours(name):
                rows.append(Difference(family.label, "", subject, "removed", ("not ours",)))
            # Our own chains are kept a while after their last use.
        elif have is None:
            rows.append(Difference(family.label, "", subject, "added"))
        elif have != want:
            details = []
            if have.attachment != want.attachment:
                details.append("attached to another hook, or with another policy")
            if have.rules != want.rules:
                details.append(
                    f"{len(have.rules)} rules there, {len(want.rules)} expected"
                    if len(have.rules) != len(want.rules)
                    else "other rules"
                )
            rows.append(Difference(family.label, "", subject, "changed", tuple(details)))
    return rows


def _transaction(
    planner: Planner,
    families: Sequence[Family],
    missing: Sequence[Family],
    text: str,
    operations: list[Operation],
) -> str:
    """Return the nft script that ends the differences."""
    parts = [script(planner.desired, planner.config, missing), text]
    if not text:
        for family in families:
            chains: list[Chain] = []
            if family not in missing:
                chains = _chains_for(planner, family, operations)
            if chains:
                parts.append(ruleset.chains_text(chains, planner.config, family))
    for operation in operations:
        if operation.family in missing:
            continue
        described = schema.SCHEMAS[operation.set]
        element = schema.format_element(
            described, operation.key, operation.value if operation.add else None, operation.family
        )
        parts.append(
            f"{'add' if operation.add else 'delete'} element {operation.family.table} "
            f"{schema.TABLE} {operation.set} {{ {element} }}\n"
        )
    return "".join(parts)


def _chains_for(planner: Planner, family: Family, operations: list[Operation]) -> list[Chain]:
    """Return the chains that added verdicts point to; making one again does no harm."""
    names = {
        o.value.partition(" ")[2]
        for o in operations
        if o.add and o.family is family and isinstance(o.value, str)
    }
    return [c for n, c in wanted_chains(planner.desired, family).items() if n in names]


def _print_table(rows: Sequence[Difference]) -> None:
    if not rows:
        click.echo("equal: the kernel holds what it should")
        return
    if not sys.stdout.isatty():
        for row in rows:
            parts = [
                row.change,
                row.family,
                row.service or "-",
                row.subject,
                "; ".join(row.details),
            ]
            click.echo("\t".join(parts))
        return
    table = Table("CHANGE", "FAMILY", "SERVICE", "WHAT", "DETAILS", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            f"[{_COLOURS[row.change]}]{row.change}[/]",
            row.family,
            row.service,
            row.subject,
            "\n".join(row.details),
        )
    Console().print(table)
