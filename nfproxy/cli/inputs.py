"""
What the commands share: configuration, manifests and the desired state from them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

import click
import msgspec

from nfproxy.cli.objects import read_objects
from nfproxy.cli.output import warn
from nfproxy.config.flags import Flags
from nfproxy.config.load import LoadedConfig, load
from nfproxy.config.nodeconfig import node_config, node_name
from nfproxy.daemon import Configure
from nfproxy.model.changes import Problem
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import NodeConfig
from nfproxy.plan.planner import Planner

files_option = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    metavar="FILE|DIR|-",
    help="Manifests to read: a file, a directory (all .yaml, .yml and .json below it), or - for "
    "standard input. Repeatable. Without it the API server is asked: the one of --kubeconfig "
    "or --master, of the pod's service account, or of kubectl's configuration.",
)


class Settings(msgspec.Struct, frozen=True):
    """The configuration in force and this node's name."""

    loaded: LoadedConfig
    node_name: str


def settings(flags: Flags) -> Settings:
    """Load flags and configuration file; warnings go to standard error."""
    loaded = load(flags)
    for text in loaded.warnings:
        warn(text)
    return known_node(loaded)


def known_node(loaded: LoadedConfig) -> Settings:
    """Return a configuration with the name of the node it is for. Raises ConfigError."""
    return Settings(loaded, node_name(loaded.config, socket.gethostname()))


def configurator(known: Settings, tell: Callable[[str], None]) -> Configure:
    """
    Return the function from a Node object to the configuration; it tells a warning once.

    A Node that has no addresses (any more) keeps those it had: it may have been registered anew,
    and its addresses follow later. Without any, node ports would be accepted everywhere.
    """
    told: set[str] = set()
    config = known.loaded.config
    addresses: tuple[bytes, ...] = ()

    def configure(node: Node | None, patient: bool) -> NodeConfig:
        nonlocal addresses
        if node is not None:
            addresses = node.addresses or addresses
            node = msgspec.structs.replace(node, addresses=addresses)
        result, warnings = node_config(config, socket.gethostname(), node, patient=patient)
        for text in warnings:
            if text not in told:
                told.add(text)
                tell(text)
        return result

    return configure


def planned(files: Iterable[str], flags: Flags) -> tuple[Planner, tuple[Problem, ...]]:
    """Return the desired state of this node for some objects; problems go to standard error."""
    known = settings(flags)
    objects = read_objects(files, known.loaded, known.node_name)
    for problem in objects.problems:
        warn(str(problem))
    planner = Planner(configurator(known, warn)(objects.changes.node, False))
    planner.apply(objects.changes)
    for conflict in sorted(planner.desired.conflicts()):
        warn(str(conflict.problem(objects.source_file)))
    return planner, objects.problems
