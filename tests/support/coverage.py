"""
Coverage of nfproxy by tests, by package, with a floor.

NFPROXY_COVERAGE=unit measures while tests of tests/unit run; NFPROXY_COVERAGE=all measures all
tests and the processes that they start. The floor (fail_under in pyproject.toml) is for all of
tests/unit: a run of a part of it fails nothing.

Measured tests take twice their processor time. `unit` leaves out those of hypothesis, which run the
same statements a hundred times. The others cost about a twentieth of a whole run.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import tempfile
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest
from hypothesis import is_hypothesis_test

REPOSITORY = Path(__file__).parents[2]
UNIT = REPOSITORY / "tests" / "unit"
#: Statements and those that never ran, by package.
Counts = dict[str, tuple[int, int]]

_DIRECTORY = "NFPROXY_COVERAGE_DIRECTORY"  # of the data files of all processes of a run


class Coverage:
    """Measures in each process that runs tests; the process that distributes them reports."""

    def __init__(self, what: str) -> None:
        """
        Measure imports of all of nfproxy, which count, too. `what` is unit or all.

        To be called before nfproxy is imported. Unit tests are measured one by one: a tracer
        triples the time that pytest takes to find the tests.
        """
        self._all = what == "all"
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if "PYTEST_XDIST_WORKER" not in os.environ:
            self._directory = tempfile.TemporaryDirectory(prefix="nfproxy-coverage-")
            os.environ[_DIRECTORY] = self._directory.name
        self._report: list[str] = []
        os.environ.setdefault("COVERAGE_CORE", "ctrace")
        self._coverage = self._new(suffix=True)
        if self._all:
            self._coverage.set_option("run:patch", ["subprocess"])
        self._coverage.start()
        _import_nfproxy()
        if not self._all:
            self._coverage.stop()

    def _new(self, suffix: bool) -> coverage.Coverage:
        return coverage.Coverage(
            data_file=str(Path(os.environ[_DIRECTORY]) / "data"),
            data_suffix=suffix,
            config_file=str(REPOSITORY / "pyproject.toml"),
        )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure this test, or do not."""
        if self._all or not _is_unit(item):
            return (yield)
        self._coverage.start()
        try:
            return (yield)
        finally:
            self._coverage.stop()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Save what was measured; the process that reports fails the run below the floor."""
        self._coverage.stop()
        self._coverage.save()
        if self._directory is not None:
            self._combine(session)
            self._directory.cleanup()

    def _combine(self, session: pytest.Session) -> None:
        combined = self._new(suffix=False)
        try:
            combined.combine()
        except coverage.exceptions.NoDataError:
            return
        counts = _counts(combined)
        self._report = [*_by_package(counts)]
        total, floor = _percent(counts), float(combined.get_option("report:fail_under") or 0)
        if total < floor and _is_whole(session.config):
            self._report.append(f"FAILED: coverage {total:.1f} % is below the floor, {floor:g} %")
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        if self._report:
            what = "all tests" if self._all else "tests/unit"
            terminalreporter.section(f"coverage of nfproxy by {what}")
            for line in self._report:
                terminalreporter.write_line(line)


def _import_nfproxy() -> None:
    """Import all modules but those that are programs."""
    nfproxy = importlib.import_module("nfproxy")
    for module in pkgutil.walk_packages(nfproxy.__path__, "nfproxy."):
        if not module.name.endswith(("__main__", "_child")):
            importlib.import_module(module.name)


def _is_unit(item: pytest.Item) -> bool:
    """Return whether this is a test of tests/unit that runs with values of its own."""
    repeats = is_hypothesis_test(getattr(item, "function", None))
    return item.path.is_relative_to(UNIT) and not repeats


def _is_whole(config: pytest.Config) -> bool:
    """Return whether a run includes all of tests/unit."""
    named = {Path(one).resolve() for one in config.args}
    chosen = config.option.keyword or config.option.markexpr
    return not chosen and bool(named & {UNIT, UNIT.parent, REPOSITORY})


def _counts(measured: coverage.Coverage) -> Counts:
    """Return statements and those that never ran, for each package of nfproxy."""
    counts: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for path in (REPOSITORY / "nfproxy").rglob("*.py"):
        _, statements, _, missing, _ = measured.analysis2(str(path))
        inner = path.relative_to(REPOSITORY).parent.parts
        package = "/".join(inner[: 3 if inner[1:2] == ("tools",) else 2])
        all_, missed = counts[package]
        counts[package] = all_ + len(statements), missed + len(missing)
    return dict(sorted(counts.items()))


def _percent(counts: Counts) -> float:
    """Return how many of a hundred statements ran."""
    all_, missed = map(sum, zip(*counts.values(), strict=True))
    return 100 * (1 - missed / all_)


def _by_package(counts: Counts) -> Generator[str]:
    """Yield a line for each package, and one for the total."""
    for package, (statements, missed) in counts.items():
        if statements:
            share = 100 * (1 - missed / statements)
            yield f"{package:28} {statements:6} statements {share:6.1f} %"
    yield f"{'total':46} {_percent(counts):6.1f} %"
