"""Errors are values: code reacts to a class, a code or a field, never to the words of a text."""

import ast
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from nfproxy.errors import InputError, NfproxyError, reason_of

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "nfproxy").rglob("*.py"))

_NAMES = {"error", "exc", "failure", "problem"}
_PARTS = {"what", "remedy", "args", "trouble", "strerror"}
_SEARCHES = {
    "partition", "rpartition", "split", "rsplit", "splitlines", "startswith", "endswith", "find",
    "rfind", "index", "removeprefix", "removesuffix", "replace", "count",
}  # fmt: skip
_REGEX = {"search", "match", "fullmatch", "findall", "finditer", "sub", "split"}


class _Finder(ast.NodeVisitor):
    """Collects the lines of one function that search or split the text of an error."""

    def __init__(self) -> None:
        self.errors = set(_NAMES)
        self.texts: set[str] = set()
        self.found: list[int] = []

    def _is_text(self, node: ast.expr) -> bool:
        """Return whether an expression is the text of an error."""
        match node:
            case ast.Call(func=ast.Name(id="str"), args=[ast.Name(id=name)]):
                return name in self.errors
            case ast.Attribute(attr="trouble" | "remedy"):
                return True
            case ast.Attribute(value=ast.Name(id=name), attr=part):
                return part in _PARTS and name in self.errors
            case ast.Subscript(value=value):
                return self._is_text(value)
            case ast.Name(id=name):
                return name in self.texts
            case ast.JoinedStr(values=values):
                return any(isinstance(v, ast.FormattedValue) and self._is_error(v) for v in values)
            case ast.Call(func=ast.Attribute(value=value, attr="lower" | "strip" | "casefold")):
                return self._is_text(value)
            case ast.BoolOp(values=values):
                return any(map(self._is_text, values))
        return False

    def _is_error(self, value: ast.FormattedValue) -> bool:
        return isinstance(value.value, ast.Name) and value.value.id in self.errors

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.errors.add(node.name)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if self._is_text(node.value):
            self.texts |= {name.id for name in node.targets if isinstance(name, ast.Name)}
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute):
            is_search = node.func.attr in _SEARCHES and self._is_text(node.func.value)
            is_regex = node.func.attr in _REGEX and any(map(self._is_text, node.args))
            if is_search or is_regex:
                self.found.append(node.lineno)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, (ast.In, ast.NotIn)) and self._is_text(right):
                self.found.append(node.lineno)
        words = [s.value for s in sides if isinstance(s, ast.Constant) and isinstance(s.value, str)]
        if any(words) and any(map(self._is_text, sides)):
            self.found.append(node.lineno)
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        match node.value:
            case ast.Attribute(value=ast.Name(id=name), attr="args") if name in self.errors:
                self.found.append(node.lineno)
        self.generic_visit(node)


def searched(source: str) -> Iterator[tuple[str, int]]:
    """Yield (function, line) where a text of an error is searched or split."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            finder = _Finder()
            finder.visit(node)
            yield from ((node.name, line) for line in dict.fromkeys(finder.found))


def test_no_code_searches_the_text_of_an_error() -> None:
    """A text may be rephrased at any time; what others react to is a code."""
    found = []
    for path in MODULES:
        place = str(path.relative_to(ROOT))
        for function, line in searched(path.read_text()):
            found.append(f"{place}:{line}: {function}")

    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'return str(error).partition("; ")',
        'return "ENOENT" in str(error)',
        "return error.args[0]",
        'return error.what.startswith("cannot")',
        'return api.trouble.split("; ")',
        'text = str(error); return re.search("x", text)',
        'return f"{error}".removeprefix("x")',
        'return str(error).lower() == "x"',
        'return "x" in error.remedy.lower()',
    ],
)
def test_searches_are_found(line: str) -> None:
    """The check above sees what it is for."""
    assert [*searched(f"def f(error):\n    {line}\n")] == [("f", 2)]


@pytest.mark.parametrize(
    "line",
    [
        "return str(error)",
        "return error.code == ABSENT",
        'return f"{error.what}: x"',
        'return path.startswith("/")',
        "return str(error) != said",
        'return str(error) or "unknown"',
    ],
)
def test_other_uses_are_not_found(line: str) -> None:
    """Texts may be passed on, joined and compared with the last one."""
    assert [*searched(f"def f(error, path, said):\n    {line}\n")] == []


def test_an_error_reads_as_one_line_of_its_parts() -> None:
    """What happened, then what to do, where that is known."""
    assert str(NfproxyError("a.yaml: not YAML")) == "a.yaml: not YAML"
    assert str(NfproxyError("kernel too old", "update it")) == "kernel too old; update it"
    assert NfproxyError("x", code="y").code == "y"


class NetlinkError(Exception):
    """An error with an errno as its code, as pyroute2 raises it."""

    code = 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "No such file or directory", "/x"), "No such file or directory"),
        (NetlinkError(1, "whatever"), "Operation not permitted"),
        (InputError("no text", "write one"), "no text; write one"),
        (TimeoutError(), "it took too long"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "it holds bytes that are no text"),
        (ValueError("embedded null byte"), "it holds something that cannot be used there"),
        (RuntimeError("too many \x1b[31m watches"), "RuntimeError"),
    ],
)
def test_the_reason_of_a_foreign_error_is_no_library_s_text(error: Exception, reason: str) -> None:
    """The system's words, else ours, else the class."""
    assert reason_of(error) == reason


def test_the_reason_of_openssl_is_its_constant(tmp_path: Path) -> None:
    """Its text has the place in a C file."""
    path = tmp_path / "ca"
    path.write_text("no certificate")
    with pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context(cafile=str(path))
    assert reason_of(caught.value) == "OpenSSL: NO_CERTIFICATE_OR_CRL_FOUND"
