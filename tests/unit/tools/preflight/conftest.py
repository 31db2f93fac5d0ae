"""Lets judgements run only without I/O, and gives tests the root directory of a host."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nfproxy.tools.preflight import report

#: Audit events by which Python reports that code looks at or changes the world outside.
_OUTSIDE = ("open", "socket.", "subprocess.", "os.", "ctypes.", "shutil.", "time.sleep", "pathlib.")

_guarded = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _guarded and event.startswith(_OUTSIDE):
        raise AssertionError(f"a judgement does I/O: {event} {arguments}")


sys.addaudithook(_audit)


@contextmanager
def _without_io() -> Iterator[None]:
    global _guarded
    _guarded = True
    try:
        yield
    finally:
        _guarded = False


def guarded(judge: Callable[..., Any]) -> Callable[..., Any]:
    """Return a judgement that fails where it opens, starts or asks anything."""

    @functools.wraps(judge)
    def call(*arguments: Any, **named: Any) -> Any:
        with _without_io():
            found = judge(*arguments, **named)
            return list(found) if inspect.isgenerator(found) else found

    return call


def subjects() -> set[ModuleType]:
    """Return the modules whose judgements are in the report."""
    return {sys.modules[check.judge.__module__] for check in report.CHECKS}


@pytest.fixture(autouse=True)
def judgements_without_io(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Guard every ``judge_…`` of preflight, in its module and where a test has imported it."""
    for module in subjects():
        for name, judge in vars(module).items():
            if name.startswith("judge_") and judge.__module__ == module.__name__:
                monkeypatch.setattr(module, name, guarded(judge))
                if getattr(request.module, name, None) is judge:
                    monkeypatch.setattr(request.module, name, guarded(judge))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with an /etc, beside a file that is none of its business."""
    (tmp_path / "outside").write_text("secret")
    made = tmp_path / "root"
    (made / "etc").mkdir(parents=True)
    return made
