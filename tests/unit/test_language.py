#!/usr/bin/env python3
"""
Keep retired words and names out of code, pages, manifests and tests.

Run as a program to check an area: python tests/unit/test_language.py nfproxy/kube README.md
prints file:line: word → what to say, and exits with 1 when there is anything to print.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]

#: Retired words of prose, each with what to say. They count in every text: comments, docstrings,
#: strings, identifiers, pages, templates. A space stands for any white space, line ends included.
#: In a pattern, (?!…) and (?<!…) let the plain meaning of a word through.
WORDS = {
    r"(?<!user )nobody": "name the actor: no client, no process, no operator",
    r"somebody": "name the actor: another process, an operator, a client",
    r"whoever": "name the actor: the caller, the operator",
    r"anyone else": "name the actor: another process",
    r"anybody": "name the actor: any client, any user",
    r"everybody": "name the actor: all clients, all users",
    r"told(?![^.]{0,60} apart)": "report, receive, pass; or the active voice: the API server sends",
    r"(?<!\.)tells?(?![^.]{0,60} apart)": "return, report, say which",
    r"be had": "be available",
    r"for want of": "without; because … is missing",
    r"in vain": "without effect",
    r"by and by": "later",
    r"anew": "again",
    r"lest": "so that … not",
    r"whence": "from where",
    r"hence(?!forth)": "so, therefore",
    r"thereof": "of it, of them",
    r"none of our": "not nfproxy's",
    r"as it were": "leave it out",
    r"is meant so": "is intended",
    r"culprits?": "the changing process",
    r"errands?": "one-off DaemonSet",
    r"needles?": "affinity entries",
    r"hopeless": "unrecoverable",
}

#: Retired names, each with what to say: whole identifiers (Alarm), or one word of them
#: (noted in noted_clients). They count in Python's identifiers and in the names of modules.
NAMES = {
    "Member": "shared element",
    "Alarm": "foreign changes",
    "Pace": "SyncTimings, WatchTimeouts",
    "lane": "slot range: local, cluster",
    "lanes": "slot ranges: local, cluster",
    "noted": "affinity entries",
    "needle": "affinity entry",
    "scopes": "affinity lists",
    "pace": "timings, timeouts",
    "disturb": "foreign change",
    "disturbed": "foreign change, on_foreign_change",
    "bell": "wake",
    "duties": "hooks (after a commit)",
    "hope_until": "addresses_deadline",
    "hopeless": "unrecoverable",
    "intake": "object cache",
    "sink": "object cache",
    "ledger": "object cache",
    "InForce": "object cache",
    "inforce": "object cache",
    "loud": "warn_about",
    "asks_in_vain": "is_ineffective",
    "beside_file": "overrides_file",
    "occurrences": "event series",
    "doubt": "unverified",
    "errand": "one-off DaemonSet",
    "errands": "one-off DaemonSets",
    "origin": "source file",
    "origins": "source files",
}

#: Names with a plain meaning in tests, which are retired in the program only.
PROGRAM_NAMES = {
    "extras": "own elements",
    "beside": "background tasks",
    "following": "object cache",
    "notes": "affinity entries (plan), problems (kube)",
    "successor": "object cache",
    "instead": "replacement",
}

#: Identifiers that belong to Python.
FOREIGN_NAMES = frozenset({"get_origin", "__notes__", "add_note", "spec.origin"})

_SUFFIXES = frozenset(
    {"", ".cfg", ".html", ".ini", ".j2", ".json", ".md", ".py", ".sh", ".svg"}
    | {".toml", ".tpl", ".txt", ".yaml", ".yml"}
)
#: Not written here: versions and hashes, the license's text, and this file, which names the words.
_SKIPPED = re.compile(r"deploy/requirements.*\.txt|LICENSE|tests/unit/test_language\.py")
_TOPS = ("nfproxy", "rulesets", "deploy", "tests", ".github", ".ci", "README.md", "pyproject.toml")


class Finding(NamedTuple):
    """A retired word or name, where it stands, and what to say."""

    path: str
    line: int
    word: str
    say: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word} → {self.say}"


def _between(pattern: str) -> str:
    """Return a pattern for whole words; an underscore ends a word, as in names of tests."""
    spaced = re.sub(r"(?<!user) ", r"[\\s#_]+", pattern)
    return rf"(?<![a-z]){spaced}(?![a-z])"


def _stem(pattern: str) -> str:
    """Return letters that every match holds: a quick search for them spares the slow one."""
    certain = re.sub(r"\(\?.*?\)|\w\?", " ", pattern)
    return max(certain.split(), key=len)


_WORD_PATTERNS = [(_stem(word), re.compile(_between(word), re.I), WORDS[word]) for word in WORDS]
_NAME_PARTS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def words_in(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, word and what to say for each retired word of prose."""
    lower = text.lower()
    for stem, pattern, say in _WORD_PATTERNS:
        if stem in lower:
            for found in pattern.finditer(text):
                yield text.count("\n", 0, found.start()) + 1, " ".join(found[0].split()), say


@cache
def retired_name(identifier: str, in_program: bool) -> str:
    """Return the retired name that an identifier is or contains; "" for none."""
    names = NAMES | PROGRAM_NAMES if in_program else NAMES
    bare = identifier.strip("_")
    if bare in names:
        return bare
    parts = [part.lower() for part in _NAME_PARTS.findall(bare)]
    joined = f"_{'_'.join(parts)}_"
    return next((name for name in names if name.islower() and f"_{name}_" in joined), "")


def names_in(path: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, identifier and what to say for each retired name of a Python file."""
    in_program = path.startswith("nfproxy/")
    names = NAMES | PROGRAM_NAMES
    if found := retired_name(Path(path).stem, in_program):
        yield 1, Path(path).stem, names[found]
    if not any(retired_name(one, in_program) for one in {*re.findall(r"[A-Za-z_]\w+", text)}):
        return  # none, not even in a comment
    before: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        before = [*before[-2:], token.string]
        if token.type != tokenize.NAME or {token.string, "".join(before)} & FOREIGN_NAMES:
            continue
        if found := retired_name(token.string, in_program):
            yield token.start[0], token.string, names[found]


def findings(path: str) -> list[Finding]:
    """Return what a file of the repository holds of retired words and names, in its order."""
    text = (REPOSITORY / path).read_text("utf-8")
    found = list(words_in(text))
    if path.endswith(".py"):
        found += names_in(path, text)
    return [Finding(path, *one) for one in sorted(set(found))]


def files(tops: Iterable[str] = _TOPS) -> Iterator[str]:
    """Yield the texts below directories, by their paths in the repository."""
    for top in tops:
        at = REPOSITORY / top
        for path in sorted(at.rglob("*")) if at.is_dir() else [at]:
            name = path.relative_to(REPOSITORY).as_posix()
            plain = path.is_file() and not path.is_symlink() and path.suffix in _SUFFIXES
            if plain and "__pycache__" not in name and not _SKIPPED.fullmatch(name):
                yield name


def test_no_retired_word_comes_back() -> None:
    """No text of the repository holds a retired word or name."""
    found = [one for path in files() for one in findings(path)]

    assert found == [], "\n" + "\n".join(map(str, found))


def test_words_and_names_are_found() -> None:
    """Whole words only, in prose, in names of tests and over line ends; plain meanings pass."""
    text = "for want\n    # of it, test_nobody_asks: user nobody lists elements; henceforth"
    assert {(line, word) for line, word, _ in words_in(text)} == {
        (1, "for want # of"),
        (2, "nobody"),
    }

    source = "self._noted_clients(Pace(), pacemaker, notes.__notes__)\n"
    assert [name for _, name, _ in names_in("nfproxy/x.py", source)] == [
        *("_noted_clients", "Pace", "notes")
    ]


#: A docstring on three lines, and one that begins beside its quotes and goes on below.
_LONG_FORM = re.compile(r'^ *"""\n(.+)\n *"""$|^ *"""[A-Z`](?:(?!""").)*$', re.MULTILINE)


def test_docstrings_have_one_form() -> None:
    """One line where it fits; else the text begins and ends on lines of its own."""
    wrong = []
    for path in (path for path in files(("nfproxy", "tests")) if path.endswith(".py")):
        text = (REPOSITORY / path).read_text("utf-8")
        for found in _LONG_FORM.finditer(text):
            if not found[1] or len(found[1]) + 6 <= 100:
                wrong.append(f"{path}:{text.count(chr(10), 0, found.start()) + 1}")

    assert wrong == []


def main() -> int:
    """Print the findings of the areas that the arguments name; everything without arguments."""
    given = [Path(one).resolve() for one in sys.argv[1:]]
    tops = [one.relative_to(REPOSITORY).as_posix() for one in given] or _TOPS
    found = [one for path in files(tops) for one in findings(path)]
    for one in found:
        print(one)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
