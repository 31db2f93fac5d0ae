"""What commands print, and the daemon's log lines."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from nfproxy.cli.floods import OF_KIND
from nfproxy.cli.loglines import set_up_logging
from nfproxy.cli.output import OutputRow, print_data, print_table
from nfproxy.config.componentbase import Logging


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Put back what set_up_logging changes for the whole process."""
    names = ("", "nfproxy", "nfproxy.commits")
    before = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


ROWS = (
    OutputRow(("added", "web", "one\ntwo"), "green", plain=("added", "web", "one; two")),
    OutputRow(("removed", "[red]", ""), "red"),
)


def test_a_table_is_tab_separated_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    """One line per row, without titles."""
    print_table(("CHANGE", "SERVICE", "DETAILS"), ROWS)

    assert capsys.readouterr().out == "added\tweb\tone; two\nremoved\t[red]\t\n"


def test_a_table_has_columns_and_titles_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first cell has a colour; what looks like markup in a name is printed as it is."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)

    print_table(("CHANGE", "SERVICE", "DETAILS"), ROWS, prose=["DETAILS"])

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "SERVICE" in lines[0]
    assert lines[1].startswith("\x1b[32madded")
    assert lines[2].strip() == "two"
    assert "[red]" in lines[3]


@pytest.mark.parametrize(
    ("form", "text"),
    [("json", '{\n  "b": "ü",\n  "a": [\n    1\n  ]\n}\n'), ("yaml", "b: ü\na:\n- 1\n")],
)
def test_data_keeps_the_order_of_its_keys(
    capsys: pytest.CaptureFixture[str], form: str, text: str
) -> None:
    """Both forms end with a line break and leave letters as they are."""
    print_data({"b": "ü", "a": (1,)}, form)

    assert capsys.readouterr().out == text


def test_json_lines_are_objects_with_the_error_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    """A line break in a message does not end the line."""
    set_up_logging(Logging(format="json"), commits=False)
    try:
        raise ValueError("no\nway")
    except ValueError:
        logging.getLogger("nfproxy.x").exception('it "failed"\n%s', "twice")
    row = json.loads(capsys.readouterr().err)

    assert (row["level"], row["logger"], row["msg"]) == ("error", "nfproxy.x", 'it "failed"\ntwice')
    assert "ValueError: no\nway" in row["err"]
    assert row["ts"] > 1.7e9


@pytest.mark.parametrize(
    ("verbosity", "commits", "said"),
    [
        (0, False, []),
        (0, True, ["commit"]),
        (2, False, ["commit"]),
        (4, False, ["commit", "detail"]),
    ],
)
def test_verbosity(
    capsys: pytest.CaptureFixture[str], verbosity: int, commits: bool, said: list[str]
) -> None:
    """Commits from level 2 on, or where they are asked for; details from level 4 on."""
    set_up_logging(Logging(verbosity=verbosity), commits=commits)
    logging.getLogger("nfproxy.commits").info("commit")
    logging.getLogger("nfproxy.x").debug("detail")
    logging.getLogger("asyncio").info("others")

    assert said == [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()]


def test_a_flood_of_lines_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever logger they come from."""
    set_up_logging(Logging(), commits=False)
    for number in range(1000):
        logging.getLogger(f"nfproxy.{number % 2}").warning("object %d is bad", number)

    assert 2 * OF_KIND.at_once <= len(capsys.readouterr().err.splitlines()) < 500
