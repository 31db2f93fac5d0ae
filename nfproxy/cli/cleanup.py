"""``nfproxy cleanup``: remove nfproxy's tables."""

from __future__ import annotations

import click

from nfproxy.dataplane.diagnose import require_privileges
from nfproxy.dataplane.kernel import Kernel
from nfproxy.model.addresses import FAMILIES


@click.command("cleanup")
def command() -> None:
    """
    Remove nfproxy's tables, and nothing else.

    Connections that are open go on: the kernel keeps translating them until they end. New
    ones to Services fail unless another proxy serves them.
    """
    remove_tables()


def remove_tables() -> None:
    """Remove nfproxy's tables of both families, and say so."""
    require_privileges()
    kernel = Kernel()
    removed = False
    try:
        for family in FAMILIES:
            if kernel.delete_table(family):
                removed = True
                click.echo(f"removed table {family.table} nfproxy")
    finally:
        kernel.close()
    if not removed:
        click.echo("nothing to remove: there is no nfproxy table")
