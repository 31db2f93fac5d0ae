"""What scan after scan means: gains at once, losses after a quiet moment, last good versions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfproxy.kube.heldfiles import FileContent, ObjectKey, UnusableObject
from nfproxy.kube.identity import Kind
from nfproxy.manifests.directory import MAX_WAIT_S, QUIET_S, ManifestDirectory
from nfproxy.manifests.files import Listing, Signature
from nfproxy.manifests.scan import Scan
from nfproxy.model.changes import Changes, Problem
from nfproxy.model.service import ObjectName, Service


def key(name: str) -> ObjectKey:
    return ObjectKey(Kind.SERVICE, ObjectName("default", name))


def content(*objects: str, **fields: Any) -> FileContent:
    """Return a file's content; ``web1`` stands for version 1 of Service ``web``."""
    found = {
        key(text[:-1]): Service(
            name=ObjectName("default", text[:-1]),
            cluster_ips=(bytes([10, 0, 0, int(text[-1])]),),
            ports=(),
        )
        for text in objects
    }
    return FileContent(objects=dict(found), **fields)


BROKEN = FileContent(problems=(Problem("f", "", "", "broken"),), parsed=False)
HALF = content("one2", parsed=False)


class Directory:
    """Scans of an imaginary directory, taken by a ManifestDirectory."""

    def __init__(self) -> None:
        self.state = ManifestDirectory("/m")
        self.now = 100.0
        self.files: dict[str, tuple[Signature, FileContent]] = {}
        self.fresh: set[str] = set()
        self.clock = 0
        self.identity = (1, 1)
        self.unreadable: dict[str, str] = {}

    def write(self, path: str, text: FileContent, in_place: bool = False) -> None:
        """Put a content into a file; by renaming, if not in place."""
        self.clock += 1
        inode = self.files[path][0].inode if in_place and path in self.files else self.clock
        self.files[path] = Signature(1, inode, 5, self.clock, self.clock), text
        self.fresh.add(path)

    def remove(self, path: str) -> None:
        del self.files[path]
        self.fresh.discard(path)

    def look(self, at_once: bool = False, error: str = "") -> dict[str, str]:
        """Take a scan; return changes as name → version, "" for gone."""
        if error:
            self.state.apply(Scan(Listing({}, {}, []), {}, error=error), self.now)
            return versions(self.state.take())
        known = self.state.signatures
        files = {
            path: signature
            for path, (signature, _) in sorted(self.files.items())
            if not any(path.startswith(place) for place in self.unreadable)
        }
        read = {p: self.files[p][1] for p, signature in files.items() if known.get(p) != signature}
        scan = Scan(Listing(files, self.unreadable, []), read, self.identity)
        self.state.apply(scan, self.now, at_once)
        return versions(self.state.take())

    def wait(self) -> dict[str, str]:
        """Let as much time pass as is asked for, and look again."""
        due_s = self.state.due_in(self.now)
        assert due_s is not None
        self.now += due_s + 0.001
        return self.look()

    @property
    def problems(self) -> list[str]:
        return [str(problem) for problem in self.state.problems]


def versions(changes: Changes) -> dict[str, str]:
    return {
        name.name: str(service.cluster_ips[0][3]) if service else ""
        for name, service in changes.services.items()
    }


@pytest.fixture
def directory() -> Directory:
    """A directory with two files, loaded."""
    made = Directory()
    made.write("/m/a", content("one1", "two1"))
    made.write("/m/b", content("three1"))
    assert made.look(at_once=True) == {"one": "1", "two": "1", "three": "1"}
    return made


def test_nothing_new_changes_nothing(directory):
    assert directory.look() == {}
    assert directory.state.due_in(directory.now) is None


@pytest.mark.parametrize("in_place", [True, False])
def test_a_gain_takes_effect_at_once(directory, in_place):
    directory.write("/m/a", content("one2", "two1", "four1"), in_place)

    assert directory.look() == {"one": "2", "four": "1"}


def test_a_file_renamed_into_place_takes_effect_as_a_whole(directory):
    """It is complete, so what is missing in it is gone: one change, not two."""
    directory.write("/m/a", content("one2"))

    assert directory.look() == {"one": "2", "two": ""}


def test_a_file_that_lost_objects_in_place_may_be_half_written(directory):
    directory.write("/m/a", content("one2"), in_place=True)

    assert directory.look() == {}
    directory.write("/m/a", content("one2", "two2"), in_place=True)
    assert directory.look() == {"one": "2", "two": "2"}
    assert directory.state.due_in(directory.now) is None


def test_a_loss_is_believed_after_a_quiet_moment(directory):
    directory.write("/m/a", content("one2"), in_place=True)
    directory.look()
    directory.now += QUIET_S / 2

    assert directory.look() == {}
    assert directory.wait() == {"one": "2", "two": ""}


def test_a_deleted_file_takes_its_objects_with_it(directory):
    directory.remove("/m/a")

    assert directory.look() == {}
    assert directory.wait() == {"one": "", "two": ""}


def test_a_file_that_comes_back_at_once_was_never_gone(directory):
    """Some editors move the old file away before they write the new one."""
    directory.remove("/m/a")
    directory.look()
    directory.write("/m/a", content("one1", "two2"))

    assert directory.look() == {"two": "2"}
    assert directory.state.due_in(directory.now) is None


def test_a_file_that_was_renamed_changes_nothing(directory):
    moved = directory.files["/m/a"][1]
    directory.remove("/m/a")
    directory.write("/m/c", moved)

    assert (directory.look(), directory.problems) == ({}, [])
    assert (directory.wait(), directory.problems) == ({}, [])


def test_a_busy_directory_cannot_put_off_a_loss_for_ever(directory):
    directory.remove("/m/b")
    gone = {}
    for number in range(int(MAX_WAIT_S / 0.1) + 2):
        gone |= directory.look()
        directory.now += 0.1
        directory.write("/m/a", content("one1", f"two{number % 9}"))

    assert gone["three"] == ""


@pytest.mark.parametrize("broken", [BROKEN, HALF, FileContent(parsed=False)])
def test_a_file_that_does_not_parse_keeps_its_last_good_objects(directory, broken):
    directory.write("/m/a", broken)

    assert directory.look() == {}
    assert directory.state.due_in(directory.now) is None
    assert any("2 objects of the last good version in use" in p for p in directory.problems)


def test_a_file_broken_in_place_is_reported_after_a_quiet_moment(directory):
    directory.write("/m/a", BROKEN, in_place=True)
    directory.look()

    assert directory.problems == []
    assert directory.wait() == {}
    assert "f: broken" in directory.problems


def test_a_mended_file_takes_effect_and_its_problems_are_gone(directory):
    directory.write("/m/a", BROKEN)
    directory.look()
    directory.write("/m/a", content("one3"))

    assert directory.look() == {"one": "3", "two": ""}
    assert directory.problems == []


def test_of_a_new_file_that_does_not_parse_counts_what_can_be_read(directory):
    directory.write("/m/c", content("four1", parsed=False))

    assert directory.look() == {}
    assert directory.wait() == {"four": "1"}


def test_at_the_start_a_broken_file_is_not_waited_for():
    directory = Directory()
    directory.write("/m/a", content("one1", parsed=False))

    assert directory.look(at_once=True) == {"one": "1"}


def test_a_file_that_never_parsed_is_taken_as_far_as_it_can_be_read():
    directory = Directory()
    directory.write("/m/a", content("one1", "two1", parsed=False))
    directory.look(at_once=True)
    directory.write("/m/a", content("one2", "three1", parsed=False))

    assert directory.look() == {"one": "2", "three": "1"}


def test_an_object_that_does_not_decode_keeps_its_last_good_version(directory):
    unusable = UnusableObject(Kind.SERVICE, "default", "two")
    directory.write("/m/a", content("one2", unusable=frozenset([unusable])))

    assert directory.look() == {"one": "2"}
    assert directory.problems == ["/m/a: 1 object of the last good version in use"]


def test_while_an_object_has_no_name_none_is_taken_for_deleted(directory):
    directory.write("/m/a", content("one2", has_nameless=True))

    assert directory.look() == {"one": "2"}


def test_a_kept_object_that_was_deleted_meanwhile_goes_in_the_end(directory):
    directory.write("/m/a", content("one2", has_nameless=True))
    directory.look()
    directory.write("/m/a", content("one2"))

    assert (directory.look(), directory.problems) == ({"two": ""}, [])


def test_a_directory_that_vanishes_leaves_everything_in_force(directory):
    assert directory.look(error="No such file or directory") == {}
    assert directory.state.due_in(directory.now) is None
    assert directory.problems == [
        "/m: No such file or directory; 3 objects from there in use as before"
    ]


def test_a_directory_that_comes_back_is_picked_up(directory):
    directory.look(error="gone")
    directory.remove("/m/b")
    directory.write("/m/a", content("one2", "two1"))
    directory.identity = (1, 2)

    assert directory.look() == {"one": "2"}
    assert directory.wait() == {"three": ""}
    assert directory.problems == []


@pytest.mark.parametrize("seen", [True, False])
def test_an_empty_directory_in_place_of_the_known_one_says_nothing(directory, seen):
    """A mount point whose volume is not mounted; or a program is about to fill it."""
    if seen:
        directory.look(error="gone")
    else:
        directory.identity = (2, 1)
    files, directory.files = directory.files, {}

    assert directory.look() == {}
    assert directory.state.due_in(directory.now) is None
    assert "is empty, and not the directory it was" in directory.problems[0]
    directory.files = files
    assert (directory.look(), directory.problems) == ({}, [])


def test_an_emptied_directory_is_believed(directory):
    directory.files = {}
    directory.look()

    assert directory.wait() == {"one": "", "two": "", "three": ""}


def test_what_lies_below_an_unreadable_directory_stays(directory):
    directory.write("/m/d/e", content("four1"))
    directory.look()
    directory.unreadable = {"/m/d": "Permission denied"}

    assert directory.look() == {}
    assert directory.state.due_in(directory.now) is None
    assert directory.problems == ["/m/d: Permission denied; 1 object from there in use as before"]


def test_when_the_first_of_two_files_goes_the_second_takes_over(directory):
    directory.write("/m/c", content("one7"))
    assert directory.look() == {}
    assert directory.problems == ["/m/c: Service default/one: is also in /m/a, which counts"]
    directory.write("/m/a", content("two1"))

    assert directory.look() == {"one": "7"}
    assert directory.problems == []


def test_a_new_first_file_takes_over_from_the_second(directory):
    directory.write("/m/0", content("one7"))

    assert directory.look() == {"one": "7"}


def test_an_object_that_stops_being_proxied_is_gone(directory):
    directory.write("/m/b", FileContent(objects={key("three"): None}))

    assert directory.look() == {"three": ""}


steps = st.tuples(
    st.sampled_from(["/m/a", "/m/b", "/m/c"]),
    st.lists(st.sampled_from(["one1", "one2", "two1", "two2"]), unique_by=lambda t: t[:-1]),
    st.sampled_from(["write", "in place", "remove", "vanish", "time"]),
)


@given(st.lists(steps, max_size=12))
@settings(deadline=None)
def test_any_history_of_good_files_ends_like_a_fresh_start(history):
    directory = Directory()
    held: dict[str, str] = {}
    held |= directory.look(at_once=True)
    for path, objects, step in history:
        if step == "time":
            directory.now += 1
        elif step == "remove":
            if path in directory.files:
                directory.remove(path)
        elif step != "vanish":
            directory.write(path, content(*objects), step == "in place")
        held |= directory.look(error="gone" if step == "vanish" else "")
    directory.write("/m/z", FileContent())  # an empty directory might be one that is not mounted
    held |= directory.look()
    while directory.state.due_in(directory.now) is not None:
        held |= directory.wait()

    fresh = Directory()
    fresh.files = directory.files
    assert fresh.look(at_once=True) == {name: version for name, version in held.items() if version}
    assert fresh.problems == directory.problems
