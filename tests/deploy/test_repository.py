"""What belongs to the repository rather than to the program: workflows, hooks, templates."""

import re
from pathlib import Path

import pytest
import yaml

from nfproxy import __version__

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
YAML = sorted((*GITHUB.rglob("*.yml"), ROOT / ".pre-commit-config.yaml"))
USED = re.compile(r"^\s*(?:-\s+)?uses: (\S+)$", re.MULTILINE)


@pytest.mark.parametrize("path", YAML, ids=[str(path.relative_to(ROOT)) for path in YAML])
def test_yaml_can_be_read(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


@pytest.mark.parametrize("path", sorted((GITHUB / "workflows").glob("*.yml")), ids=lambda p: p.name)
def test_workflows_have_few_rights_and_an_end(path: Path) -> None:
    """A workflow asks for rights job by job, and no job may hang for the default six hours."""
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job or "uses" in job, name
    for used in USED.findall(path.read_text("utf-8")):
        local = used.startswith("./")
        assert (ROOT / used).exists() if local else re.search(r"@v\d", used), used


def test_a_release_compares_versions_that_are_there() -> None:
    """Each file that the release workflow searches for the version has it, in that form."""
    text = (GITHUB / "workflows" / "release.yml").read_text("utf-8")
    searches = re.findall(r'grep -qx "(.*)" (\S+)$', text, re.MULTILINE)
    assert len(searches) == 4
    for pattern, name in searches:
        wanted = pattern.replace('\\"', '"').replace("$version", re.escape(__version__))
        ending = r"(, not released yet)?" if name.endswith("changes.md") else ""
        content = (ROOT / name).read_text("utf-8")
        assert re.search(f"^{wanted}{ending}$", content, re.MULTILINE), name


def test_the_commit_hook_runs_the_checks_of_the_test_script() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (hook,) = hooks["repos"][0]["hooks"]
    script, option = hook["entry"].split()
    assert option in (ROOT / script).read_text("utf-8")


def test_the_top_level_holds_what_belongs_there() -> None:
    """No download, build or note that a command left there; dot files aside."""
    made = {"build", "dist"}  # by builds, and ignored
    there = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    allowed = {"LICENSE", "README.md", "deploy", "nfproxy", "pyproject.toml", "rulesets", "tests"}

    assert {name for name in there - made if not name.endswith(".egg-info")} == allowed


@pytest.mark.parametrize("line", (ROOT / "tests/kernels/selection.txt").read_text("utf-8").split())
def test_tests_chosen_for_other_kernels_exist(line: str) -> None:
    """Only the job on other kernels runs them, and would fail where a name is gone."""
    path, _, name = line.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text("utf-8")
