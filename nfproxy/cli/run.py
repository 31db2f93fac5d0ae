"""``nfproxy run``: the daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import click

from nfproxy.app import Daemon
from nfproxy.cli.inputs import Settings, configurator, settings
from nfproxy.config.flags import Flags, GroupedCommand, node_flags
from nfproxy.dataplane.diagnose import require_privileges
from nfproxy.dataplane.kernel import Kernel
from nfproxy.host.families import families_of_host
from nfproxy.model.addresses import FAMILIES
from nfproxy.model.changes import Problem
from nfproxy.sources.manifests import ManifestSource

log = logging.getLogger("nfproxy")

#: How long what is being done may take to end after a signal.
GRACE_S = 5.0


@click.command(
    "run", cls=GroupedCommand, short_help="Program this machine, and follow the objects."
)
@click.option(
    "--manifests",
    required=True,
    metavar="DIR",
    help="Read Services, EndpointSlices, ServiceCIDRs and this node's Node from every .yaml, .yml "
    "and .json file below DIR, and follow the files as they change.",
)
@node_flags
def command(manifests: str, flags: Flags) -> None:
    """
    Program this machine's nftables and keep them in step with the objects.

    What is programmed stays when nfproxy ends, crashes or is upgraded; the next start takes it
    over. `nfproxy cleanup` removes it.
    """
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, force=True
    )
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    known = settings(flags)
    if known.loaded.config.logging.verbosity > 0:
        logging.getLogger("nfproxy").setLevel(logging.DEBUG)
    require_privileges()
    asyncio.run(_run(manifests, known))


async def _run(manifests: str, known: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop, loop)
    families = families_of_host()
    kernel = Kernel()
    try:
        source = ManifestSource(manifests, known.node_name, _report)
        configure = configurator(known, log.warning)
        log.info("node %s, objects from %s", known.node_name, manifests)
        if families != FAMILIES:
            log.info("IPv6 is disabled on this machine: only IPv4 is programmed")
        alarm = kernel.notifications()
        await Daemon(source, kernel, configure, families, alarm=alarm).run(stop)
    finally:
        kernel.close()


def _stop(stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """End in order; at once at the second signal, or if a thread will not come to its end."""
    if stop.is_set():
        _leave()
    stop.set()
    loop.call_later(GRACE_S, _leave)


def _leave() -> None:
    """End whatever is being done: a transaction is in force as a whole or not at all."""
    log.info("leaving in the middle of something; everything programmed stays in force")
    logging.shutdown()
    os._exit(0)


def _report(problem: Problem) -> None:
    log.warning("%s", problem)
