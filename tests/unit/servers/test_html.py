"""What a browser is given: everything escaped, and allowed to do nothing."""

import base64
import hashlib
import re

import pytest

from nfproxy.insight.statusscreen import Mark, StatusRow
from nfproxy.servers.html import html_answer, printable, render
from nfproxy.servers.pagetexts import Head

HOSTILE = "<script>alert(1)</script>\"'&"
HEAD = Head(
    "node-1", "0.1.0", "3 d", HOSTILE, (StatusRow(Mark.WARN, "others", HOSTILE, HOSTILE),), ()
)


def page(message: str) -> str:
    return render("message.html.j2", here="Services", head=HEAD, message=message).decode()


def test_text_never_becomes_markup() -> None:
    """Wherever it is put."""
    text = page(HOSTILE)

    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;") == 4


def test_a_browser_takes_the_style_and_nothing_else() -> None:
    """The header has the hash of what is between the tags."""
    policy = html_answer(b"").headers["Content-Security-Policy"]
    found = re.findall("<style>(.*)</style>", page(""), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()

    assert len(found) == 1
    assert policy.split("; ") == [
        "default-src 'none'",
        f"style-src 'sha256-{digest}'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ]


def test_nothing_keeps_a_page_or_frames_it() -> None:
    """A page says what the cluster runs."""
    headers = html_answer(b"").headers

    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_page_asks_for_no_file_and_has_no_inline_style() -> None:
    """The browser would refuse them."""
    text = page("")

    assert not re.search(r"<(script|link|img|iframe|object|embed)\b|\bstyle=|\bon\w+=|url\(", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web\u202egpj", "web\N{REPLACEMENT CHARACTER}gpj"),
        ("a\x1b[31m", "a\N{REPLACEMENT CHARACTER}[31m"),
        ("two\nlines", "two\nlines"),
        ("näher …", "näher …"),
        (7, 7),
    ],
)
def test_characters_that_change_other_text_are_replaced(text: object, shown: object) -> None:
    """A name must not look like another one."""
    assert printable(text) == shown
