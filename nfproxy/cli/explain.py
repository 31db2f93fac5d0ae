"""``nfproxy explain``: why does this work, or not."""

from __future__ import annotations

import sys

import click
import msgspec

from nfproxy.cli.explaintext import explanation_lines, explanation_rows
from nfproxy.cli.inputs import configured
from nfproxy.cli.options import files_option, namespace_option
from nfproxy.cli.output import output_option, print_data
from nfproxy.cli.sights import Sights, read_sights
from nfproxy.cli.textlayout import is_terminal, terminal_width
from nfproxy.clock import unix_s
from nfproxy.config.flags import Flags, GroupedCommand, context_flags
from nfproxy.dataplane.nodereading import from_kernel, with_node
from nfproxy.errors import ConfigError, DataplaneError, InputError
from nfproxy.insight.clientidentity import Client, client_of, pod_named
from nfproxy.insight.diagnosis import Code, exit_status
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import Conclusion, Explanation, to_data
from nfproxy.insight.fleet import explain_everywhere
from nfproxy.insight.question import Question, parse_question
from nfproxy.kube.timestamps import timestamp
from nfproxy.netlink.sockets import NftSocket
from nfproxy.plan.frontends import FrontendKey

_COULD_NOT_FIND_OUT = 2

#: What a client that gets no endpoint gets.
_LOST = (Conclusion.REFUSED, Conclusion.DROPPED, Conclusion.PARTLY)


@click.command("explain", cls=GroupedCommand, short_help="Say why a Service works, or does not.")
@click.argument("what")
@files_option
@namespace_option
@click.option("--node", default="", metavar="NAME", help="Answer for another node than this one.")
@click.option("--all-nodes", is_flag=True, help="Answer for every Node, a row each.")
@click.option(
    "--probe/--no-probe",
    default=None,
    help="On the node: connect to each TCP endpoint, for a second; or to none. By default only to "
    "those that clients have asked for and that have no connection.",
)
@click.option(
    "--from",
    "client",
    metavar="CLIENT",
    help="Follow the packets of one client: an address, or NAMESPACE/NAME of a pod.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 for what is worth a look, too.")
@output_option("text", "json", "yaml", help="json, yaml: everything, with the codes of causes.")
@context_flags
def command(
    what: str,
    files: tuple[str, ...],
    namespace: str,
    node: str,
    all_nodes: bool,
    probe: bool | None,
    client: str | None,
    strict: bool,
    output: str,
    flags: Flags,
) -> None:
    """
    Say why a Service, an address or a node port works or does not.

    First the verdict, then what fails and where to look, then the tables: each frontend with what
    it answers whom, each endpoint with the reason why it gets nothing.

    \b
    WHAT: NAMESPACE/NAME[:PORT]     a Service, or a port of it by name or number
          ADDRESS[:PORT[/udp]]      an address of a Service, a pod or a node
          [IPV6]:PORT, :NODEPORT    the same for IPv6; a node port

    Works on manifests (-f), against the API server with kubectl's rights, and on a node. There it
    also asks the kernel: what is in force, connections, routes; that takes CAP_NET_ADMIN.

    Exit status: 0 nothing fails, 1 something does, 2 could not find out.
    """
    if node and all_nodes:
        raise click.UsageError("--node and --all-nodes exclude each other")
    if client is not None and all_nodes:
        raise click.UsageError("--from and --all-nodes exclude each other")
    if probe and all_nodes:
        raise click.UsageError("--probe and --all-nodes exclude each other: it asks from one node")
    if client == "":
        raise click.UsageError("--from is empty: name an address or NAMESPACE/NAME of a pod")
    question = parse_question(what, namespace)
    try:
        settings = configured(flags)
        read = read_sights(
            files,
            flags,
            settings,
            question=question,
            node=node,
            all_nodes=all_nodes,
            needs_details=bool(client),
            pod=pod_named(client, namespace) if client else None,
        )
    except (ConfigError, InputError) as error:
        is_here = not (files or node or all_nodes)
        if is_here and (alone := from_kernel(question, error.what, probe=probe)):
            _print(alone, output)
            sys.exit(_status(alone, strict=strict))
        raise InputError(error.what, error.remedy) from None
    if all_nodes:
        found = explain_everywhere(read.sights, question, also=read.near)
    else:
        found = explain(read.sights[0], question, also=read.near)
        asking = client_of(read.sights[0], client, namespace) if client else None
        if read.is_own_node:
            found = with_node(
                found,
                read.sights[0].planner,
                running=str(read.daemon) if read.daemon else "",
                is_silent=bool(read.daemon and read.daemon.hangs),
                probe=probe,
                client=next(iter(asking.addresses.values()), b"") if asking else b"",
                asked=_asked(read, question, found, asking) if asking else None,
            )
        elif probe:
            missing = (*found.seen.missing, "what --probe asks: this machine is not the node")
            found = msgspec.structs.replace(
                found, seen=msgspec.structs.replace(found.seen, missing=missing)
            )
        if asking:
            found = _followed(read, question, found, asking)
    seen = msgspec.structs.replace(
        found.seen,
        objects=read.seen.objects,
        resource_version=read.seen.resource_version,
        missing=(*read.seen.missing, *found.seen.missing),
        unusable=read.seen.unusable,
        at=timestamp(unix_s()),
    )
    found = msgspec.structs.replace(found, seen=seen)
    _print(found, output)
    sys.exit(_status(found, strict=strict))


def _asked(
    read: Sights, question: Question, found: Explanation, client: Client
) -> FrontendKey | None:
    from nfproxy.insight.client import asked_by  # costly: see _followed

    return asked_by(read.sights[0], question, found, client)


def _followed(read: Sights, question: Question, found: Explanation, client: Client) -> Explanation:
    """Return the explanation with what happens to a client, by the kernel's elements if it can."""
    # Imported here: the rules' templates take a fifth of the time of a question without --from.
    from nfproxy.dataplane.lookups import kernel_lookups
    from nfproxy.insight.client import explain_client

    sight = read.sights[0]
    if not found.seen.kernel:
        return explain_client(sight, question, found, client)
    try:
        with NftSocket() as netlink:
            return explain_client(sight, question, found, client, kernel_lookups(netlink))
    except DataplaneError as error:
        followed = explain_client(sight, question, found, client)
        missing = (*found.seen.missing, f"the client's way in the kernel ({error.what})")
        seen = msgspec.structs.replace(found.seen, missing=missing)
        return msgspec.structs.replace(followed, seen=seen)


def _print(found: Explanation, output: str) -> None:
    if output != "text":
        print_data(to_data(found), output)
    elif is_terminal():
        for line in explanation_lines(found, terminal_width()):
            click.echo(line)
    else:
        for row in explanation_rows(found):
            click.echo("\t".join(row))


def _status(found: Explanation, *, strict: bool) -> int:
    if any(one.code is Code.UNKNOWN_SERVICE for one in found.findings):
        return _COULD_NOT_FIND_OUT
    is_lost = found.client is not None and found.conclusion in _LOST
    status = max(exit_status(found.findings, strict=strict), int(is_lost))
    # That nothing fails is not certain without what a broken file may hold.
    return status or (_COULD_NOT_FIND_OUT if found.seen.unusable else 0)
