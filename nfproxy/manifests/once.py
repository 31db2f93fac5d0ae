"""Manifests read once, for commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from nfproxy.errors import InputError, reason_of
from nfproxy.kube.cache import ObjectCache
from nfproxy.manifests.files import STDIN, list_files, read_text
from nfproxy.manifests.parsing import OnObject, parse
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName
from nfproxy.text import shown_path


class ReadFiles(NamedTuple):
    """
    All objects of some files, all problems, and the function from a Service to its file.

    `unusable` are the files of which nothing can be used although something is in them.
    """

    changes: Changes
    problems: tuple[Problem, ...]
    source_file: Callable[[ObjectName], str]
    unusable: tuple[str, ...]


def read_once(
    paths: Iterable[str], node_name: str, on_object: OnObject = lambda kind, data: None
) -> ReadFiles:
    """
    Return the objects of files, directories and standard input (``-``), and what concerns them.

    Of Nodes only the one called `node_name` is read. What cannot be used is left out and is among
    the problems; the command decides whether to go on. Where two files hold one object the first in
    path order has it, standard input before all: neither the order of `paths` nor a repeated one
    matters. `on_object` gets each object as it is written, see :func:`parse`. Raises InputError for
    a path that does not exist, which is most likely a mistake.
    """
    problems: list[Problem] = []
    unusable: list[str] = []
    cache = ObjectCache(node_name)
    for path in dict.fromkeys(file for given in paths for file in _files(given, problems)):
        source_file = "standard input" if path == STDIN else shown_path(path)
        try:
            content = parse(read_text(path), source_file, node_name, on_object)
        except InputError as error:
            problems.append(Problem(source_file, "", "", error.what, error.remedy))
            unusable.append(source_file)
            continue
        if content.is_unusable:
            unusable.append(source_file)
        cache.replace_file(path, content)
    found = {*problems, *cache.problems, *cache.conflicts()}
    return ReadFiles(cache.take(), tuple(sorted(found)), cache.source_file, tuple(unusable))


def _files(path: str, problems: list[Problem]) -> list[str]:
    """Return the files that a given path stands for."""
    if path == STDIN:
        return [path]
    try:
        listing = list_files(path)
    except OSError as error:
        raise InputError(f"{shown_path(path)}: {reason_of(error)}") from None
    unreadable = listing.unreadable.items()
    problems += [Problem(shown_path(place), "", "", why) for place, why in unreadable]
    if listing.lack:
        problems.append(Problem(shown_path(path), "", "", listing.lack))
    return list(listing.files)
