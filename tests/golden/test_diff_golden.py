"""
What ``diff`` prints about tables that differ: at 80 and 160 columns, piped.

After a wanted change: ``pytest tests/golden --update-golden``, then read the difference.
"""

from pathlib import Path

import pytest

from nfproxy.cli.difftext import difference_lines, difference_row
from nfproxy.views.compare import DIFFERS, FOREIGN, MISSING, SURPLUS, Difference

GOLDEN = Path(__file__).parent / "diff.txt"
ROWS = [
    Difference(
        "IPv6",
        "",
        "table ip6 nfproxy",
        MISSING,
        ("no Service works over IPv6 on this node (22 frontends)",),
    ),
    Difference(
        "IPv4",
        "",
        "chain nat-postrouting",
        DIFFERS,
        ("- counter", "+ ip saddr != 10.244.0.0/16 meta mark set meta mark | 0x00004000"),
    ),
    Difference(
        "IPv4",
        "shop/a-service-with-a-long-name:https",
        "[2001:db8:1234:5678::a1b2:c3d4]:44300/tcp",
        DIFFERS,
        ("2 endpoints → refused", "- 10.244.1.5:8080", "- 10.244.1.6:8080"),
    ),
    Difference(
        "IPv4",
        "shop/orders",
        "cluster IP 10.96.0.20",
        MISSING,
        ("not known as one: its other ports are not refused",),
    ),
    Difference("IPv4", "", "node port 30080/tcp", SURPLUS, ("1 endpoint", "- 10.244.1.5:8080")),
    Difference(
        "IPv4",
        "",
        "chain theirs",
        FOREIGN,
        ("another process's; unless it is used, remove it: nft delete chain ip nfproxy theirs",),
    ),
]


def test_the_text_is_as_it_was(pytestconfig: pytest.Config) -> None:
    """Folded where it is too wide: no address is broken, and no line of a table is longer."""
    parts = []
    for width in (80, 160):
        lines = list(difference_lines(ROWS, width))
        parts.append(f"##### {width} columns\n" + "\n".join(lines) + "\n")
    piped = "\n".join("\t".join(difference_row(row)) for row in ROWS)
    text = "\n".join((*parts, f"##### piped\n{piped}\n")).replace("\x1b", "ESC")
    if pytestconfig.getoption("--update-golden"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
