"""
What `explain` and `services` look at: objects, planned for one node or for several.

Of an API server only the Service that was asked about is read, with its EndpointSlices; a question
about an address needs all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from nfproxy.cli.inputs import Configured
from nfproxy.cli.output import warn
from nfproxy.cli.running import RunningDaemon
from nfproxy.config.flags import Flags
from nfproxy.config.kept import with_host
from nfproxy.config.load import LoadedConfig
from nfproxy.config.lookup import with_values
from nfproxy.config.nodeconfig import node_config
from nfproxy.errors import InputError, NfproxyError
from nfproxy.host.addresses import own_addresses
from nfproxy.insight.diagnosis import Severity, worst
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import Seen
from nfproxy.insight.nodeobjects import OBJECTS_PATH, NodeObjects, sight_of
from nfproxy.insight.question import Question, ServiceQuestion
from nfproxy.insight.sight import Sight
from nfproxy.kube.details import ObjectDetails
from nfproxy.kube.identity import Kind
from nfproxy.kube.nodenames import ListedNode, missing_node, near_names
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.node import Node
from nfproxy.model.service import ObjectName
from nfproxy.plan.planner import Planner
from nfproxy.text import plural

#: Flags that say what the configuration of the node is.
_CONFIGURING = frozenset({"config", "cluster-cidr", "detect-local-mode"})

#: Kinds of objects whose problems are findings about a Service.
_FOUND = (Kind.SERVICE.word, Kind.ENDPOINT_SLICE.word)


class ReadObjects(NamedTuple):
    """
    Objects, their details, and what is known of their source.

    `is_complete` says that all Services were read. `near` are names of Services, read where the one
    that was asked about does not exist. `api_servers` are addresses as the planner wants them,
    `unusable` files that give no usable object.
    """

    changes: Changes
    details: ObjectDetails
    problems: tuple[Problem, ...]
    source: str
    version: str = ""
    missing: tuple[str, ...] = ()
    is_complete: bool = True
    near: tuple[ObjectName, ...] = ()
    api_servers: frozenset[tuple[bytes, int]] = frozenset()
    unusable: tuple[str, ...] = ()


class Sights(NamedTuple):
    """
    The sight of each node that was asked for, what they rest on, and the nfproxy that runs.

    `is_own_node` says that the only sight is that of the node that this machine is, if it is one.
    """

    sights: tuple[Sight, ...]
    seen: Seen
    near: tuple[ObjectName, ...]
    daemon: RunningDaemon | None
    is_own_node: bool = False


def read_sights(
    files: Iterable[str],
    flags: Flags,
    settings: Configured,
    *,
    question: Question | None = None,
    node: str = "",
    all_nodes: bool = False,
    needs_details: bool = False,
    pod: ObjectName | None = None,
) -> Sights:
    """
    Return what can be seen of what was asked about, of all Services without a question.

    `settings` are :func:`nfproxy.cli.inputs.configured` of the flags. `node` names another node
    than this one; with `all_nodes` there is a sight for each Node. `pod` is one to read, too. The
    nfproxy that runs here has the objects, too: where all is well, and no `needs_details` such as
    pods' names, its word is enough, and no API server is asked. Raises ConfigError and InputError.
    """
    files = tuple(files)
    daemon = None
    if question is not None and not (all_nodes or needs_details):
        daemon = daemon_to_ask(files, flags, settings, node)
    if daemon is None or question is None:
        return _read_sights(files, flags, settings, question, node, all_nodes=all_nodes, pod=pod)
    known = sight_of(msgspec.json.decode(_objects_of(daemon, question), type=NodeObjects))
    seen = Seen(objects=f"the {daemon}")
    found = explain(known, question)
    if worst(found.findings) not in (Severity.FAIL, Severity.WARN) and found.ports:
        missing = ("names of pods and types of Services, which the daemon does not keep",)
        return Sights((known,), msgspec.structs.replace(seen, missing=missing), (), daemon, True)
    # What is wrong may be in what the daemon does not keep, such as the name of a targetPort.
    try:
        read = _read_sights(files, flags, settings, question, node, all_nodes=False)
    except NfproxyError as error:
        if not known.planner.services:
            raise
        missing = (f"names of pods, ports without numbers, types of Services ({error.what})",)
        return Sights((known,), msgspec.structs.replace(seen, missing=missing), (), daemon, True)
    if not known.planner.services:
        return read
    merged = msgspec.structs.replace(known, details=read.sights[0].details)
    both = f"{seen.objects} and of {read.seen.objects}"
    return read._replace(
        sights=(merged,), seen=msgspec.structs.replace(read.seen, objects=both, missing=())
    )


def daemon_to_ask(
    files: tuple[str, ...], flags: Flags, settings: Configured, node: str
) -> RunningDaemon | None:
    """Return the nfproxy that runs here, if nothing else was named and it answers."""
    daemon = settings.daemon
    is_named = bool(files or flags.given or node not in ("", settings.configure.node_name))
    return daemon if daemon is not None and daemon.place is not None and not is_named else None


def _objects_of(daemon: RunningDaemon, question: Question) -> bytes:
    return daemon.ask(f"{OBJECTS_PATH}?{urlencode({'what': str(question)})}")


def _read_sights(
    files: tuple[str, ...],
    flags: Flags,
    settings: Configured,
    question: Question | None,
    node: str,
    *,
    all_nodes: bool,
    pod: ObjectName | None = None,
) -> Sights:
    """Return what files, or an API server, let see."""
    own = settings.configure.node_name
    name = node or own
    service = question.name if isinstance(question, ServiceQuestion) else None
    objects = _read(files, settings, service, "" if all_nodes or node else name, name, pod)
    for problem in objects.problems:
        # Those of objects that have a name are findings.
        if problem.kind not in _FOUND or problem.field.startswith("metadata."):
            warn(str(problem))
    nodes = objects.details.nodes
    if node and node not in nodes:
        raise _no_such_node(node, nodes)
    if all_nodes and not nodes:
        raise InputError("the objects hold no Node", "leave out --all-nodes, or name them, too")
    is_here = settings.daemon is not None and name == own
    host = own_addresses() if is_here else frozenset()
    wanted = sorted(nodes) if all_nodes else [name]
    has_config = bool(settings.daemon or flags.given.keys() & _CONFIGURING)
    sights = tuple(
        _sight(
            settings.loaded,
            objects,
            one,
            nodes.get(one),
            host if one == own else frozenset(),
            has_config=has_config,
        )
        for one in wanted
    )
    lost = (f"{file}, which gives no usable object" for file in objects.unusable)
    seen = Seen(
        objects=objects.source,
        resource_version=objects.version,
        missing=(*objects.missing, *lost),
        unusable=objects.unusable,
    )
    return Sights(sights, seen, objects.near, settings.daemon, name == own and not all_nodes)


def _sight(
    loaded: LoadedConfig,
    objects: ReadObjects,
    name: str,
    node: Node | None,
    host: frozenset[bytes],
    *,
    has_config: bool,
) -> Sight:
    # A bindAddress is this node's own, and would be the node IP of every other one.
    values: dict[str, Any] = {"hostnameOverride": name}
    if name != loaded.config.hostname_override:
        values["bindAddress"] = "0.0.0.0"  # noqa: S104 - no socket: the default of a field
    # Its warnings are findings, where the Service suffers.
    config, _ = node_config(with_values(loaded.config, values), name, node)
    kept = with_host(config.kept, host, objects.api_servers)
    planner = Planner(msgspec.structs.replace(config, kept=kept))
    planner.apply(objects.changes)
    return Sight(
        planner,
        objects.details,
        objects.problems,
        has_all_services=objects.is_complete,
        has_node=node is not None,
        has_config=has_config,
    )


def _no_such_node(name: str, nodes: Mapping[str, Node]) -> InputError:
    near = near_names(name, "", [ListedNode(one) for one in nodes])
    what, _ = missing_node(name, near)
    shown = ", ".join(sorted(nodes)[:5])
    return InputError(what, f"the objects hold {plural(len(nodes), 'Node')}: {shown or 'none'}")


# --- reading -----------------------------------------------------------------------------------


def _read(
    files: tuple[str, ...],
    settings: Configured,
    service: ObjectName | None,
    node: str,
    name: str,
    pod: ObjectName | None = None,
) -> ReadObjects:
    """Read objects of files, of the daemon's directory, or of an API server."""
    loaded, daemon = settings.loaded, settings.daemon
    names_server = loaded.config.client_connection.kubeconfig or loaded.command_line.master
    if not files and daemon and daemon.manifests and not names_server:
        files = (daemon.manifests,)
    if files:
        from nfproxy.manifests.once import read_once

        details = ObjectDetails()
        changes, problems, _, unusable = read_once(files, name, details.add)
        shown = "standard input" if files == ("-",) else plural(len(files), "path") + " (files)"
        source = shown if len(files) > 1 else files[0]
        return ReadObjects(changes, details, problems, source, unusable=unusable)
    # Imported here: commands that read files or ask the daemon need no HTTP client.
    from nfproxy.cli.apireading import read_asked

    return read_asked(loaded, service, node, name, pod)
