"""``nfproxy render``: print the ruleset."""

from __future__ import annotations

import click

from nfproxy.cli.inputs import asked_services, planned
from nfproxy.cli.options import allow_empty_option, files_option
from nfproxy.cli.output import print_data, warn
from nfproxy.cli.rendertext import summary_lines
from nfproxy.cli.textlayout import is_terminal, terminal_width
from nfproxy.config.flags import Flags, GroupedCommand, context_flags
from nfproxy.dataplane.libnftables import load_text
from nfproxy.errors import MissingFeatureError
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.host.processes import may_administer_network
from nfproxy.model.addresses import FAMILIES
from nfproxy.reconcile.script import script
from nfproxy.text import plural
from nfproxy.views.describe import describe


@click.command(
    "render", cls=GroupedCommand, short_help="Print the ruleset for some objects, as an nft script."
)
@click.argument("what", nargs=-1, metavar="[WHAT]...")
@files_option
@click.option(
    "-o",
    "--output",
    type=click.Choice(("nft", "summary", "json", "yaml")),
    help="nft: a script for `nft -f -`. summary: a line for each frontend. json, yaml: frontends, "
    "endpoints with their slots, and the reason for each endpoint that is left out.  [default: "
    "summary on a terminal, nft elsewhere]",
)
@click.option(
    "--check",
    is_flag=True,
    help="Also validate the script with libnftables and this kernel, changing nothing.",
)
@allow_empty_option
@context_flags
def command(
    what: tuple[str, ...],
    files: tuple[str, ...],
    output: str | None,
    check: bool,
    allow_empty: bool,
    flags: Flags,
) -> None:
    """
    Print the tables that this node should have, and change nothing.

    The script replaces the tables of both families in one atomic transaction, whatever they held
    before. The same objects in any order give the same bytes. Needs neither root nor a kernel with
    nftables, except with --check.

    WHAT, a Service (NAMESPACE/NAME) or an address of one, leaves out all others: also from the
    script, which then removes them where it is loaded.

    \b
        nfproxy render -f cluster/ --hostname-override node-1 | nft -f -
        kubectl get svc,endpointslices -A -o json | nfproxy render -f - -o json
    """
    planner, source = planned(files, flags, allow_empty=allow_empty, allow_unusable=allow_empty)
    only = asked_services(planner, what) if what else None
    desired = planner.desired if only is None else planner.desired.of_services(sorted(only))
    text = script(desired, planner.config.program, FAMILIES)
    if check:
        _check(text)
    form = output or ("summary" if is_terminal() else "nft")
    if form == "summary":
        for line in summary_lines(desired, source, text.count("\n"), terminal_width()):
            click.echo(line)
    elif form != "nft":
        print_data(describe(planner, only), form)
    else:
        if only is not None:
            left = len(planner.services) - len(only)
            if left:
                warn(f"without {plural(left, 'Service')} of {source}: nft -f would remove them")
        click.echo(text, nl=False)


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
