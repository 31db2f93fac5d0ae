"""``nfproxy cleanup``: remove nfproxy's tables, or what kube-proxy left."""

from __future__ import annotations

import sys
from contextlib import closing

import click

from nfproxy.cli.output import output_option, warn
from nfproxy.cli.takeover import CleanupOptions, remove_leftovers
from nfproxy.config.durations import parse_duration
from nfproxy.dataplane.probes import require_privileges
from nfproxy.host.kubeproxy import proxies_running
from nfproxy.model.addresses import FAMILIES
from nfproxy.nft.schema import TABLE
from nfproxy.tools.takeover.nftables import NfTables
from nfproxy.tools.takeover.removal import existing_tables, remove_tables_in_stages


def _seconds(_: click.Context, __: click.Parameter, value: str) -> float:
    """Return the seconds of a duration in Go's form."""
    try:
        seconds = parse_duration(value).seconds
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a duration such as 90s or 5m") from None
    if seconds < 0:
        raise click.BadParameter("it cannot be negative")
    return seconds


@click.command("cleanup", short_help="Remove nfproxy's tables, or what kube-proxy left.")
@click.option(
    "--kube-proxy",
    is_flag=True,
    help="Remove what kube-proxy left on this node, in every mode, and nothing of nfproxy's: "
    "nftables tables, chains and rules of iptables (both backends, both families), ipsets, "
    "virtual servers of IPVS with their device, nfacct counters. Refused while kube-proxy runs "
    "on this node, and before nfproxy has programmed it.",
)
@click.option("--dry-run", is_flag=True, help="List what would be removed; change nothing.")
@output_option(
    "text",
    "json",
    "yaml",
    help="With --kube-proxy: form of the list; text is a table on a terminal.",
)
@click.option(
    "--drain",
    callback=_seconds,
    default="1m",
    show_default=True,
    metavar="DURATION",
    help="With --kube-proxy: how long to wait for connections through IPVS to end. They would "
    "break; all others go on.",
)
@click.option(
    "--force",
    is_flag=True,
    help="With --kube-proxy: remove even what would be refused, and break the connections "
    "through IPVS that are still open after --drain.",
)
def command(kube_proxy: bool, dry_run: bool, output: str, drain: float, force: bool) -> None:
    """
    Remove nfproxy's tables, and nothing else; or, with --kube-proxy, what kube-proxy left.

    Open connections go on while another program on this node has rules that translate addresses
    (another proxy, a CNI plugin that masquerades). Without any such rule the kernel stops
    translating. New connections to Services fail unless another proxy serves them.

    Exit status: 0 done, or nothing to do; 1 refused, or something is left.
    """
    require_privileges()
    if kube_proxy:
        sys.exit(remove_leftovers(CleanupOptions(dry_run, output, force, drain)))
    if not dry_run:
        running = proxies_running().nfproxy
        if running:
            warn(f"nfproxy runs on this node ({running}) and will restore its tables")
    remove_own_tables(dry_run=dry_run)


def remove_own_tables(*, dry_run: bool = False) -> None:
    """Remove nfproxy's tables of both families, and print which ones."""
    wanted = [(family, TABLE) for family in FAMILIES]
    with closing(NfTables()) as nft:
        found = existing_tables(nft, wanted) if dry_run else remove_tables_in_stages(nft, wanted)
    for family, name in found:
        click.echo(f"{'would remove' if dry_run else 'removed'} table {family.table} {name}")
    if not found:
        click.echo(f"nothing to remove: there is no {TABLE} table")
