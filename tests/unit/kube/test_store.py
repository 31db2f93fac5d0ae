"""What an API server has told of one kind, and what of that is passed on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nfproxy.kube.decode import Decoded
from nfproxy.kube.store import Store
from nfproxy.model.changes import Problem
from nfproxy.model.service import ObjectName

A, B = ObjectName("default", "a"), ObjectName("default", "b")
BAD = Problem("", "Service default/a", "spec", "is missing")
OTHER = Problem("", "Service default/a", "spec.ports", "is missing")


def good(name: ObjectName, value: int) -> Decoded[int]:
    return Decoded(name, value)


def bad(name: ObjectName | None, *problems: Problem) -> Decoded[int]:
    return Decoded(name, None, problems, usable=False)


def test_only_latest_values_are_passed_on():
    """
    What happened in between is lost, on purpose.
    """
    store: Store[int] = Store()
    for value in (1, 2, 3):
        store.put(good(A, value))

    assert store.take() == {A: 3}
    assert store.take() == {}


def test_what_came_and_went_is_no_change():
    """
    Nor is what changed and changed back.
    """
    store: Store[int] = Store()
    store.put(good(A, 1))
    store.take()

    store.put(good(A, 2))
    store.put(good(A, 1))
    store.put(good(B, 1))
    store.remove(B)

    assert store.take() == {}


def test_an_object_that_has_no_part_in_proxying_counts_as_gone():
    """
    A Service that became headless goes as if it were deleted.
    """
    store: Store[int] = Store()
    store.put(good(A, 1))
    store.take()

    outcome = store.put(Decoded(A, None))

    assert outcome.changed
    assert store.take() == {A: None}


def test_a_list_that_was_broken_off_deletes_nothing():
    """
    Only what a complete list does not hold is gone.
    """
    store: Store[int] = Store()
    store.put(good(A, 1))
    store.put(good(B, 1))
    store.take()

    store.begin_list()
    store.put(good(A, 2))

    assert store.take() == {A: 2}

    store.begin_list()
    store.put(good(A, 2))
    gone = store.end_list()

    assert [outcome.before for outcome in gone] == [1]
    assert store.take() == {B: None}


def test_an_event_during_a_list_counts_as_seen():
    """
    What is deleted while a list is under way stays deleted.
    """
    store: Store[int] = Store()
    store.put(good(A, 1))
    store.begin_list()
    store.put(good(A, 1))
    store.remove(A)
    store.put(good(B, 1))

    assert store.end_list() == []
    assert store.take() == {B: 1}


def test_an_unusable_version_leaves_the_last_good_one():
    """
    It is told what is wrong, once.
    """
    store: Store[int] = Store()
    store.put(good(A, 1))
    store.take()

    first = store.put(bad(A, BAD))
    again = store.put(bad(A, BAD))
    more = store.put(bad(A, BAD, OTHER))

    assert (first.problems, again.problems, more.problems) == ((BAD,), (), (OTHER,))
    assert not first.changed
    assert store.take() == {}
    assert store.problems == (BAD, OTHER)


def test_an_unusable_object_in_a_list_is_not_gone():
    """
    Its last good version goes on through a new list.
    """
    store: Store[int] = Store()
    store.put(good(A, 1))
    store.take()

    store.begin_list()
    store.put(bad(A, BAD))
    store.end_list()

    assert store.take() == {}
    assert len(store) == 1


def test_an_object_that_was_never_usable_is_not_there():
    """
    There is nothing to hold on to.
    """
    store: Store[int] = Store()
    store.put(bad(A, BAD))

    assert store.take() == {}
    assert store.problems == (BAD,)


def test_problems_end_with_what_caused_them():
    """
    A good version ends them, and so do a deletion and a list without the object.
    """
    store: Store[int] = Store()
    store.put(bad(A, BAD))
    store.put(good(A, 1))
    assert store.problems == ()

    store.put(bad(A, BAD))
    store.remove(A)
    assert store.problems == ()

    store.put(bad(A, BAD))
    store.put(bad(None, OTHER))
    store.begin_list()
    store.end_list()
    assert store.problems == ()


def test_an_object_without_a_name_is_told_and_nothing_else():
    """
    It costs only itself.
    """
    store: Store[int] = Store()

    outcome = store.put(bad(None, BAD))

    assert outcome.problems == (BAD,)
    assert store.take() == {}


names = st.sampled_from([A, B, ObjectName("x", "c")])
steps = st.one_of(
    st.tuples(st.just("put"), names, st.integers(0, 2)),
    st.tuples(st.just("unusable"), names),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("list"), st.dictionaries(names, st.integers(0, 2))),
    st.tuples(st.just("take")),
)


@given(st.lists(steps))
def test_any_history_passed_on_ends_as_what_holds(history):
    """
    Whoever applies every batch holds what the API server has, and no batch says nothing.
    """
    store: Store[int] = Store()
    there: dict[ObjectName, int] = {}
    held: dict[ObjectName, int] = {}

    def take() -> None:
        for name, value in store.take().items():
            assert held.get(name) != value
            if value is None:
                del held[name]
            else:
                held[name] = value

    for step in history:
        match step:
            case ("put", name, value):
                store.put(good(name, value))
                there[name] = value
            case ("unusable", name):
                store.put(bad(name, BAD))
            case ("remove", name):
                store.remove(name)
                there.pop(name, None)
            case ("list", objects):
                store.begin_list()
                for name, value in objects.items():
                    store.put(good(name, value))
                store.end_list()
                there = dict(objects)
            case _:
                take()
    take()

    assert there == held
