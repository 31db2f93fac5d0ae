"""Standard input, output and error as they may be: closed, full, or without all characters."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress


def make_usable() -> None:
    """
    Let commands print whatever their standard streams are.

    What is closed leads nowhere, as ``/dev/null``: otherwise the next socket had its number.
    Characters that an encoding lacks are written as ``\\u2192``, which is JSON, too.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _StandardError(2, sys.stderr.encoding if sys.stderr else "utf-8")


class _StandardError(io.TextIOWrapper):
    """Standard error: where it cannot be written, the answer and the exit status still count."""

    def __init__(self, number: int, encoding: str) -> None:
        """Take over the file descriptor."""
        file = open(number, "wb", closefd=False)  # noqa: SIM115 - as long as the process
        super().__init__(file, encoding, "backslashreplace", line_buffering=True)

    def write(self, text: str, /) -> int:
        """Write, if that is possible."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, if that is possible."""
        with suppress(OSError):
            super().flush()
