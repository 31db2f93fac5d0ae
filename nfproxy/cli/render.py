"""``nfproxy render``: the dry run."""

from __future__ import annotations

import click

from nfproxy.cli.inputs import files_option, planned
from nfproxy.cli.output import output_option, print_data, warn
from nfproxy.config.flags import Flags, GroupedCommand, node_flags
from nfproxy.dataplane.libnftables import load_text
from nfproxy.errors import MissingFeatureError
from nfproxy.host.processes import may_administer_network
from nfproxy.model.addresses import FAMILIES
from nfproxy.reconcile.script import script
from nfproxy.tools.lab import enter_private_namespace
from nfproxy.views.describe import describe


@click.command(
    "render", cls=GroupedCommand, short_help="Print what would be programmed, as an nft script."
)
@files_option
@output_option(
    "nft",
    "json",
    "yaml",
    help="nft: a script for `nft -f -`. json, yaml: frontends, endpoints with their slots, and the "
    "reason for every endpoint left out.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Also let libnftables validate the script against this kernel, changing nothing.",
)
@node_flags
def command(files: tuple[str, ...], output: str, check: bool, flags: Flags) -> None:
    """
    Print what this node's tables should be, and change nothing.

    The script makes the tables of both families exactly so in one atomic transaction, whatever
    was there before. The same objects in any order give the same bytes. Needs no root and no
    kernel (but --check does).

    \b
        nfproxy render -f cluster/ --hostname-override node-1 | nft -f -
        kubectl get svc,endpointslices -A -o json | nfproxy render -f - -o json
    """
    planner = planned(files, flags)
    text = script(planner.desired, planner.config.program, FAMILIES)
    if check:
        _check(text)
    if output == "nft":
        click.echo(text, nl=False)
    else:
        print_data(describe(planner), output)


def _check(text: str) -> None:
    if not may_administer_network():
        # Any namespace will do: the script replaces what it finds.
        enter_private_namespace()
        if not may_administer_network():
            raise MissingFeatureError(
                "--check needs the capability CAP_NET_ADMIN, and this process can have it neither "
                "here nor in a user namespace: run as root"
            )
        warn("checked in a private network namespace, as CAP_NET_ADMIN is missing here")
    load_text(text, check=True)
    click.echo("nfproxy: libnftables accepts the script", err=True)
