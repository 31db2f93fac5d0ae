"""What is closed at the end of a ``with`` statement."""

from __future__ import annotations

from typing import Self


class Closing:
    """A context manager that gives itself and calls `close` at the end."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Release what it holds. Idempotent."""
        raise NotImplementedError
