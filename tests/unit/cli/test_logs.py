"""
Log lines of the daemon.
"""

import json
import logging
from collections.abc import Iterator

import pytest

from nfproxy.cli import logs
from nfproxy.config.process import Logging


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Put back what set_up changes for the whole process."""
    names = ("", "nfproxy", "nfproxy.commits")
    before = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_json_lines_are_objects_with_the_error_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    """
    A line break in a message does not end the line.
    """
    logs.set_up(Logging(format="json"), commits=False)
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
    """
    Commits from level 2 on, or where they are asked for; details from level 4 on.
    """
    logs.set_up(Logging(verbosity=verbosity), commits=commits)
    logging.getLogger("nfproxy.commits").info("commit")
    logging.getLogger("nfproxy.x").debug("detail")
    logging.getLogger("asyncio").info("others")

    assert said == [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()]
