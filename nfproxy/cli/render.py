"""``nfproxy render``: print the ruleset."""

from __future__ import annotations

import click

from nfproxy.cli.inputs import allow_empty_option, files_option, planned
from nfproxy.cli.output import output_option, print_data, warn
from nfproxy.config.flags import Flags, GroupedCommand, context_flags
from nfproxy.dataplane.libnftables import load_text
from nfproxy.errors import MissingFeatureError
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.host.processes import may_administer_network
from nfproxy.model.addresses import FAMILIES
from nfproxy.reconcile.script import script
from nfproxy.views.describe import describe


@click.command(
    "render", cls=GroupedCommand, short_help="Print the ruleset for some objects, as an nft script."
)
@files_option
@output_option(
    "nft",
    "json",
    "yaml",
    help="nft: a script for `nft -f -`. json, yaml: frontends, endpoints with their slots, and the "
    "reason for each endpoint that is left out.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Also validate the script with libnftables and this kernel, changing nothing.",
)
@allow_empty_option
@context_flags
def command(
    files: tuple[str, ...], output: str, check: bool, allow_empty: bool, flags: Flags
) -> None:
    """
    Print the tables that this node should have, and change nothing.

    The script replaces the tables of both families in one atomic transaction, whatever they held
    before. The same objects in any order give the same bytes. Needs neither root nor a kernel with
    nftables, except with --check.

    \b
        nfproxy render -f cluster/ --hostname-override node-1 | nft -f -
        kubectl get svc,endpointslices -A -o json | nfproxy render -f - -o json
    """
    planner, _ = planned(files, flags, allow_empty=allow_empty)
    text = script(planner.desired, planner.config.program, FAMILIES)
    if check:
        _check(text)
    if output == "nft":
        click.echo(text, nl=False)
    else:
        print_data(describe(planner), output)


def _check(text: str) -> None:
    if not may_administer_network():
        # A private namespace serves as well: the script does not depend on what is there.
        enter_private_namespace()
        if not may_administer_network():
            raise MissingFeatureError(
                "--check needs the capability CAP_NET_ADMIN, and this process can get it neither "
                "here nor in a user namespace",
                "run as root",
            )
        warn("checked in a private network namespace, as CAP_NET_ADMIN is missing here")
    load_text(text, check=True)
    click.echo("nfproxy: libnftables accepts the script", err=True)
