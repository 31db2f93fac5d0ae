"""Text that others wrote, made fit for a message."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nfproxy.text import one_line, plural, quoted, shorten, shown_name, shown_path


def test_harmless_names_and_paths_stay_as_they_are():
    """Anything unusual in them is quoted and escaped."""
    assert (shown_name("web-1.a/b_c"), shown_path("/etc/a b.yaml")) == (
        "web-1.a/b_c",
        "/etc/a b.yaml",
    )
    assert (shown_name(""), shown_name("a\n"), shown_path("a\n")) == ("''", r"'a\n'", r"'a\n'")


def test_a_message_of_another_program_becomes_one_line():
    """Line breaks and control characters are blanks."""
    assert one_line("a\nERROR \x1b[31m all\r\n is lost") == "a ERROR [31m all is lost"
    assert one_line("x" * 1000, 10) == "xxxxxxxxx…"


def test_counts_have_a_plural():
    assert (plural(1, "change"), plural(12000, "change")) == ("1 change", "12,000 changes")


@given(st.text(max_size=500), st.integers(1, 100))
def test_no_text_is_long_or_unprintable(text, limit):
    """Whatever it holds."""
    assert len(shorten(text, limit)) <= limit
    assert len(one_line(text, limit)) <= limit
    for made in (quoted(text), shown_name(text), shown_path(text), one_line(text)):
        assert made.isprintable()
