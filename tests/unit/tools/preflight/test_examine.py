"""
Readers side by side: what becomes of the checks when one of them fails or hangs.
"""

import threading
from collections.abc import Iterator

from nfproxy.tools.preflight.examine import Check, Reader, examine
from nfproxy.tools.preflight.findings import Level, Verdict, fail, ok, warn, worst


def broken() -> str:
    """Fail as something unforeseen does."""
    raise LookupError("what?")


def test_one_reader_that_fails_and_one_that_hangs_cost_only_their_checks() -> None:
    """
    Each says so in its line, in the order of the checks; the others are made.
    """
    never = threading.Event()
    good = Reader("good", lambda: "fine")
    bad = Reader("bad", broken)
    slow = Reader("slow", lambda: str(never.wait()), limit_s=0.1)
    checks = [
        Check("slow", lambda: ok(slow.facts())),
        Check("bad", lambda: ok(bad.facts())),
        Check("good", lambda: ok(good.facts())),
        Check("either", lambda: ok(bad.facts_or("nothing"))),
    ]
    told: list[str] = []
    found = examine([good, bad, slow], checks, told.append)
    never.set()

    assert [finding.check for finding in found] == ["slow", "bad", "good", "either"]
    assert "not looked at: slow: nothing was found within 0.1 s" in found[0].found
    assert "not looked at: bad: what?" in found[1].found
    assert [finding.level for finding in found] == [Level.WARN, Level.WARN, Level.OK, Level.OK]
    assert "fine" in found[2].found
    assert any("slow" in text for text in told)
    assert told[-1] == ""


def test_a_judgement_that_fails_hides_no_other() -> None:
    """
    Also one that breaks off in the middle.
    """

    def judge() -> Iterator[Verdict]:
        yield ok("so far")
        raise ZeroDivisionError("nothing")

    found = examine([], [Check("bad", judge), Check("good", lambda: ok("fine"))], lambda _: None)

    assert [finding.level for finding in found] == [Level.WARN, Level.OK]
    assert "ZeroDivisionError: nothing" in found[0].found


def test_what_others_wrote_stays_on_one_line() -> None:
    """
    Control characters and lengths are bounded, whatever is in a file.
    """
    (found,) = examine([], [Check("x", lambda: warn("a\n\x1b[31mb" * 500, "c\td"))], lambda _: None)

    assert len(found.found) <= 600
    assert found.found.isprintable()
    assert found.remedy == "c d"


def test_the_result_is_the_worst() -> None:
    """
    Of nothing at all it is ok.
    """
    assert worst([]) is Level.OK
    assert worst([ok("").level, warn("", "").level]) is Level.WARN
    assert worst([fail("", "").level, warn("", "").level, ok("").level]) is Level.FAIL
