"""The README and the pages below deploy/docs: what they point to is there, and commands exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from nfproxy.cli import main

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "deploy" / "docs").glob("*.md")))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
# A path of the repository, in a command or in running text.
REPOSITORY_PATH = re.compile(r"(?<![\w/.-])((?:deploy|tests|rulesets|nfproxy)/[\w./-]*\w)")
COMMAND = re.compile(r"(?<![\w/.-])nfproxy ([a-z]+)((?: +[^`\n|;&#]*)?)")
OPTION = re.compile(r"(?<!\S)(--?[a-z][a-z-]*)")

CONTEXT = click.Context(main)
NAMES = main.list_commands(CONTEXT)

pages = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    text = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return text.strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in HEADING.findall(page.read_text("utf-8"))}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    for path in REPOSITORY_PATH.findall(page.read_text("utf-8")):
        assert (ROOT / path).exists(), path


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Give each command of nfproxy that a page names, with its options."""
    for name, rest in COMMAND.findall(page.read_text("utf-8")):
        if name in NAMES or rest.strip().startswith("-"):
            yield name, OPTION.findall(rest)


@pages
def test_commands_have_the_options_that_are_given(page: Path) -> None:
    for name, given in commands(page):
        command = main.get_command(CONTEXT, name)
        assert command is not None, name
        known = {
            spelling
            for parameter in command.params
            if isinstance(parameter, click.Option)
            for spelling in (*parameter.opts, *parameter.secondary_opts)
        }
        missing = [option for option in given if option not in known | {"--help", "-h"}]
        assert not missing, (name, missing)


def test_every_page_is_linked_from_the_readme() -> None:
    text = PAGES[0].read_text("utf-8")
    for page in PAGES[1:]:
        assert f"deploy/docs/{page.name}" in text, page.name


def test_lines_that_are_to_be_looked_for_are_printed() -> None:
    """Where pages quote what nfproxy says, the words are those of the code."""
    switching = (ROOT / "deploy/docs/switching.md").read_text("utf-8")
    code = "".join(path.read_text("utf-8") for path in (ROOT / "nfproxy").rglob("*.py"))
    sought = re.findall(r"grep '([^']+)'", switching)
    assert sought == ["ready after"]
    for words in (*sought, "equal: the kernel holds what it should"):
        assert words in switching
        assert words in code
