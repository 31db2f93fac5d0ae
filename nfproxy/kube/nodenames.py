"""
The names of a cluster's Nodes, and which of them an operator may have meant.

The daemon asks for them once, when there is no Node of its own name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import msgspec

from nfproxy.text import quoted

#: So many names an operator can read in one line.
_MOST = 3

#: What Kubernetes leaves of ``$(NAME)`` where the pod has no such variable.
_UNEXPANDED = re.compile(r"\$[({]?\w+")


class ListedNode(msgspec.Struct, frozen=True):
    """A Node in a list: its name, and the host name that its kubelet reported, "" if unknown."""

    name: str
    host_name: str = ""


class _Labels(msgspec.Struct):
    host_name: str | None = msgspec.field(default=None, name="kubernetes.io/hostname")


class _NodeMetadata(msgspec.Struct):
    name: str = ""
    labels: _Labels | None = None


class _NodeItem(msgspec.Struct):
    metadata: _NodeMetadata = msgspec.field(default_factory=_NodeMetadata)


class _NodeList(msgspec.Struct):
    items: list[_NodeItem] | None = None


def read_node_names(body: bytes) -> tuple[ListedNode, ...]:
    """Return the Nodes of a list, of Nodes or of their metadata alone; none if it is no list."""
    try:
        items = msgspec.json.decode(body, type=_NodeList).items or []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ()
    found = (item.metadata for item in items if item.metadata.name)
    return tuple(
        ListedNode(one.name, (one.labels.host_name or "") if one.labels else "") for one in found
    )


def near_names(wanted: str, host_name: str, nodes: Iterable[ListedNode]) -> tuple[str, ...]:
    """
    Return the names of at most three Nodes that this node may be, the best first.

    `wanted` is the name that no Node has, `host_name` the machine's own. A Node that reported this
    host name, or has one of the names with or without its domain, is certainly nearer than one
    whose name is only written alike.
    """
    known = sorted(nodes, key=lambda node: node.name)
    ours = [name.strip().lower() for name in (wanted, host_name)]
    shorts = {_first_label(name) for name in ours} - {""}
    same_host = [node.name for node in known if node.host_name.lower() in {*ours, *shorts} - {""}]
    same_label = [node.name for node in known if _first_label(node.name) in shorts]
    near = list(dict.fromkeys(same_host + same_label))
    if not near:
        names = [node.name for node in known]
        near = [n for one in ours for n in difflib.get_close_matches(one, names, _MOST, cutoff=0.8)]
    return tuple(dict.fromkeys(near))[:_MOST]


def missing_node(name: str, near: Iterable[str]) -> tuple[str, str]:
    """Return what is wrong where there is no Node called `name`, and what to do about it."""
    what = f"there is no Node {quoted(name)}"
    if _UNEXPANDED.search(name):
        return (
            f"{what}: a variable in --hostname-override was not replaced",
            "define it in the container's env, from fieldRef spec.nodeName",
        )
    names = ", ".join(map(quoted, near))
    if names:
        return f"{what}, but {names}", "name this node's with --hostname-override"
    return what, "name this node as `kubectl get nodes` does: --hostname-override"


def _first_label(name: str) -> str:
    return name.partition(".")[0]
