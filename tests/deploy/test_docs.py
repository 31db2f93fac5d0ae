"""The README and the pages: what they point to is there, commands exist, pictures are current."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tools import pictures

from nfproxy.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "deploy" / "docs"
INDEX = DOCS / "README.md"
PAGES = tuple(
    path
    for pattern in ("*.md", "deploy/docs/*.md", "nfproxy/*.md", "rulesets/*.md", ".github/*.md")
    for path in sorted(ROOT.glob(pattern))
)
README_LINES = 200  # more is a page of its own
MOST_WORDS = 20  # of our own: a newcomer has to learn each
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
# A path of the repository, in a command or in running text.
REPOSITORY_PATH = re.compile(r"(?<![\w/.-])((?:deploy|tests|rulesets|nfproxy)/[\w./-]*\w)")
#: What the plug-in kubectl nfproxy takes for itself.
PLUGIN_OPTION = re.compile(r"(?<=kubectl nfproxy )([^`\n]*?) --(?:on|from-pod|all-nodes)\b")
COMMAND = re.compile(r"(?<![\w/.-])nfproxy ([a-z]+)((?: +[^`\n|;&#]*)?)")
OPTION = re.compile(r"(?<!\S)(--?[a-z][a-z-]*)")

CONTEXT = click.Context(main)
NAMES = main.list_commands(CONTEXT)

pages = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


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
    """Give each command of nfproxy that a page names, with its options but those of kubectl's."""
    text = PLUGIN_OPTION.sub(r"\1", page.read_text("utf-8"))
    for name, rest in COMMAND.findall(text):
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


def test_the_index_links_every_page_and_the_readme_the_index() -> None:
    assert "deploy/docs/README.md" in (ROOT / "README.md").read_text("utf-8")
    linked = set(LINK.findall(INDEX.read_text("utf-8")))
    assert {page.name for page in DOCS.glob("*.md")} - {INDEX.name} <= linked


def test_the_map_of_the_code_names_every_package_and_files_that_exist() -> None:
    text = (ROOT / "nfproxy" / "README.md").read_text("utf-8")
    table = text[text.index("## Packages") : text.index("## To change")]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    there = {
        path.stem
        for path in (ROOT / "nfproxy").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert named == there - {"__init__", "__main__"}

    for path in re.findall(r"(?<![\w/.])(\w+/(?:\w+/)*[\w.]+\.(?:py|j2))", text):
        assert (ROOT / "nfproxy" / path).exists() or (ROOT / path).exists(), path

    words = text[text.index("| word | meaning |") :].splitlines()[2:]
    assert len(words) <= MOST_WORDS


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= README_LINES


def test_pictures_are_those_that_the_script_draws() -> None:
    """To draw them again: tests/tools/pictures.py."""
    for name, drawn in pictures.pictures(json.loads(pictures.BENCH.read_text("utf-8"))).items():
        assert (pictures.PICTURES / name).read_text("utf-8") == drawn, name


def test_lines_that_are_to_be_looked_for_are_printed() -> None:
    """Where pages quote what nfproxy says, the words are those of the code."""
    switching = (ROOT / "deploy/docs/switching.md").read_text("utf-8")
    code = "".join(path.read_text("utf-8") for path in (ROOT / "nfproxy").rglob("*.py"))
    sought = re.findall(r"grep '([^']+)'", switching)
    assert sought == ["ready after"]
    for words in (*sought, "equal: "):
        assert words in switching
        assert words in code
