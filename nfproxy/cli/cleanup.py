"""``nfproxy cleanup``: remove nfproxy's tables."""

from __future__ import annotations

import click

from nfproxy.dataplane.diagnose import require_privileges
from nfproxy.dataplane.kernel import Kernel
from nfproxy.model.addresses import FAMILIES
from nfproxy.nft.schema import TABLE


@click.command("cleanup")
def command() -> None:
    """
    Remove nfproxy's tables, and nothing else.

    Connections that are open go on: the kernel keeps translating them until they end. New
    ones to Services fail unless another proxy serves them.
    """
    remove_tables()


def remove_tables(*names: str) -> None:
    """Remove the tables of both families with these names, by default nfproxy's, and say so."""
    require_privileges()
    kernel = Kernel()
    names = names or (TABLE,)
    removed = False
    try:
        for name in names:
            for family in FAMILIES:
                if kernel.delete_table(family, name):
                    removed = True
                    click.echo(f"removed table {family.table} {name}")
    finally:
        kernel.close()
    if not removed:
        click.echo(f"nothing to remove: there is no {' or '.join(names)} table")
