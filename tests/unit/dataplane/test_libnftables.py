"""libnftables in a child process: results, errors, crashes and hangs."""

import itertools
import socket
from contextlib import closing
from pathlib import Path

import pytest
from support.kernel.real import RealKernel

from nfproxy.dataplane import libnftables
from nfproxy.errors import DataplaneError, MissingFeatureError, TransactionError


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that runs instead of the child; tests write it."""
    script = tmp_path / "child.py"
    monkeypatch.setattr(libnftables, "_CHILD", script)
    return script


def load(real: RealKernel, text: str, *, check: bool = False) -> str:
    return real.namespace.call(lambda: libnftables.load_text(text, check=check))


def test_a_script_is_loaded_and_prints_what_it_lists(real: RealKernel):
    """The text of a `list` command comes back."""
    load(real, "add table ip sample\n")

    assert load(real, "list tables\n") == "table ip sample\n"


def test_a_check_changes_nothing(real: RealKernel):
    """libnftables and the kernel validate the script, and do not run it."""
    load(real, "add table ip sample\n", check=True)

    assert load(real, "list tables\n") == ""
    with pytest.raises(TransactionError):
        load(real, "add chain ip absent web\n", check=True)


def test_a_refusal_says_what_and_where(real: RealKernel):
    """In the words of libnftables, on one line."""
    with pytest.raises(TransactionError, match=r"refused the script.*No such file") as caught:
        load(real, "add chain ip absent web\n")

    assert "\n" not in str(caught.value)


def test_a_refusal_of_a_megabyte_is_cut(real: RealKernel):
    """For an element that it refuses, libnftables prints the whole command."""
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
        ("x" * 1000, "x" * 199 + "…"),
        ("a\n" * 100, "a"),
        ("a\nb\nc\nd\ne\nf\ng\n", "a | b | c | d | e | f"),
        ("\n ~~~ ^^ \n", "no message"),
    ],
)
def test_error_texts_are_shortened_to_a_log_line(text: str, short: str):
    """Few lines, none of them long, without the marks below them."""
    assert short == libnftables.shorten_errors(text)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_is_survived_and_named(child: Path, name: str):
    """Other programs' tables can crash libnftables, but not nfproxy."""
    child.write_text(f"import os, signal\nos.kill(os.getpid(), signal.{name})\n")

    with pytest.raises(DataplaneError, match=name) as caught:
        libnftables.load_text("list ruleset\n")
    assert not isinstance(caught.value, TransactionError)


@pytest.mark.parametrize(
    ("said", "hint"), [("Operation not permitted", True), ("No such file or directory", False)]
)
def test_a_script_that_is_not_permitted_says_why_that_may_be(child: Path, said: str, hint: bool):
    """A capability is missing, or another process owns the table."""
    errors = f"Error: Could not process rule: {said}"
    child.write_text(f"print('-1 0 {len(errors)}\\n{errors}', end='')\n")

    with pytest.raises(TransactionError, match=said) as caught:
        libnftables.load_text("add table ip sample\n")
    assert bool(caught.value.remedy) is hint


def test_an_error_printed_before_a_crash_is_kept(child: Path):
    """It may say why the child crashed."""
    child.write_text("import os\nos.write(2, b'BUG: oops')\nos.abort()\n")

    with pytest.raises(DataplaneError, match="BUG: oops"):
        libnftables.load_text("list ruleset\n")


def test_a_hang_is_ended(child: Path):
    """A child that does not finish is killed; the kernel may have its script or not."""
    child.write_text("import time\ntime.sleep(60)\n")

    with pytest.raises(DataplaneError, match=r"did not finish within 0.3 s") as caught:
        libnftables.load_text("list ruleset\n", timeout_s=0.3)
    assert not isinstance(caught.value, TransactionError)


@pytest.mark.parametrize("begun", ["0 5", "0 5 0", "0 5 0\\nhal", "", "nonsense", "0 1\\n"])
def test_half_an_answer_is_no_answer(child: Path, begun: str):
    """The child ended meanwhile: the kernel may have the script or not."""
    child.write_text(f"print('{begun}', end='')\n")

    with pytest.raises(DataplaneError, match="ended with status 0") as caught:
        libnftables.load_text("list ruleset\n")
    assert not isinstance(caught.value, TransactionError)


def test_one_child_runs_several_scripts(real: RealKernel):
    """To start one takes ten times as long as a script. Nothing of one stays for the next."""
    with closing(real.namespace.call(libnftables.Child)) as child:
        answers = [
            child.run(text)
            for text in (
                "define name = sample\nadd table ip sample\n",
                "list tables\n",
                "add chain ip sample web\n",
                "list ruleset\n",
            )
        ]

        assert answers[1] == "table ip sample\n"
        assert "chain web" in answers[3]
        with pytest.raises(TransactionError, match="unknown identifier 'name'"):
            child.run("add chain ip sample web { type filter hook input priority $name; }\n")
        assert not child.is_usable
    assert child._process.returncode is not None


def test_a_large_script_is_the_last(real: RealKernel):
    """The memory that libnftables took for it would stay with the child."""
    rows = ", ".join(f"10.{a}.{b}.1" for a, b in itertools.product(range(60), range(250)))
    sets = "table ip sample {\n\tset one {\n\t\ttypeof ip daddr\n\t}\n}\n"
    with closing(real.namespace.call(libnftables.Child)) as child:
        child.run(sets)
        small = child.is_usable
        child.run(f"add element ip sample one {{ {rows} }}\n")

        assert (small, child.is_usable) == (True, False)


def test_the_number_of_scripts_is_bounded(monkeypatch: pytest.MonkeyPatch, real: RealKernel):
    """What libnftables should leak is bounded then."""
    monkeypatch.setattr(libnftables, "_MOST_SCRIPTS", 3)
    with closing(real.namespace.call(libnftables.Child)) as child:
        usable = [(child.run("list tables\n"), child.is_usable)[1] for _ in range(3)]

    assert usable == [True, True, False]


@pytest.mark.parametrize("sent", [b"20\nadd table ip sample\n", b"200\nadd table ip sample\n", b""])
def test_a_script_that_breaks_off_is_not_run(real: RealKernel, sent: bytes):
    """nfproxy was killed while it wrote it; the child ends by itself."""
    child = real.namespace.call(libnftables.Child)
    child._process.stderr.close()
    child._socket.sendall(sent)
    child._socket.shutdown(socket.SHUT_WR)
    child._process.wait(10)

    assert child._process.returncode == 0
    child.close()
    assert load(real, "list tables\n") == ("table ip sample\n" if sent.startswith(b"20\n") else "")


def test_an_unknown_status_is_named(child: Path):
    """Neither done nor refused: the kernel may have the script or not."""
    child.write_text("raise SystemExit(77)\n")

    with pytest.raises(DataplaneError, match="status 77"):
        libnftables.load_text("list ruleset\n")


def test_a_child_that_cannot_be_started_is_a_dataplane_error(monkeypatch: pytest.MonkeyPatch):
    """An OSError would end the daemon with a traceback."""
    monkeypatch.setattr(libnftables.sys, "executable", "/nowhere/python")

    with pytest.raises(DataplaneError, match="cannot start a process"):
        libnftables.load_text("list ruleset\n")


def test_a_missing_library_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The real child, with false bindings that cannot find libnftables.so.1."""
    (tmp_path / "nftables.py").write_text(
        "class Nftables:\n"
        "    def __init__(self):\n"
        "        raise OSError('libnftables.so.1: cannot open shared object file')\n"
    )
    monkeypatch.setattr(libnftables, "_bindings_path", lambda: str(tmp_path))

    with pytest.raises(MissingFeatureError, match=r"libnftables.so.1.*install the package"):
        libnftables.load_text("list ruleset\n")


@pytest.mark.parametrize("check", [False, True])
def test_bindings_without_the_private_attribute_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool
):
    """At the first script already, not only at a check: no new version surprises a daemon later."""
    (tmp_path / "nftables.py").write_text("class Nftables:\n    context = None\n")
    monkeypatch.setattr(libnftables, "_bindings_path", lambda: str(tmp_path))

    with pytest.raises(MissingFeatureError, match="has no _Nftables__ctx") as caught:
        libnftables.load_text("list ruleset\n", check=check)
    assert "pip-nftables" in caught.value.remedy


def test_missing_bindings_are_reported(monkeypatch: pytest.MonkeyPatch):
    """pip-nftables is not installed."""
    monkeypatch.setattr(libnftables.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingFeatureError, match="pip install pip-nftables"):
        libnftables.load_text("list ruleset\n")


def test_the_child_does_not_import_nfproxy():
    """It runs isolated, without the path of nfproxy's package."""
    text = libnftables._CHILD.read_text("utf-8")

    assert "import nfproxy" not in text
    assert "from nfproxy" not in text
