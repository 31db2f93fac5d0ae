"""However fast objects change, the log grows by a bounded number of lines a second."""

from __future__ import annotations

import logging
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nfproxy.cli.floods import OF_ALL, OF_CHANGES, OF_KIND, OF_OBJECT, FloodFilter

CHANGES = "nfproxy.commits"


class Log:
    """A filter at a time of the test's choice, and the lines that it lets through."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.lines: list[str] = []
        self._filter = FloodFilter(CHANGES, lambda: self.now_s)

    def write(self, text: str, *args: object, **fields: Any) -> bool:
        """Log a line; return whether it comes."""
        record = logging.LogRecord("nfproxy.x", logging.WARNING, "", 0, text, args, None)
        vars(record).update(fields)
        comes = self._filter.filter(record)
        self.lines += [record.getMessage()] * comes
        return comes

    def write_many(self, count: int, text: str, *args: object, **fields: Any) -> int:
        """Log a line many times; return how often it comes."""
        return sum(self.write(text, *args, **fields) for _ in range(count))


def test_an_object_that_changes_all_the_time_has_a_line_now_and_then() -> None:
    """And lines about others come all the same."""
    log = Log()
    assert log.write_many(10_000, "%s: bad", "a", about="Service ns/a") == OF_OBJECT.at_once
    assert log.write("%s: bad", "b", about="Service ns/b")
    log.now_s = 2.1
    assert log.write_many(100, "%s: bad 100%%", "a", about="Service ns/a") == OF_OBJECT.at_once
    assert log.write_many(100, "%s: bad", "a", about="Service ns/a") == 1
    left_out = 10_000 - OF_OBJECT.at_once
    assert log.lines[-1] == f"a: bad ({left_out:,} more lines like this left out)"
    log.now_s = 20.0
    log.write("%s: bad", "a", about="Service ns/a")
    assert log.lines[-1] == "a: bad (99 more lines like this left out)"


def test_each_kind_has_its_own_lines() -> None:
    """A text says what kind it is, not the values in it."""
    log = Log()
    assert log.write_many(1000, "sync failed: %s", "x") == OF_KIND.at_once
    assert not log.write("sync failed: %s", "y")
    assert log.write("stopping; installed rules stay")


def test_all_kinds_together_are_bounded() -> None:
    """Also where each line is about another object."""
    log = Log()
    came = sum(log.write("bad", about=f"Service ns/{number}") for number in range(10_000))
    assert came == OF_ALL.at_once
    log.now_s = 10.0
    again = sum(log.write("bad", about=f"Service ns/{number}") for number in range(10_000))
    assert again == 10.0 * OF_ALL.per_s
    assert len(log._filter._kinds) <= 4096


def test_what_an_operator_asked_for_has_more_lines() -> None:
    """Debug lines all; a line for each change within a bound of its own."""
    log = Log()
    assert log.write_many(10_000, "x", levelno=logging.DEBUG) == 10_000
    assert log.write_many(10_000, "%s", "x", name=CHANGES) == OF_CHANGES.at_once
    assert log.write("stopping; installed rules stay")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a %s", "b %s", "%s"]),
            st.sampled_from(["", "x", "y"]),
            st.floats(0, 3),
        )
    )
)
def test_no_line_is_lost_without_a_count(given: list[tuple[str, str, float]]) -> None:
    """Lines and what they say was left out are all there were, but for those since."""
    log = Log()
    for text, about, wait_s in given:
        log.now_s += wait_s
        log.write(text, "z", about=about)
    waiting = sum(allowance.left_out for allowance in log._filter._kinds.values())
    said = sum(int(line.split("(")[1].split()[0]) for line in log.lines if "left out" in line)
    assert len(log.lines) + said + waiting == len(given)
