"""When the daemon does what: its deadlines as values."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfproxy.daemon.schedule import Schedule, SyncTimings, Task

START_S = 1000.0


def made(**timings: float) -> Schedule:
    """Return a schedule that began at `START_S`."""
    return Schedule(SyncTimings(**timings), START_S)


def sync(schedule: Schedule, at_s: float, *, tables_read: bool = True) -> None:
    """Report a sync that took no time."""
    schedule.synced(at_s, at_s, tables_read=tables_read)


def changed(schedule: Schedule, at_s: float, *, breaks: bool = False) -> float | None:
    """Report a foreign change, of elements unless it breaks the rules."""
    return schedule.foreign_change(at_s, breaks=breaks)


# --- retries ------------------------------------------------------------------------------


def test_a_failed_sync_is_retried_later_each_time() -> None:
    """The delay doubles up to `retry_s`, and begins small again after a success."""
    schedule = made(retry_s=3.0)

    assert [schedule.failed(START_S, START_S) for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    sync(schedule, START_S)
    assert not schedule.retry_pending
    assert schedule.failed(START_S, START_S) == 0.25


def test_only_the_retry_is_due_after_a_failure() -> None:
    """Whatever else has become due."""
    schedule = made(retry_s=30.0, audit_s=1.0, addresses_wait_s=1.0)
    schedule.tidy_due(START_S)
    changed(schedule, START_S)
    schedule.failed(START_S + 5, START_S + 5)

    assert schedule.due(START_S + 5.2) is None
    assert schedule.idle_s(START_S + 5.2) == pytest.approx(0.05)
    assert schedule.due(START_S + 5.25) is Task.RETRY


# --- pauses, audits, tidying --------------------------------------------------------------


def test_a_sync_is_followed_by_a_pause() -> None:
    """
    No changes are taken in for `pause_s` after its end; before the first sync there is no pause.
    """
    schedule = made(pause_s=2.0)

    assert schedule.pause_left_s(START_S) == 0.0
    schedule.synced(START_S, START_S + 1, tables_read=False)
    assert schedule.pause_left_s(START_S + 1.5) == 1.5
    assert schedule.pause_left_s(START_S + 3) == 0.0


def test_audits_follow_the_last_reading_of_the_tables() -> None:
    """A sync that read only what changed does not put an audit off."""
    schedule = made(audit_s=100.0)
    sync(schedule, START_S + 60, tables_read=False)
    assert schedule.due(START_S + 100) is Task.AUDIT

    sync(schedule, START_S + 100)
    assert schedule.due(START_S + 199) is None
    assert schedule.idle_s(START_S + 199) == 1.0
    assert schedule.due(START_S + 200) is Task.AUDIT


def test_tidying_waits_for_its_time() -> None:
    """And is not due where nothing lingers."""
    schedule = made()
    schedule.tidy_due(START_S + 0.1)
    assert (schedule.due(START_S), schedule.due(START_S + 0.1)) == (None, Task.TIDY)
    schedule.tidy_due(None)
    assert schedule.due(START_S + 0.1) is None


# --- the Node -----------------------------------------------------------------------------


def test_the_wait_for_a_node_begins_when_the_objects_are_there() -> None:
    """However long the first reading of them took."""
    schedule = made(node_wait_s=10.0)
    schedule.node_awaited(START_S + 50)

    assert schedule.node_wait_left_s(START_S + 53) == 7.0
    assert schedule.node_wait_left_s(START_S + 60) == 0.0


def test_addresses_of_the_node_are_expected_for_a_while() -> None:
    """From the start of the daemon on; once settled, never again."""
    schedule = made(addresses_wait_s=30.0)
    assert schedule.expects_addresses
    assert (schedule.due(START_S + 29), schedule.due(START_S + 30)) == (None, Task.USE_NO_ADDRESSES)

    schedule.addresses_settled()
    assert not schedule.expects_addresses
    assert schedule.due(START_S + 30) is None
    assert not made().expects_addresses


# --- foreign changes ----------------------------------------------------------------------


def repaired_in(schedule: Schedule, at_s: float, took_s: float) -> float:
    """Repair when that is due, which takes some time; return when that was done."""
    at_s += schedule.idle_s(at_s)
    assert schedule.due(at_s) is Task.REPAIR
    schedule.synced(math.nextafter(at_s, math.inf), at_s + took_s, tables_read=True)
    return at_s + took_s


def test_repairs_of_elements_are_bounded_by_what_they_cost() -> None:
    """At once for a second of repairs; then they get a tenth of the time, whatever the number."""
    schedule, at_s, began = made(), START_S, []
    for _ in range(40):
        changed(schedule, at_s)
        began.append(at_s + schedule.idle_s(at_s))
        at_s = repaired_in(schedule, at_s, 0.1) + 0.06

    assert began[9] - START_S < 2.0
    waits = [later - earlier for earlier, later in itertools.pairwise(began[12:])]
    assert waits == pytest.approx([1.0] * len(waits))


def test_elements_wait_seconds_at_most() -> None:
    """Also where a repair takes long."""
    schedule = made()
    changed(schedule, START_S)
    at_s = repaired_in(schedule, START_S, 60.0)

    assert changed(schedule, at_s) == 4.0


def test_after_a_quiet_time_repairs_of_elements_are_at_once_again() -> None:
    """So a firewall that is reloaded now and then does not have to wait."""
    schedule, at_s = made(), START_S
    for _ in range(30):
        changed(schedule, at_s)
        at_s = repaired_in(schedule, at_s, 0.1) + 0.06
    assert changed(schedule, at_s) != 0.0
    at_s = repaired_in(schedule, at_s, 0.1) + 12.0

    for _ in range(8):
        assert changed(schedule, at_s) == 0.0
        at_s = repaired_in(schedule, at_s, 0.1) + 0.06


def test_a_change_before_a_repair_that_is_due_counts_as_part_of_it() -> None:
    """A hundred changes meanwhile are one."""
    schedule = made()
    changed(schedule, START_S)
    at_s = repaired_in(schedule, START_S, 1.5)
    assert changed(schedule, at_s) == 4.0
    assert {changed(schedule, at_s + n / 500) for n in range(1, 100)} == {None}


def test_a_repair_that_is_due_is_not_put_off_by_further_changes() -> None:
    """Not even while the loop is too busy to begin."""
    schedule = made()
    for number in range(20):
        changed(schedule, START_S + number)

    assert schedule.due(START_S + 19.5) is Task.REPAIR


def test_a_change_during_a_sync_is_repaired_after_it() -> None:
    """
    The sync may have read the table before the change came. Half of the time passes that it took.
    """
    schedule = made()
    changed(schedule, START_S + 1)
    schedule.synced(START_S, START_S + 2, tables_read=True)
    assert (schedule.due(START_S + 2.9), schedule.due(START_S + 3)) == (None, Task.REPAIR)

    schedule.synced(START_S + 4, START_S + 5, tables_read=True)
    assert schedule.due(START_S + 5) is None


def test_a_sync_that_read_only_what_changed_repairs_nothing() -> None:
    """The repair is still due."""
    schedule = made()
    changed(schedule, START_S)
    sync(schedule, START_S + 1, tables_read=False)

    assert schedule.due(START_S + 1) is Task.REPAIR


# --- broken rules -------------------------------------------------------------------------


def test_broken_rules_are_repaired_at_once_however_often() -> None:
    """Only half of the time passes first that the last repair took."""
    schedule, at_s, delays = made(), START_S, []
    for _ in range(50):
        delays.append(changed(schedule, at_s, breaks=True))
        at_s = repaired_in(schedule, at_s, 0.1) + 0.02

    assert delays[0] == 0.0
    assert delays[1:] == pytest.approx([0.03] * 49)


def test_a_repair_that_takes_long_does_not_put_the_next_one_off_for_long() -> None:
    """A few seconds are the longest."""
    schedule = made()
    changed(schedule, START_S, breaks=True)
    at_s = repaired_in(schedule, START_S, 60.0)

    assert changed(schedule, at_s + 1, breaks=True) == pytest.approx(3.0)


def test_broken_rules_do_not_wait_for_the_repair_of_elements() -> None:
    """A delay that elements have earned is cut short."""
    schedule = made()
    changed(schedule, START_S)
    at_s = repaired_in(schedule, START_S, 1.5)
    assert changed(schedule, at_s) == 4.0
    assert changed(schedule, at_s + 1.0, breaks=True) == 0.0
    assert schedule.due(at_s + 1.0) is Task.REPAIR


def test_only_the_repair_is_due_while_rules_are_broken() -> None:
    """Tidying would fail, since it may need a table that is not there."""
    schedule = made()
    changed(schedule, START_S, breaks=True)
    at_s = repaired_in(schedule, START_S, 1.0)
    schedule.tidy_due(at_s)
    changed(schedule, at_s, breaks=True)

    assert schedule.is_broken
    assert schedule.due(at_s) is None
    assert schedule.due(at_s + 0.5) is Task.REPAIR


def test_a_sync_that_failed_on_broken_rules_is_retried_without_back_off() -> None:
    """The other process was why: the kernel takes commits."""
    schedule, at_s, delays = made(), START_S, []
    for _ in range(10):
        changed(schedule, at_s + 0.05, breaks=True)
        delays.append(schedule.failed(at_s, at_s + 0.1))
        at_s += 0.1 + delays[-1]
        assert schedule.due(at_s + 1e-6) is Task.RETRY

    assert delays == pytest.approx([0.05] * 10)


def test_broken_rules_bring_a_retry_nearer() -> None:
    """The back-off of failures that had another cause does not count then."""
    schedule = made()
    for _ in range(8):
        schedule.failed(START_S, START_S)
    assert schedule.idle_s(START_S) > 10.0
    changed(schedule, START_S + 1, breaks=True)
    assert schedule.due(START_S + 1) is Task.RETRY

    assert schedule.failed(START_S + 2, START_S + 2) == 4.0


def test_a_repair_is_pending_until_the_tables_are_read() -> None:
    """A change during that reading may have come too late for it."""
    schedule = made()
    assert not schedule.repair_pending
    changed(schedule, START_S)
    assert (schedule.repair_pending, schedule.is_broken) == (True, False)
    sync(schedule, START_S + 1, tables_read=False)
    assert schedule.repair_pending
    changed(schedule, START_S + 2.5, breaks=True)
    schedule.synced(START_S + 2, START_S + 3, tables_read=True)
    assert (schedule.repair_pending, schedule.is_broken) == (True, True)
    schedule.synced(START_S + 4, START_S + 5, tables_read=True)
    assert (schedule.repair_pending, schedule.is_broken) == (False, False)


# --- what holds for every history -----------------------------------------------------------

steps_s = st.floats(0.0, 20.0)
histories = st.lists(
    st.tuples(
        steps_s,
        st.sampled_from(
            ["partial", "full", "fail", "foreign", "break", "tidy", "no tidy", "settle"]
        ),
    ),
    max_size=40,
)
timings = st.builds(
    SyncTimings,
    pause_s=st.floats(0.0, 5.0),
    retry_s=st.floats(0.01, 60.0),
    audit_s=st.floats(1.0, 100.0),
    addresses_wait_s=st.floats(0.0, 60.0),
)


def happen(schedule: Schedule, event: str, at_s: float) -> None:
    """Report an event."""
    match event:
        case "partial" | "full":
            schedule.synced(at_s, at_s, tables_read=event == "full")
        case "fail":
            schedule.failed(at_s, at_s)
        case "foreign":
            changed(schedule, at_s)
        case "break":
            changed(schedule, at_s, breaks=True)
        case "tidy":
            schedule.tidy_due(at_s + 0.1)
        case "no tidy":
            schedule.tidy_due(None)
        case "settle":
            schedule.addresses_settled()


def after(schedule: Schedule, history: list[tuple[float, str]]) -> float:
    """Let a history happen; return the time at its end."""
    at_s = START_S
    for step_s, event in history:
        at_s += step_s
        happen(schedule, event, at_s)
    return at_s


@given(timings, histories)
def test_a_task_is_due_exactly_when_the_schedule_is_not_idle(
    given_timings: SyncTimings, history: list[tuple[float, str]]
) -> None:
    """A loop that sleeps for `idle_s` wakes to a task, and none was due before."""
    schedule = Schedule(given_timings, START_S)
    at_s = after(schedule, history)
    idle_s = schedule.idle_s(at_s)

    assert (idle_s == 0) == (schedule.due(at_s) is not None)
    assert schedule.due(at_s + idle_s + 1e-6) is not None
    if idle_s > 1e-6:
        assert schedule.due(at_s + idle_s - 1e-6) is None


@given(timings, histories)
def test_everything_that_is_due_is_done_in_the_end(
    given_timings: SyncTimings, history: list[tuple[float, str]]
) -> None:
    """A loop that does what is due comes to rest: each task, once done, makes way for the next."""
    schedule = Schedule(given_timings, START_S)
    at_s = after(schedule, history)
    done: list[Task] = []
    while (task := schedule.due(at_s)) is not None:
        assert task not in done
        done.append(task)
        at_s = math.nextafter(at_s, math.inf)
        if task is Task.USE_NO_ADDRESSES:
            schedule.addresses_settled()
        if task is Task.TIDY:
            schedule.tidy_due(None)
        else:
            sync(schedule, at_s, tables_read=task is not Task.USE_NO_ADDRESSES)
    assert schedule.idle_s(at_s) > 0


@given(timings, histories, st.integers(1, 40))
def test_the_delay_of_a_retry_grows_and_is_bounded(
    given_timings: SyncTimings, history: list[tuple[float, str]], failures: int
) -> None:
    """From whatever history, up to `retry_s`."""
    schedule = Schedule(given_timings, START_S)
    at_s = after(schedule, history)
    delays = [schedule.failed(at_s, at_s) for _ in range(failures)]

    assert delays == sorted(delays)
    assert delays[0] > 0
    assert delays[-1] <= given_timings.retry_s


@given(timings, histories)
def test_a_foreign_change_is_repaired_within_seconds(
    given_timings: SyncTimings, history: list[tuple[float, str]]
) -> None:
    """Whatever happens meanwhile: by the repair, or by the retry of a failed sync."""
    schedule = Schedule(given_timings, START_S)
    at_s = after(schedule, history)
    changed(schedule, at_s)

    latest_s = max(30.0, given_timings.retry_s)
    schedule.addresses_settled()
    assert schedule.due(at_s + latest_s + 1e-6) in (Task.REPAIR, Task.RETRY)
