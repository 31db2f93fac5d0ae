"""Durations read and print as in Go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfproxy.config.durations import Duration, format_duration, parse_duration

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize(
    ("text", "nanoseconds", "printed"),
    [
        ("0", 0, "0s"),
        ("-0", 0, "0s"),
        ("0s", 0, "0s"),
        ("30s", 30_000_000_000, "30s"),
        ("1h2m3.5s", 3_723_500_000_000, "1h2m3.5s"),
        ("24h", 86_400_000_000_000, "24h0m0s"),
        ("15m", 900_000_000_000, "15m0s"),
        ("1.5h", 5_400_000_000_000, "1h30m0s"),
        ("90s1m", 150_000_000_000, "2m30s"),
        (".5s", 500_000_000, "500ms"),
        ("1.s", 1_000_000_000, "1s"),
        ("+5m", 300_000_000_000, "5m0s"),
        ("-1.5s", -1_500_000_000, "-1.5s"),
        ("100ms", 100_000_000, "100ms"),
        ("1us", 1_000, "1µs"),
        ("1µs", 1_000, "1µs"),  # U+00B5
        ("1\u03bcs", 1_000, "1µs"),  # Greek mu
        ("1500ns", 1_500, "1.5µs"),
        ("1.9ns", 1, "1ns"),
        ("1h0.000000001s", 3_600_000_000_001, "1h0m0.000000001s"),
        ("2562047h47m16.854775807s", (1 << 63) - 1, "2562047h47m16.854775807s"),
    ],
)
def test_durations_are_read_and_printed_as_in_go(text, nanoseconds, printed):
    """A text gives its nanoseconds, and those print as in Go."""
    assert nanoseconds == parse_duration(text)
    assert printed == str(parse_duration(text))


@pytest.mark.parametrize(
    "text",
    [
        *("", "5", "30 s", "30s ", "s", ".", ".s", "1d", "1h5", "--1s", "1e3s", "1,5s", "1S"),
        *("\u0663s", "1s\n", "0x1s", "2562047h47m16.854775808s", "9" * 300 + "s"),
    ],
)
def test_what_go_refuses_is_refused(text):
    """No unit, an unknown unit, blanks and what overflows 64 bits are errors."""
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(INT64)
def test_printing_and_reading_gives_the_duration_back(nanoseconds):
    """Every 64-bit duration survives its text form."""
    assert nanoseconds == parse_duration(format_duration(nanoseconds))


def test_seconds_convert_both_ways():
    """A duration counts nanoseconds; callers give and take seconds."""
    assert Duration(1_500_000_000) == Duration.of(1.5)
    assert Duration.of(1.5).seconds == 1.5
