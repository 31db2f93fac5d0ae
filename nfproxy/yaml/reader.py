"""
YAML as Kubernetes reads it, from hands that may be hostile.

PyYAML's C parser gives events; :mod:`~nfproxy.yaml.values` builds the values,
because PyYAML's own loader recurses in C (100,000 nested brackets end the process), keeps
the whole node tree in memory and turns dates into datetimes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from nfproxy.errors import InputError
from nfproxy.yaml.values import TOO_DEEP, Builder, Document

_SEPARATOR = re.compile(r"^---[ \t]*(?:#.*)?\r?$", re.MULTILINE)


def documents(text: str) -> Iterator[Document | InputError]:
    """
    Yield the documents of a stream, in order; one that does not parse as its error.

    As kubectl does, the text is first cut at the lines ``---``, so an error in one
    document leaves the others readable. Errors name the line in the whole text.
    """
    for line, part in _parts(text):
        try:
            yield from _parse(part, line)
        except InputError as error:
            yield error


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number of lines before, text) of what stands between lines ``---``."""
    start, line = 0, 0
    for match in _SEPARATOR.finditer(text):
        part = text[start : match.start()]
        if _only_directives(part):
            continue  # ``%YAML 1.1`` belongs to the document after the ``---``
        yield line, part
        line += part.count("\n")
        start = match.start()
    yield line, text[start:]


def _only_directives(part: str) -> bool:
    """Tell whether a part is ``%`` lines, and perhaps comments, with no document yet."""
    if not part.lstrip().startswith(("%", "#")):
        return False
    rows = [row for row in part.splitlines() if row.strip() and not row.startswith("#")]
    return bool(rows) and all(row.startswith("%") for row in rows)


def _parse(text: str, line: int) -> Iterator[Document]:
    """
    Yield the documents of a text that starts `line` lines into its file. Raises InputError.
    """
    try:
        parser = yaml.CSafeLoader(text)
        while not isinstance(event := parser.get_event(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                yield Builder(parser.get_event, line).document()
    except yaml.YAMLError as error:
        raise InputError(_message(error, line, text.count("\n"))) from None


def _message(error: yaml.YAMLError, line: int, last: int) -> str:
    """
    Return a parser's error in text of `last` + 1 lines as one short line.

    libyaml places an error at the end of the text one line too far.
    """
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
    context = getattr(error, "context", None)
    if "nesting depth" in what:  # libyaml reads ahead, and since 0.2.6 has a limit of its own, 1000
        what, context = TOO_DEEP, None
    text = f"not valid YAML: {what}" + (f" ({context})" if context else "")
    return f"{text}, line {line + min(mark.line, last) + 1}" if mark else text
