"""What is in the container image, and what it says of itself."""

from __future__ import annotations

import re
import stat
import struct
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from support.containers.image import BuiltImage, image_directory, normalized
from support.locks import versions

import nfproxy

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()

#: 179 MB were measured: 78 of Debian trixie, 37 of Python, 5 of nft, iptables and what they need,
#: and 60 of Python packages, of which 20 are compiled code. To be fetched are 66 MB, 31 of Debian.
MOST_MB = 190
MOST_COMPRESSED_MB = 70

_UNCHECKED_HASH = 0b01  # PEP 552: compiled from a source that is not looked at again


@pytest.fixture(scope="module")
def image() -> BuiltImage:
    """The image of this working tree."""
    return BuiltImage(image_directory())


def _lines(name: str) -> list[str]:
    """Return what a list of deploy/ holds, without comments."""
    lines = (DEPLOY / name).read_text().splitlines()
    return [line for line in (line.partition("#")[0].strip() for line in lines) if line]


def _locked() -> dict[str, str]:
    """Return the versions that requirements.txt names for the image, by package."""
    return versions(DEPLOY / "requirements.txt", {"python_full_version": "3.13.0"})


def _files(top: Path) -> Iterator[Path]:
    return (path for path in top.rglob("*") if not path.is_symlink())


def _in_image(image: BuiltImage, path: Path) -> str:
    return f"/{path.relative_to(image.root)}"


def test_it_holds_the_python_packages_of_the_lock_and_no_others(image: BuiltImage):
    """In the locked versions, and nfproxy in this one."""
    held = {name: one.version for name, one in image.python_packages().items()}

    assert {**_locked(), "nfproxy": nfproxy.__version__} == held


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_they_are_what_pyproject_asks_for_and_what_that_needs(image: BuiltImage, machine: str):
    """Nothing is missing, nothing is too old, and nothing is there without need."""
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    held = image.python_packages()
    environment = {**default_environment(), "platform_machine": machine, "python_version": "3.13"}
    needed: set[str] = set()
    ahead = [Requirement(text) for text in project["dependencies"]]
    while ahead:
        one = ahead.pop()
        name = normalized(one.name)
        assert held[name].version in SpecifierSet(str(one.specifier), prereleases=True)
        if (name, *one.extras) not in needed:
            needed |= {name}
            ahead += _requirements(held[name], one.extras, environment)

    assert needed | {"nfproxy"} == set(held)
    assert set(_locked()) == needed


def _requirements(
    package: Distribution, extras: set[str], environment: dict[str, str]
) -> list[Requirement]:
    """Return what a package needs on a machine, with some of its extras."""
    asked = [Requirement(text) for text in package.requires or ()]
    return [
        one
        for one in asked
        if one.marker is None
        or any(one.marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras))
    ]


def test_it_holds_the_system_packages_of_the_list_and_what_they_need(image: BuiltImage):
    """Beside the base image, apt was asked for the packages of packages.txt and for no others."""
    base = image.base_packages()
    added = {name: one for name, one in image.debian_packages().items() if name not in base}

    assert sorted(_lines("packages.txt")) == sorted(n for n, one in added.items() if one.manual)
    assert added["libnftables1"].version >= "1.1.3"
    assert base["libc6"].version.startswith("2.41")  # Debian trixie's, for which wheels are chosen


def test_nothing_is_left_of_building_it(image: BuiltImage):
    """There are no compilers, no package lists and caches, no pip, and no sources of the build."""
    commands = {path.name for path in image.root.glob("usr/*bin/*")}
    commands |= {path.name for path in image.root.glob("opt/nfproxy/bin/*")}
    top = {path.name for path in image.root.iterdir()}

    assert commands & {"gcc", "cc", "c++", "ld", "make", "pip", "pip3", "uv", "git"} == set()
    assert {"nft", "nfproxy", "python3"} <= commands
    assert top & {"src", "build", "packages.txt"} == set()
    for name in ("var/lib/apt/lists", "var/cache", "var/log", "tmp", "root/.cache", "root/wheels"):
        assert [_in_image(image, path) for path in (image.root / name).glob("**/*")] == []
    assert not any(image.root.glob("usr/lib/python3*/dist-packages/pip*"))


def test_no_file_gives_the_rights_of_another_user(image: BuiltImage):
    """No file is setuid or setgid, or can be written to by everyone."""
    modes = {_in_image(image, path): path.lstat().st_mode for path in _files(image.root)}
    files = {name: mode for name, mode in modes.items() if stat.S_ISREG(mode)}

    assert [name for name, mode in files.items() if mode & (stat.S_ISUID | stat.S_ISGID)] == []
    assert [name for name, mode in files.items() if mode & stat.S_IWOTH] == []


def test_any_user_can_read_it(image: BuiltImage):
    """All programs, libraries and Python packages: also where root is mapped to another user."""
    needed = [*_files(image.root / "usr"), *_files(image.root / "opt")]
    wanted = stat.S_IROTH, stat.S_IROTH | stat.S_IXOTH
    closed = [
        _in_image(image, path)
        for path in needed
        if (mode := path.lstat().st_mode) & wanted[stat.S_ISDIR(mode)] != wanted[stat.S_ISDIR(mode)]
    ]

    assert closed == []


def test_every_module_is_compiled_once_and_for_all(image: BuiltImage):
    """A container cannot write what it compiles, and a source's date says nothing in an image."""
    missing, checked = [], []
    for path in image.site_packages.rglob("*.py"):
        compiled = path.parent / "__pycache__" / f"{path.stem}.cpython-313.pyc"
        if not compiled.exists():
            missing.append(_in_image(image, path))
        elif struct.unpack("<4xI", compiled.read_bytes()[:8])[0] != _UNCHECKED_HASH:
            checked.append(_in_image(image, path))

    assert missing == []
    assert checked == []


def test_its_size_is_bounded(image: BuiltImage):
    """What a node has to fetch, and to keep."""
    size = sum(path.lstat().st_size for path in _files(image.root) if path.is_file())

    assert size <= MOST_MB * 1e6
    assert image.archive.stat().st_size <= MOST_COMPRESSED_MB * 1e6


def test_it_says_what_it_is(image: BuiltImage):
    """Its labels are those of the OCI's specification, and are about this version."""
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in image.config["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }

    assert labels["version"] == nfproxy.__version__
    assert labels["licenses"] == "Apache-2.0"
    assert set(labels) == {
        *("title", "description", "version", "revision", "licenses", "source", "documentation"),
        "base.name",
    }


def test_it_runs_nfproxy(image: BuiltImage):
    """The entry point is found on the image's PATH, as nft is."""
    assert image.config["Entrypoint"] == ["nfproxy"]
    (path,) = (one.removeprefix("PATH=") for one in image.config["Env"] if "PATH=" in one)
    places = [image.root / place.lstrip("/") for place in path.split(":")]
    assert any((place / "nfproxy").exists() for place in places)
    assert any((place / "nft").exists() for place in places)


def test_its_base_is_pinned():
    """By a dated tag and the digest of the index of all platforms, which the label repeats."""
    (base,) = re.findall(r"^ARG DEBIAN=(\S+)$", DOCKERFILE, re.M)
    (stages) = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)

    assert re.fullmatch(r"debian:trixie-\d{8}-slim@sha256:[0-9a-f]{64}", base)
    assert stages == ["${DEBIAN}"] * len(stages)
    assert f'base.name="{base.partition("@")[0]}"' in DOCKERFILE
    assert re.findall(r"amd64|arm64|x86_64|aarch64|TARGETARCH", _instructions()) == []


def _instructions() -> str:
    return "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
