"""Readers at the same time, judgements without I/O: what a failure of one costs the others."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.preflight import SUBJECT, levels

from nfproxy.errors import NfproxyError
from nfproxy.tools.preflight import access, report
from nfproxy.tools.preflight.access import ApiAccess
from nfproxy.tools.preflight.examine import (
    Check,
    FactSource,
    IfKnown,
    Subject,
    examine,
    is_machines_root,
)
from nfproxy.tools.preflight.findings import Finding, Level, fail, ok, warn, worst


def broken(_: Subject) -> str:
    """Fail as something unforeseen does."""
    raise LookupError("what?")


def test_one_reader_that_fails_and_one_that_hangs_cost_only_their_checks() -> None:
    """Each says so in its line, in the order of the checks; the other checks are made."""
    never = threading.Event()
    good = FactSource("good", lambda _: "fine")
    bad = FactSource("bad", broken)
    slow = FactSource("slow", lambda _: str(never.wait()), limit_s=0.1)
    checks = [
        Check("slow", ok, (slow,)),
        Check("bad", ok, (bad,)),
        Check("good", ok, (good,)),
        Check("either", lambda facts: ok(facts or "nothing"), (IfKnown(bad),)),
    ]
    progress: list[str] = []
    found = examine(SUBJECT, checks, progress.append)
    never.set()

    assert [finding.check for finding in found] == ["slow", "bad", "good", "either"]
    assert "not looked at: slow: nothing was found within 0.1 s" in found[0].found
    assert "not looked at: bad: LookupError" in found[1].found
    assert [finding.level for finding in found] == [Level.WARN, Level.WARN, Level.OK, Level.OK]
    assert "fine" in found[2].found
    assert any("slow" in text for text in progress)
    assert progress[-1] == ""


def test_a_reader_receives_the_facts_of_those_it_needs() -> None:
    """Also where no check needs them directly; a reader is run once for all."""
    calls: list[str] = []
    first = FactSource("first", lambda subject: calls.append("read") or subject.node_name)
    second = FactSource("second", lambda _, name: f"{name}!", (first,))
    checks = [Check("x", ok, (second,)), Check("y", ok, (first,))]

    found = examine(SUBJECT, checks, lambda _: None)

    assert [finding.found for finding in found] == ["n!", "n"]
    assert calls == ["read"]


def test_a_judgement_that_fails_hides_no_other() -> None:
    """Also one that breaks off in the middle."""

    def judge() -> Iterator[Finding]:
        yield ok("so far")
        raise ZeroDivisionError("nothing")

    checks = [Check("bad", judge, ()), Check("good", lambda: ok("fine"), ())]
    found = examine(SUBJECT, checks, lambda _: None)

    assert [finding.level for finding in found] == [Level.WARN, Level.OK]
    assert "ZeroDivisionError: nothing" in found[0].found


def test_text_of_others_stays_on_one_line() -> None:
    """Control characters and lengths are bounded, whatever a file holds."""
    check = Check("x", lambda: warn("a\n\x1b[31mb" * 500, "c\td"), ())
    (found,) = examine(SUBJECT, [check], lambda _: None)

    assert len(found.found) <= 600
    assert found.found.isprintable()
    assert found.remedy == "c d"


def test_the_result_is_the_worst() -> None:
    """Of no finding at all it is ok."""
    assert worst([]) is Level.OK
    assert worst([ok("").level, warn("", "").level]) is Level.WARN
    assert worst([fail("", "").level, warn("", "").level, ok("").level]) is Level.FAIL


def test_a_configuration_that_cannot_be_used() -> None:
    """It is a failure with its remedy; warnings are worth a look."""
    (unusable,) = report.judge_configuration(
        SUBJECT._replace(trouble=NfproxyError("x: no", "try y"))
    )

    assert (unusable.found, unusable.level) == ("x: no", Level.FAIL)
    assert unusable.remedy.startswith("try y; the other checks used the defaults")
    warned = report.judge_configuration(SUBJECT._replace(warnings=("a", "b")))
    assert levels(warned) == [Level.WARN, Level.WARN]
    assert levels(report.judge_configuration(SUBJECT)) == [Level.OK]


def test_every_judgement_is_a_function_that_tests_run_without_io() -> None:
    """The fixture guards functions by their name, so all have to have such a name."""
    assert {check.judge.__name__.partition("_")[0] for check in report.CHECKS} == {"judge"}
    assert len({check.name for check in report.CHECKS}) == len(report.CHECKS)


def test_a_judgement_that_does_io_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The guard itself can fail: here for a helper that reads a file."""
    monkeypatch.setattr(access, "node_config", lambda *_: tmp_path.joinpath("x").read_text())

    with pytest.raises(AssertionError, match="does I/O: open"):
        access.judge_node(SUBJECT, ApiAccess())


@pytest.mark.parametrize(
    ("pid_namespace", "mounts", "expected"),
    [
        ("4026531836", ["1 0 254:0 / / rw - ext4 /dev/vda rw"], True),
        ("4026531836", ["1 0 254:0 / / rw shared:1 master:2 - ext4 /dev/vda rw"], True),
        ("4026532999", ["1 0 254:0 / / rw - ext4 /dev/vda rw"], False),  # LXC on a disk of its own
        ("4026531836", ["1 0 0:61 / / rw - overlay overlay rw"], False),  # hostPID
        ("4026531836", ["1 0 254:0 /pods/7 / rw - ext4 /dev/vda rw"], False),
        (
            "4026531836",
            ["1 0 254:0 / / rw - ext4 /dev/vda rw", "9 1 0:5 / / rw - overlay o rw"],
            False,
        ),
        ("4026531836", ["1 0 254:0 / /mnt rw - ext4 /dev/vda rw"], False),
        ("4026531836", ["nonsense"], False),
        ("4026531836", [], False),
    ],
)
def test_the_root_directory_of_a_machine_is_recognised(
    tmp_path: Path, pid_namespace: str, mounts: list[str], expected: bool
) -> None:
    """A mark such as /.dockerenv does not count there: `ip netns exec` is no container."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to(f"pid:[{pid_namespace}]")
    (tmp_path / "self/mountinfo").write_text("".join(f"{line}\n" for line in mounts))

    assert is_machines_root(tmp_path) is expected
