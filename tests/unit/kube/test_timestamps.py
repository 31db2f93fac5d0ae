"""creationTimestamp as a sortable string."""

from __future__ import annotations

import pytest

from nfproxy.errors import InputError
from nfproxy.kube.timestamps import normalise, unix_seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00.000000000Z"),
        ("2024-05-01t10:00:00z", "2024-05-01T10:00:00.000000000Z"),
        ("2024-05-01T10:00:00.5Z", "2024-05-01T10:00:00.500000000Z"),
        ("2024-05-01T10:00:00.123456789Z", "2024-05-01T10:00:00.123456789Z"),
        ("2024-05-01T00:30:00+01:00", "2024-04-30T23:30:00.000000000Z"),
        ("2024-12-31T23:30:00-05:30", "2025-01-01T05:00:00.000000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000000Z"),
    ],
)
def test_every_spelling_of_an_instant_becomes_one(text, expected):
    assert expected == normalise(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "2024-05-01", "2024-05-01 10:00:00Z", "2024-05-01T10:00:00", "2024-13-01T10:00:00Z",
        "2024-05-01T10:00:60Z", "2024-05-01T10:00:00.Z", "2024-05-01T10:00:00.1234567890Z",
        "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2024-05-01T10:00:00Z\n",
        "٢024-05-01T10:00:00Z", "x" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InputError) as caught:
        normalise(text)

    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2024-05-01T10:00:00.25Z", 1714557600.25),
        ("2024-05-01T12:00:00.5+02:00", 1714557600.5),
    ],
)
def test_a_time_can_be_reckoned_with(text, expected):
    """Seconds since 1970, with the fraction, whatever the offset."""
    assert expected == unix_seconds(text)


def test_what_is_no_time_cannot_be_reckoned_with():
    """It is refused as everywhere."""
    with pytest.raises(InputError):
        unix_seconds("yesterday")
