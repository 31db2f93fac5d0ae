"""Tables and paragraphs that fit a terminal."""

from __future__ import annotations

from nfproxy.cli.textlayout import table_blocks, table_lines

TITLES = ("SERVICE", "NEW", "ERROR", "BECAUSE")
ROWS = (("shop/web:http", "7", "", "no endpoint of it is ready here"), ("a/b:c", "12", "", ""))


def test_a_table_that_fits() -> None:
    """Numbers end at one place, and an empty column is left out."""
    assert table_lines(TITLES, ROWS, 80) == [
        "SERVICE        NEW  BECAUSE",
        "shop/web:http    7  no endpoint of it is ready here",
        "a/b:c           12",
    ]


def test_prose_in_the_last_column_is_broken_at_blanks() -> None:
    """While there is room for some words."""
    assert table_blocks(TITLES, ROWS, 40, prose=["BECAUSE"])[1] == [
        "shop/web:http    7  no endpoint of it is",
        "                    ready here",
    ]


def test_prose_without_room_follows_below() -> None:
    """The others stay in their columns."""
    assert table_lines(TITLES, ROWS, 32, prose=["BECAUSE"]) == [
        "SERVICE        NEW",
        "shop/web:http    7",
        "    no endpoint of it is ready",
        "    here",
        "a/b:c           12",
    ]


def test_without_prose_the_first_cell_is_a_line() -> None:
    """No address is broken."""
    assert table_lines(TITLES, ROWS[:1], 32)[-2:] == [
        "shop/web:http",
        "    7  no endpoint of it is ready here",
    ]


def test_line_breaks_of_prose_stay() -> None:
    """A remedy has a line of its own."""
    rows = (("ok", "fine"), ("fail", "bad\n→ mend it"))
    assert table_lines(("", "FOUND"), rows, 80, prose=["FOUND"]) == [
        "      FOUND",
        "ok    fine",
        "fail  bad",
        "      → mend it",
    ]


def test_rows_of_the_same_thing_name_it_once_where_they_are_folded() -> None:
    """Whole rows stay, also where they are alike."""
    titles = ("SERVICE", "FRONTEND")
    rows = [("shop/web", "10.96.0.10:80/tcp"), ("shop/web", "node port 30080/tcp"), ("b/x", "y")]

    assert table_lines(titles, rows, 20) == [
        *("SERVICE", "  FRONTEND"),
        *("shop/web", "  10.96.0.10:80/tcp", "  node port 30080/tcp"),
        *("b/x", "  y"),
    ]
    assert len(table_lines(titles, [rows[0], rows[0]], 80)) == 3
