"""How soon others' changes to our tables are repaired."""

from nfproxy.daemon.repairs import Repairs


def test_a_few_changes_are_repaired_at_once_and_then_later_and_later():
    """
    Three within a minute; then the delay doubles, up to half a minute.
    """
    repairs = Repairs()
    now_s, delays = 100.0, []
    for _ in range(13):
        delay_s = repairs.changed(now_s)
        assert delay_s is not None
        delays.append(delay_s)
        now_s += delay_s + 0.01

    assert delays[:7] == [0.0, 0.0, 0.0, 0.25, 0.5, 1.0, 2.0]
    assert max(delays) <= 30.0


def test_the_delay_stays_while_somebody_persists():
    """
    It does not begin anew because it has become long itself.
    """
    repairs = Repairs()
    now_s, last = 0.0, 0.0
    for _ in range(40):
        last = repairs.changed(now_s) or 0.0
        now_s += last + 0.01

    assert last > 10.0


def test_after_a_quiet_time_repairs_are_at_once_again():
    """
    Nobody who reloads a firewall each half minute has to wait.
    """
    repairs = Repairs()
    for number in range(8):
        repairs.changed(number * 20.0)
    assert repairs.changed(1000.0) == 0.0
    assert [repairs.changed(1000.0 + 30.0 * n) for n in range(1, 9)] == [0.0] * 8


def test_what_a_repair_to_come_mends_is_not_counted():
    """
    One who changes something a hundred times meanwhile has made one change.
    """
    repairs = Repairs()
    for _ in range(3):
        repairs.changed(10.0)
    assert repairs.changed(10.0) == 0.25
    assert {repairs.changed(10.0 + n / 500) for n in range(100)} == {None}
    assert repairs.due_s == 10.25
    assert repairs.changed(10.3) == 0.5
