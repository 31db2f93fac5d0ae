"""What `pip install .` installs, and what the lists of deploy/lock.sh name."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.locks import entries, versions

REPOSITORY = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command, and return what it printed; fail with all of it if it failed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(top: str) -> set[str]:
    """The project's files below a directory, without what running them leaves behind."""
    found = (path for path in (REPOSITORY / top).rglob("*") if path.is_file())
    return {str(path.relative_to(REPOSITORY)) for path in found if path.suffix != ".pyc"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what packages are built from, since building leaves directories beside it."""
    copy = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("nfproxy", "rulesets"):
        shutil.copytree(REPOSITORY / name, copy / name, symlinks=True, ignore=ignored)
    for path in REPOSITORY.iterdir():
        if path.is_file():
            shutil.copy(path, copy)
    return copy


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    """The source distribution."""
    build = "import setuptools.build_meta as b; b.build_sdist('dist')"
    run(sys.executable, "-c", build, cwd=source)
    (archive,) = (source / "dist").glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution alone."""
    at = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation",
        "--wheel-dir", at, sdist,
        cwd=at,
    )  # fmt: skip
    (archive,) = at.glob("*.whl")
    return archive


def wanted() -> set[str]:
    """What a wheel has to hold: the package, and the rulesets in it."""
    return files("nfproxy") | {f"nfproxy/{name}" for name in files("rulesets")}


def test_wheel_holds_every_module_and_template(wheel: Path):
    """The wheel holds the package and the rulesets, all of them and nothing else."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert wanted() == held


def test_sdist_holds_what_the_wheel_is_built_from(sdist: Path):
    """The source distribution holds the package, the rulesets and the license."""
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}

    assert wanted() | {"LICENSE", "pyproject.toml"} <= held


def test_installed_command_runs_from_another_directory(wheel: Path, tmp_path: Path):
    """What the wheel installs starts, finds its rulesets, and needs nothing of the clone."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel,
        cwd=elsewhere,
    )  # fmt: skip
    where = (
        "import importlib.resources, nfproxy;"
        "print(nfproxy.__file__);"
        "print(*(f.name for f in importlib.resources.files('nfproxy.rulesets').iterdir()))"
    )

    module, *rulesets = run(
        sys.executable, "-c", where, cwd=elsewhere, PYTHONPATH=str(site)
    ).split()
    assert str(site / "nfproxy" / "__init__.py") == module
    assert {path.name for path in (REPOSITORY / "rulesets").iterdir()} <= set(rulesets)

    printed = run(site / "bin" / "nfproxy", "--help", cwd=elsewhere, PYTHONPATH=str(site))
    assert "Usage: nfproxy" in printed


PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
RUNTIME = REPOSITORY / "deploy" / "requirements.txt"
BUILD = REPOSITORY / "deploy" / "requirements-build.txt"
TEST = REPOSITORY / "deploy" / "requirements-test.txt"
LISTS = [RUNTIME, BUILD, TEST, REPOSITORY / "tests" / "kernels" / "requirements.txt"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (RUNTIME, PROJECT["project"]["dependencies"]),
        (BUILD, PROJECT["build-system"]["requires"]),
        (TEST, PROJECT["project"]["dependencies"]),
        (TEST, PROJECT["project"]["optional-dependencies"]["test"]),
        (TEST, PROJECT["build-system"]["requires"]),
    ],
)
def test_lists_hold_what_pyproject_asks_for(path: Path, asked: list[str]):
    """Each dependency of pyproject.toml is listed, in a version that it allows."""
    listed = versions(path)
    wanted = [Requirement(one) for one in asked]

    assert [str(one) for one in wanted if listed[one.name.lower()] not in one.specifier] == []


def test_tests_run_with_the_versions_of_the_image():
    """The list for tests names what the image holds and what builds it, in the same versions."""
    assert versions(RUNTIME).items() | versions(BUILD).items() <= versions(TEST).items()


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.parent.name + "/" + path.name)
def test_lists_name_hashes_and_no_index(path: Path):
    """Each package has hashes; packages come from wherever the machine's pip gets them."""
    text = path.read_text()
    packages = re.findall(r"^[\w.-]+==", text, re.M)

    assert len(packages) == len(entries(path)) > 0
    assert re.findall(r"https?:|^-|--(?:extra-)?index-url|--find-links", text, re.M) == []
