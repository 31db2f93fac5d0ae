"""The page on troubleshooting: a heading for each code, and no other."""

import re
from pathlib import Path

from nfproxy.insight.diagnosis import Code

PAGE = Path(__file__).parents[2] / "deploy/docs/troubleshooting.md"


def test_every_code_has_its_heading_with_a_text() -> None:
    """Alerts and tickets quote codes; the page says what each means and what to do."""
    parts = re.split(r"^### (\w+)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))

    assert set(sections) == set(Code)
    assert all(len(text.split()) >= 8 for text in sections.values())
