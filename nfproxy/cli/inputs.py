"""
What commands work on: the configuration, the objects, and the desired state made from both.

Objects are read once here, from files or from an API server; only the daemon follows them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple

import click
import msgspec

from nfproxy.cli.output import warn
from nfproxy.cli.running import RunningDaemon, running_daemon
from nfproxy.cli.runningconfig import configuration_of
from nfproxy.config.flags import Flags
from nfproxy.config.kept import with_host
from nfproxy.config.load import LoadedConfig, contradictions, load
from nfproxy.config.lookup import with_values
from nfproxy.config.nodeconfig import Configurator
from nfproxy.errors import NOTHING_USABLE, ConfigError, InputError
from nfproxy.insight.question import ServiceQuestion, parse_question
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName
from nfproxy.plan.planner import Planner
from nfproxy.text import quoted, shown_path


class Configured(NamedTuple):
    """
    The configuration that a command works with.

    `daemon` is the nfproxy that runs here, None if there is none. `configure` gives the
    configuration of the dataplane for a Node object, and has the node's name.
    """

    loaded: LoadedConfig
    configure: Configurator
    daemon: RunningDaemon | None


class Objects(NamedTuple):
    """
    All objects of a source, their problems, and which file each Service comes from.

    `source` names the source, for the end of a sentence. `unusable` are files that give no usable
    object.
    """

    changes: Changes
    problems: tuple[Problem, ...]
    source_file: Callable[[ObjectName], str]
    source: str
    api_servers: frozenset[tuple[bytes, int]] = frozenset()
    unusable: tuple[str, ...] = ()


class Planned(NamedTuple):
    """The desired state of this node, and the name of the source of its objects."""

    planner: Planner
    source: str


def planned(
    files: Iterable[str],
    flags: Flags,
    own_addresses: frozenset[bytes] = frozenset(),
    *,
    allow_empty: bool = False,
    allow_unusable: bool = False,
) -> Planned:
    """
    Return the desired state of this node, for objects of files or of an API server.

    `own_addresses` are those of the node's interfaces, where the command runs on the node. Input
    without a Service to proxy is an InputError, unless `allow_empty`, and so is a file that gives
    no usable object, unless `allow_unusable`.
    Warnings and problems with objects go to standard error. Raises ConfigError and InputError.
    """
    loaded, configure, daemon = configured(flags)
    objects = read_objects(files, loaded, configure.node_name, daemon)
    for problem in objects.problems:
        warn(str(problem))
    if not (allow_empty or any(objects.changes.services.values())):
        # Its script would remove every Service from a node, most likely by a mistake.
        raise InputError(
            "there is no Service to proxy",
            "check what the input holds, or go on with --allow-empty",
            NOTHING_USABLE,
        )
    if objects.unusable and not allow_unusable:
        raise InputError(
            f"{objects.unusable[0]} gives no usable object",
            "mend or leave out the file, or go on without it: --allow-empty",
            NOTHING_USABLE,
        )
    config = configure(objects.changes.node)
    kept = with_host(config.kept, own_addresses, objects.api_servers)
    planner = Planner(msgspec.structs.replace(config, kept=kept))
    planner.apply(objects.changes)
    for begun in planner.desired.findings.take_begun():
        warn(str(begun.problem(objects.source_file)))
    return Planned(planner, objects.source)


def asked_services(planner: Planner, what: Iterable[str]) -> frozenset[ObjectName]:
    """
    Return the Services that texts name as ``NAMESPACE/NAME``, or by an address of theirs.

    Raises InputError for a text that names none, with names that may be meant.
    """
    found: set[ObjectName] = set()
    for text in what:
        question = parse_question(text)
        if isinstance(question, ServiceQuestion):
            if question.name not in planner.services:
                # Imported here: most runs need nothing of it.
                from nfproxy.insight.explain import near_services

                near = near_services(question.name, planner.services)
                remedy = f"there is {', '.join(map(str, near))}" if near else ""
                raise InputError(f"there is no Service {question.name}", remedy)
            ports = planner.services[question.name].ports
            if question.port not in ("", *(name for p in ports for name in (p.name, str(p.port)))):
                what = f"{question.name} has no port {quoted(question.port)}"
                raise InputError(what, f"it has {', '.join(str(port.port) for port in ports)}")
            found.add(question.name)
            continue
        owners = {
            frontend.claim.service
            for key, frontend in planner.desired.frontends.items()
            if (key.address, question.port or key.port) == (question.address, key.port)
            and question.protocol in (None, key.protocol)
        }
        if not owners:
            raise InputError(f"no Service answers at {question}", f"nfproxy explain {question}")
        found |= owners
    return frozenset(found)


def configured(flags: Flags) -> Configured:
    """
    Return the configuration of flags, of the file they name, or of the nfproxy that runs here.

    Says on standard error where it comes from, and what contradicts the nfproxy that runs here.
    Raises ConfigError.
    """
    daemon, running = running_daemon(), None
    if daemon:
        try:
            running = configuration_of(daemon)
        except ConfigError as error:
            warn(f"{error}; going on without the nfproxy that runs here, is it of another version?")
            daemon = None
    loaded = load(flags, running)
    # In a container with nfproxy as its first process no other could be meant.
    if daemon and daemon.pid != 1 and not loaded.command_line.config:
        click.echo(
            "nfproxy: with the configuration of the nfproxy that runs here "
            f"(pid {daemon.pid}, node {daemon.node})",
            err=True,
        )
    if running:
        config = loaded.config
        if not config.hostname_override:
            config = with_values(config, {"hostnameOverride": socket.gethostname()})
        for text in contradictions(config, running.config, flags.given):
            warn(text)
    for text in loaded.warnings:
        warn(text)
    return Configured(loaded, Configurator(loaded.config, socket.gethostname(), warn), daemon)


def read_objects(
    files: Iterable[str], loaded: LoadedConfig, node_name: str, daemon: RunningDaemon | None = None
) -> Objects:
    """
    Return all objects of some files, or those of the API server where no file is named.

    Without either, objects come from the files that `daemon` follows. Raises InputError if files
    cannot be found, if the API server does not answer, or if neither is named; ConfigError if its
    address or credentials cannot be used.
    """
    files = tuple(files)
    if files:
        shown = files[0] if len(files) == 1 else f"{len(files)} paths"
        source = "standard input" if files == ("-",) else shown_path(shown)
        return _of_files(files, node_name, source)
    names_server = loaded.config.client_connection.kubeconfig or loaded.command_line.master
    if daemon and daemon.manifests and not names_server:
        return _of_files((daemon.manifests,), node_name, shown_path(daemon.manifests))
    # Imported here: commands that read files need no HTTP client.
    from nfproxy.cli.apireading import read_all

    return read_all(loaded, node_name)


def _of_files(files: tuple[str, ...], node_name: str, source: str) -> Objects:
    # Imported here: commands that ask an API server or the daemon need no YAML.
    from nfproxy.manifests.once import read_once

    changes, problems, source_file, unusable = read_once(files, node_name)
    return Objects(changes, problems, source_file, source, unusable=unusable)
