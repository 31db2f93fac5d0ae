"""Times as the API writes them: to compare, and to reckon with."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from nfproxy.errors import InputError
from nfproxy.text import quoted

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def normalise(text: str) -> str:
    """
    Return an RFC 3339 time in UTC with nine fraction digits, e.g.
    ``2024-05-01T10:00:00.500000000Z``.

    Nought to nine fraction digits and any offset are accepted, so that two
    spellings of one instant give one string. Raises InputError.
    """
    moment, fraction = _parse(text)
    # not strftime: its %Y does not pad years below 1000
    return f"{moment.isoformat()}.{fraction.ljust(9, '0')}Z"


def timestamp(unix_s: float) -> str:
    """Return seconds since 1970 as the API writes a time: ``2024-05-01T10:00:00Z``."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def unix_seconds(text: str) -> float:
    """Return an RFC 3339 time as seconds since 1970. Raises InputError."""
    moment, fraction = _parse(text)
    return moment.replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or '0'}")


def _parse(text: str) -> tuple[datetime, str]:
    """Return a time in UTC to the second, naive, and the digits of the fraction."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise _refused(text)
    fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.fromisoformat(text[:19])
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            moment += offset if sign == "-" else -offset
    except (ValueError, OverflowError):
        raise _refused(text) from None
    return moment, fraction or ""


def _refused(text: str) -> InputError:
    return InputError(f"{quoted(text)} is not a time such as '2024-05-01T10:00:00Z' (RFC 3339)")
