"""``nfproxy run``: the daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import click

from nfproxy import __version__
from nfproxy.cli.loglines import set_up_logging
from nfproxy.cli.options import proc_option
from nfproxy.config.flags import Flags, GroupedCommand, kube_proxy_flags
from nfproxy.config.load import LoadedConfig, load
from nfproxy.config.nodeconfig import Configurator
from nfproxy.dataplane.conntrack_cleaner import load_conntrack
from nfproxy.dataplane.probes import families_to_program, first_missing_feature, require_privileges
from nfproxy.errors import ConfigError, reason_of
from nfproxy.host.freememory import modules_load, use_one_arena

log = logging.getLogger("nfproxy")

# How long a thread that waits for Python's lock waits at most for one that computes: 5 ms usually.
# The event loop and a sync need the lock several times for one request or change, while lists for
# the web page are made for a tenth of a second.
_TURN_S = 0.0005

#: How long the current sync may take to end after a signal.
GRACE_S = 5.0


@click.command(
    "run", cls=GroupedCommand, short_help="Program this machine, and follow the objects."
)
@click.option(
    "--manifests",
    default="",
    metavar="DIR",
    help="Read Services, EndpointSlices, ServiceCIDRs and this node's Node from every .yaml, .yml "
    "and .json file below DIR instead of an API server, and follow the files as they change.",
)
@proc_option
@kube_proxy_flags
def command(manifests: str, proc: Path, flags: Flags) -> None:
    """
    Program this machine's nftables and keep them in step with the objects.

    Objects come from the API server of --kubeconfig, --master or the configuration file, else of
    the pod's service account; or from files (--manifests). nfproxy accepts all flags of
    kube-proxy; this help leaves out those without effect.

    The tables stay when nfproxy ends, crashes or is upgraded; the next start continues with them.
    `nfproxy cleanup` removes them.
    """
    loaded = load(flags)
    command_line = loaded.command_line
    if command_line.version in ("true", "raw"):
        click.echo(f"nfproxy {__version__}")
        return
    set_up_logging(loaded.config.logging, commits=bool(manifests))
    for text in loaded.warnings:
        log.warning("%s", text)
    if command_line.write_config_to:
        _write_config(loaded)
        return
    if command_line.cleanup:
        # Imported here, as the parts below: pyroute2 takes 9 MB, and the daemon needs none of it.
        from nfproxy.cli.cleanup import remove_leftovers, remove_own_tables

        require_privileges()
        remove_own_tables()
        # Without a refusal, as kube-proxy's own --cleanup.
        status = remove_leftovers(force=True)
        raise SystemExit(status)
    configure = Configurator(loaded.config, socket.gethostname(), log.warning)
    require_privileges()
    if command_line.init_only:
        _prepare_node(loaded, proc)
        log.info("this node is prepared; exiting (--init-only)")
        return
    # Imported here: the HTTP client and the servers take a moment, and other actions need none.
    with modules_load():
        from nfproxy.daemon.assembly import Options, serve

    use_one_arena()
    sys.setswitchinterval(_TURN_S)
    _allow_many_files()
    options = Options(
        loaded, configure.node_name, configure, manifests, partial(_prepare_node, loaded, proc)
    )

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        # From Python 3.14 on threads have names of their own, which the kernel reports.
        loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="nfproxy"))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, _stop, stop, loop)
        await serve(options, stop)

    asyncio.run(run())


def _write_config(loaded: LoadedConfig) -> None:
    from nfproxy.config.document import write_config

    path = Path(loaded.command_line.write_config_to)
    try:
        path.write_text(write_config(loaded.config), "utf-8")
    except OSError as error:
        raise ConfigError(f"--write-config-to: {path}: {reason_of(error)}") from None
    log.info("wrote the configuration to %s", path)


def _prepare_node(loaded: LoadedConfig, proc: Path) -> None:
    """
    Set the node's conntrack sysctls and, for the daemon, its own oom_score_adj.

    The daemon only warns about sysctls that it may not write: they limit the number of connections
    and nothing else. With --init-only they are the purpose of the process, so it raises
    MissingFeatureError, also for a kernel that lacks a feature. Hash buckets are only warned of
    there, too: kube-proxy goes on where /sys is read-only.
    """
    from nfproxy.host.processes import set_oom_score_adj
    from nfproxy.host.sysctls import refused_buckets, refused_error, set_conntrack_sysctls

    outcome = set_conntrack_sysctls(loaded.config.conntrack, load_conntrack, proc=proc)
    for text in outcome.changed:
        log.info("%s", text)
    slower = refused_buckets(outcome.refused)
    if slower:
        log.warning("%s", slower)
    refused = [one for one in outcome.refused if not one.is_harmless]
    if refused:
        error = refused_error(refused, proc)
        if loaded.command_line.init_only:
            raise error
        log.warning("%s", error)
    if loaded.command_line.init_only:
        missing = first_missing_feature(families_to_program())
        if missing is not None:
            raise missing
    else:
        set_oom_score_adj(loaded.config.oom_score_adj)


def _allow_many_files() -> None:
    """Raise the limit: a health-check node port needs a file descriptor for each address."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _stop(stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """Stop in order; at once after a second signal, or if a thread does not end in time."""
    if stop.is_set():
        _leave()
    stop.set()
    loop.call_later(GRACE_S, _leave)


def _leave() -> None:
    """Exit during a sync: the kernel applies a transaction as a whole or not at all."""
    log.info("stopping without waiting for the current sync; installed rules stay")
    logging.shutdown()
    os._exit(0)
