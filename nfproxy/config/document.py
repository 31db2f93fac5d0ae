"""
The configuration file as plain data: YAML or JSON in, mappings, lists and scalars out.

The file may be hostile or broken. Size, nesting and what aliases expand to are bounded;
duplicate keys become warnings, as kube-proxy's strict decoding reports them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from nfproxy.config.validate import describe
from nfproxy.errors import ConfigError

MAX_BYTES = 256 << 10
MAX_DEPTH = 50
MAX_NODES = 100_000


class Document(NamedTuple):
    """The first document of a file, and what was odd about it."""

    data: Any
    warnings: tuple[str, ...]


def read_document(path: str) -> Document:
    """Read and parse a configuration file. Raises ConfigError."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: cannot read the configuration file: {reason}") from None
    return parse_document(raw, path)


def parse_document(raw: bytes, name: str) -> Document:
    """
    Parse the bytes of a configuration file called `name`.

    A text that begins with a brace is JSON; if it is not, it may still be YAML.
    Raises ConfigError.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES >> 10} KiB; not a configuration file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not a text file in UTF-8 (byte {error.start})") from None
    if text.lstrip().startswith("{"):
        try:
            return _parse_json(text, name)
        except (ValueError, RecursionError):
            pass
    return _parse_yaml(text, name)


def _parse_json(text: str, name: str) -> Document:
    warnings: list[str] = []

    def to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                warnings.append(_duplicate(name, key))
            seen[key] = value
        return seen

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    data = json.loads(text, object_pairs_hook=to_dict, parse_constant=refuse)
    return Document(data, tuple(warnings))


def _parse_yaml(text: str, name: str) -> Document:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        loader.name = name
        node = loader.get_node() if loader.check_node() else None
        data = loader.construct_document(node) if node is not None else None
        more = loader.check_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", "malformed")
        raise ConfigError(f"{name}: not YAML: {reason}") from None
    except (ValueError, OverflowError) as error:  # scalars no Python value stands for
        raise ConfigError(f"{name}: not YAML: {error}") from None
    finally:
        if loader is not None:
            loader.dispose()
    if more:
        loader.warnings.append(f"{name}: only the first of several documents is read")
    return Document(data, tuple(loader.warnings))


def _duplicate(where: str, key: object) -> str:
    return f"{where}: field {describe(key)} is given more than once; the last one counts"


class _Loader(yaml.SafeLoader):
    """
    PyYAML's safe loader, bounded, with the scalars Kubernetes' YAML library knows.

    Those are null, booleans, integers and floats; no dates, no base 60.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.warnings: list[str] = []
        self._depth = 0
        self._nodes = 0
        self._weights: dict[int, int] = {}

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """
        Compose a node and count it, an alias as everything it stands for.

        Aliases cost nothing here, but merge keys multiply what they name.
        """
        alias = self.check_event(AliasEvent)
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        before = self._nodes
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and id(node) not in self._weights:
            raise yaml.MarkedYAMLError(problem="an alias within itself", problem_mark=mark)
        self._nodes += self._weights[id(node)] if alias else 1
        if self._nodes > MAX_NODES:
            problem = f"more than {MAX_NODES} values, with what aliases stand for"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        if not alias:
            self._weights[id(node)] = self._nodes - before
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping; warn of each key that is there twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                if key.value in seen:
                    where = f"{self.name}, line {key.start_mark.line + 1}"
                    self.warnings.append(_duplicate(where, key.value))
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return the implicit tags with YAML 1.1's dates and base 60 numbers left out."""
    keep = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:bool", "tag:yaml.org,2002:merge")
    table = {
        first: [pair for pair in pairs if pair[0] in keep]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = re.compile(r"[-+]?(0b[01]+|0x[0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$")
    fraction = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")
    power = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$")
    for first in "-+.0123456789":
        table.setdefault(first, []).extend(
            [
                ("tag:yaml.org,2002:int", number),
                ("tag:yaml.org,2002:float", fraction),
                ("tag:yaml.org,2002:float", power),
            ]
        )
    return table


_Loader.yaml_implicit_resolvers = _resolvers()
