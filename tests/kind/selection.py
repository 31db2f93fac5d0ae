"""
Which cases of the integration suite run, and the word about those that do not.

A plugin of pytest, for the summary is made where nothing is collected when tests are distributed.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

_LEFT_OUT = pytest.StashKey[dict[str, int]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases that are for another kind of cluster, or for a program that is absent."""
    namespaces = in_namespaces(config)
    wants = {
        "needs_namespaces": "" if namespaces else "--cluster=namespaces",
        "needs_cluster": "--cluster=kind" if namespaces else "",
        "needs_e2e": "" if os.environ.get("E2E_TEST") else "E2E_TEST to name e2e.test",
    }
    kept, left_out = [], config.stash.setdefault(_LEFT_OUT, {})
    for item in items:
        unmet = [text for mark, text in wants.items() if text and item.get_closest_marker(mark)]
        if unmet:
            config.hook.pytest_deselected(items=[item])
            left_out[unmet[0]] = left_out.get(unmet[0], 0) + 1
        else:
            kept.append(item)
    items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many cases were left out, and how to run them."""
    for text, count in terminalreporter.config.stash.get(_LEFT_OUT, {}).items():
        terminalreporter.write_line(f"tests/kind: {count} cases need {text}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what was left out to the process that distributes the tests."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(_LEFT_OUT, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Learn what was left out; it is the same for all processes."""
    node.config.stash[_LEFT_OUT] = getattr(node, "workeroutput", {}).get("left_out", {})


def in_namespaces(config: pytest.Config) -> bool:
    """Return whether the cluster is made of network namespaces."""
    return bool(config.getoption("cluster") == "namespaces")
