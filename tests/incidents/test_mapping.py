"""The table of incidents: its tests exist, and no code of explain is without one."""

from __future__ import annotations

import re
from pathlib import Path

from nfproxy.insight.diagnosis import Code

HERE = Path(__file__).parent
TESTS = HERE.parent


def test_each_incident_of_the_table_has_its_test() -> None:
    named = set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", (HERE / "README.md").read_text()))
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if not (HERE / file).exists() or f"def {name}(" not in (HERE / file).read_text()
    ]
    assert len(named) > 30
    assert missing == []


def test_each_code_is_asserted_by_a_test() -> None:
    places = (HERE, TESTS / "unit/insight", TESTS / "commands", TESTS / "golden")
    texts = "".join(path.read_text() for place in places for path in place.glob("test_*.py"))
    assert [code.value for code in Code if not re.search(rf"\b{code.value}\b", texts)] == []
