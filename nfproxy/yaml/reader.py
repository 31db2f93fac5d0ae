"""
Read YAML as Kubernetes does; the text may be hostile.

PyYAML's C parser gives events, and :mod:`~nfproxy.yaml.values` builds the values. PyYAML's own
loader recurses in C (100,000 nested brackets end the process), keeps the whole node tree in memory
and turns dates into datetimes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from nfproxy.errors import InputError
from nfproxy.text import quoted
from nfproxy.yaml.values import Builder, Document, Limits

_SEPARATOR = re.compile(r"^---[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_DEFAULT_LIMITS = Limits()


def documents(text: str, limits: Limits = _DEFAULT_LIMITS) -> Iterator[Document | InputError]:
    """
    Yield the documents of a stream, in order; one that does not parse as its error.

    As kubectl does, the text is first cut at the lines ``---``, so an error in one document leaves
    the others readable. Errors name the line in the whole text.
    """
    for line, part in _parts(text):
        try:
            parser = yaml.CSafeLoader(part)
            while not isinstance(event := parser.get_event(), yaml.StreamEndEvent):
                if isinstance(event, yaml.DocumentStartEvent):
                    yield Builder(parser.get_event, line, limits).document()
        except InputError as error:
            yield error
        except yaml.MarkedYAMLError as error:
            yield InputError(_located(part, line, error.problem_mark, limits))
        except yaml.YAMLError:
            yield InputError("not valid YAML: holds control characters")


def first_document(data: bytes, limits: Limits = _DEFAULT_LIMITS) -> tuple[Document, bool]:
    """
    Return the first document of a file, and whether there are more.

    A file without any holds an empty document. Raises InputError.
    """
    found = documents(decode_text(data), limits)
    first = next(found, Document(None))
    if isinstance(first, InputError):
        raise first
    return first, next(found, None) is not None


def decode_text(data: bytes) -> str:
    """Return text: UTF-8, or UTF-16 where a byte order mark says so. Raises InputError."""
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"is not UTF-8 text (byte {data[error.start]:#04x} at offset {error.start})"
        ) from None


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
    """Return whether a part is ``%`` lines, and perhaps comments, with no document yet."""
    if not part.lstrip().startswith(("%", "#")):
        return False
    rows = [row for row in part.splitlines() if row.strip() and not row.startswith("#")]
    return bool(rows) and all(row.startswith("%") for row in rows)


def _located(text: str, line: int, mark: yaml.error.Mark | None, limits: Limits) -> str:
    """
    Return where a text of a file is no YAML, with what stands there; libyaml's words are its own.

    `line` is the number of lines before the text.
    """
    if mark is None:
        return "not valid YAML"
    before = text[: mark.index]
    if before.count("[") + before.count("{") > limits.depth:
        # libyaml reads ahead and has a limit of its own, so it may refuse before `Builder` does
        return f"YAML: {limits.too_deep}, line {line + mark.line + 1}"
    # libyaml places an error at the end of the text one line too far
    row = min(mark.line, text.count("\n"))
    there = text.split("\n", row + 1)[row][mark.column if row == mark.line else 0 :].rstrip()
    if there.startswith("\t"):
        return f"not valid YAML: a tab in place of spaces, line {line + row + 1}"
    near = f" at {quoted(there, 32)}" if there else ": it ends too early"
    return f"not valid YAML{near}, line {line + row + 1}"
