"""libnftables in a child: what it says, and that nothing it does harms us."""

import itertools
from pathlib import Path

import pytest
from support.kernel.real import RealKernel

from nfproxy.dataplane import libnftables
from nfproxy.errors import DataplaneError, MissingFeatureError, TransactionError


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that runs in the place of the child; tests write it."""
    script = tmp_path / "child.py"
    monkeypatch.setattr(libnftables, "_CHILD", script)
    return script


def load(real: RealKernel, text: str, *, check: bool = False) -> str:
    return real.namespace.call(lambda: libnftables.load_text(text, check=check))


def test_a_script_is_loaded_and_prints_what_it_lists(real: RealKernel):
    """
    The text of a `list` command comes back.
    """
    load(real, "add table ip sample\n")

    assert load(real, "list tables\n") == "table ip sample\n"


def test_a_check_changes_nothing(real: RealKernel):
    """
    libnftables' dry run: the script is judged, and not in force.
    """
    load(real, "add table ip sample\n", check=True)

    assert load(real, "list tables\n") == ""
    with pytest.raises(TransactionError):
        load(real, "add chain ip absent web\n", check=True)


def test_a_refusal_says_what_and_where(real: RealKernel):
    """
    libnftables' own words, in one line.
    """
    with pytest.raises(TransactionError, match=r"refused the script.*No such file") as caught:
        load(real, "add chain ip absent web\n")

    assert "\n" not in str(caught.value)


def test_a_refusal_of_a_megabyte_is_cut(real: RealKernel):
    """
    For a failing element libnftables prints the whole command.
    """
    rows = ", ".join(f"10.{a}.{b}.1" for a, b in itertools.product(range(100), range(250)))
    text = (
        "table ip sample {\n\tset one {\n\t\ttypeof ip daddr\n\t}\n}\n"
        f"add element ip sample one {{ {rows} }}\ncreate element ip sample one {{ {rows} }}\n"
    )
    with pytest.raises(TransactionError) as caught:
        load(real, text)

    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("", "no message"),
        ("Error: syntax error\nadd tabl\n    ^^^^\n", "Error: syntax error | add tabl"),
        ("x" * 1000, "x" * 200),
        ("a\n" * 100, "a | a | a | a | a | a"),
        ("\n ~~~ ^^ \n", "no message"),
    ],
)
def test_error_texts_are_cut_to_a_log_line(text: str, short: str):
    """
    Few lines, none long, without the marks below them.
    """
    assert short == libnftables.cut(text)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_is_survived_and_named(child: Path, name: str):
    """
    What others put into the namespace can crash libnftables, not us.
    """
    child.write_text(f"import os, signal\nos.kill(os.getpid(), signal.{name})\n")

    with pytest.raises(DataplaneError, match=name) as caught:
        libnftables.load_text("list ruleset\n")
    assert not isinstance(caught.value, TransactionError)


@pytest.mark.parametrize(
    ("said", "hint"), [("Operation not permitted", True), ("No such file or directory", False)]
)
def test_a_script_that_is_not_permitted_says_why_that_may_be(child: Path, said: str, hint: bool):
    """
    A capability is missing, or somebody else owns the table.
    """
    child.write_text(f"raise SystemExit('Error: Could not process rule: {said}')\n")

    with pytest.raises(TransactionError, match=said) as caught:
        libnftables.load_text("add table ip sample\n")
    assert bool(caught.value.remedy) is hint


def test_a_crash_after_some_words_gives_them(child: Path):
    """
    The last words may say why.
    """
    child.write_text("import os\nos.write(2, b'BUG: oops')\nos.abort()\n")

    with pytest.raises(DataplaneError, match="BUG: oops"):
        libnftables.load_text("list ruleset\n")


def test_a_hang_is_ended(child: Path):
    """
    A child that does not finish is killed; whether the script is in force is not known.
    """
    child.write_text("import time\ntime.sleep(60)\n")

    with pytest.raises(DataplaneError, match=r"did not finish within 0.3 s") as caught:
        libnftables.load_text("list ruleset\n", timeout_s=0.3)
    assert not isinstance(caught.value, TransactionError)


def test_an_unknown_status_is_named(child: Path):
    """
    Neither done nor refused: the outcome is open.
    """
    child.write_text("raise SystemExit(77)\n")

    with pytest.raises(DataplaneError, match="status 77"):
        libnftables.load_text("list ruleset\n")


def test_a_child_that_cannot_be_started_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch):
    """
    No traceback of the operating system's.
    """
    monkeypatch.setattr(libnftables.sys, "executable", "/nowhere/python")

    with pytest.raises(DataplaneError, match="cannot start a process"):
        libnftables.load_text("list ruleset\n")


def test_a_missing_library_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    The bindings are there, libnftables.so.1 is not: the real child, told so by false bindings.
    """
    (tmp_path / "nftables.py").write_text(
        "class Nftables:\n"
        "    def __init__(self):\n"
        "        raise OSError('libnftables.so.1: cannot open shared object file')\n"
    )
    monkeypatch.setattr(libnftables, "_bindings_path", lambda: str(tmp_path))

    with pytest.raises(MissingFeatureError, match=r"libnftables.so.1.*install the package"):
        libnftables.load_text("list ruleset\n")


def test_missing_bindings_are_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    """
    pip-nftables is not installed.
    """
    monkeypatch.setattr(libnftables.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingFeatureError, match="pip install pip-nftables"):
        libnftables.load_text("list ruleset\n")


def test_the_child_depends_on_nothing_of_ours():
    """
    It runs isolated, so it must not import nfproxy, and it is small.
    """
    text = libnftables._CHILD.read_text("utf-8")

    assert "import nfproxy" not in text
    assert "from nfproxy" not in text
