"""No name of a class or of a module stands for two things."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

NFPROXY = Path(__file__).parents[2] / "nfproxy"
#: nfproxy/rulesets is a link to templates.
MODULES = [path for path in NFPROXY.rglob("*.py") if "rulesets" not in path.parts]

#: Packages whose docstrings list their modules.
LISTED = ("daemon", "dataplane", "metrics", "netlink", "nft", "plan", "reconcile", "servers")

#: Module names that several packages have, and the one thing that each stands for.
ONE_THING = {
    "access": "what lets a client use the API: the daemon gets it, preflight tries it",
    "addresses": "IP addresses: as values, in objects, in the configuration, of the host",
    "apiserver": "the API server: the client of it, and preflight's check of each",
    "changes": "what changed: of the objects, and the command that lists what came of it",
    "conntrack": "the kernel's connection tracking: its messages, and preflight's check",
    "demo": "the demo: the tool, and its command",
    "endpoints": "the endpoints of Services: as values, and which of them get traffic",
    "explain": "why a Service works or not: the engine, and its command",
    "kernel": "the kernel of this machine: as the reconciler sees it, and preflight's check",
    "trace": "the trace: the tool, and its command",
    "kubeproxy": "kube-proxy: its configuration, its metrics, whether it is here",
    "nft": "nftables: the ruleset, and preflight's check of the library and the program",
    "node": "the Node object: its value, and from the wire to the value",
    "nodeconfig": "NodeConfig: the value, and what computes it",
    "ports": "ports that the daemon listens on: their pages, and preflight's check",
    "preflight": "preflight: the tool, and its command",
    "report": "all that a command has found: preflight's list of checks, and the archive",
    "ruleset": "the rules of our tables: from templates, and preflight's look at them",
    "service": "a Service: its value, from the wire to the value, what it asks of the kernel",
    "source": "a source of objects: what it promises, and the two there are",
}


def several(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names that are there more than once, each with its places."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for name, place in sorted(pairs):
        places[name].append(place)
    return {name: found for name, found in places.items() if len(found) > 1}


def classes() -> Iterator[tuple[str, str]]:
    """Yield every class, inner ones and private ones too, and where it is."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name, f"{path.relative_to(NFPROXY)}:{node.lineno}"


def modules() -> Iterator[tuple[str, str]]:
    """Yield every module and package, and where it is."""
    for path in MODULES:
        named = path.parent if path.stem == "__init__" else path
        if named != NFPROXY:
            yield named.stem, str(named.relative_to(NFPROXY))


def test_no_class_name_is_there_twice() -> None:
    """Nor as a private class of another module."""
    assert several(classes()) == {}


def test_a_module_name_that_is_there_twice_stands_for_one_thing() -> None:
    """Each is on the list with its one meaning, and no name is on it without need."""
    assert set(several(modules())) == set(ONE_THING)


@pytest.mark.parametrize("package", LISTED)
def test_a_package_says_what_each_of_its_modules_is_for(package: str) -> None:
    """In its docstring, where readers begin."""
    init = NFPROXY / package / "__init__.py"
    text = ast.get_docstring(ast.parse(init.read_text("utf-8"))) or ""
    names = {path.stem for path in init.parent.glob("*.py")} - {"__init__"}
    assert names <= set(re.findall(r"\w+", text))


def test_no_module_is_longer_than_400_lines() -> None:
    """And few are shorter than 60: a module holds a thought."""
    lines = {path: path.read_text("utf-8").count("\n") for path in MODULES}
    assert {str(path): count for path, count in lines.items() if count > 400} == {}

    short = sorted(str(path) for path in MODULES if path.stem != "__init__" and lines[path] < 60)
    assert len(short) <= len(MODULES) // 10, short


def test_no_two_names_differ_in_case_alone() -> None:
    """``IPVS`` beside ``Ipvs``: a reader takes one for the other."""
    names = sorted({name for name, _ in classes()}, key=str.lower)
    alike = [list(same) for _, same in groupby(names, key=lambda name: name.strip("_").lower())]
    assert [same for same in alike if len(same) > 1] == []
