"""What the command line says of itself."""

import subprocess
import sys

import click
import pytest
from support.processes.commands import ROOT, Commands

from nfproxy.cli import main

COMMANDS = main.list_commands(click.Context(main))


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_readable_at_80_columns(commands: Commands, command: str) -> None:
    """Every option is explained, and no line is longer."""
    result = commands.run(*([command] if command else []), "--help", node="")

    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: nfproxy")
    assert max(len(line) for line in result.out.splitlines()) <= 80


def test_the_overview_names_every_command(commands: Commands) -> None:
    """With a sentence for each that is not cut off."""
    out = commands.run("--help", node="").out.partition("Commands:")[2]
    for command in COMMANDS:
        (line,) = (text for text in out.splitlines() if text.split()[:1] == [command])
        assert len(line.split()) > 2
        assert not line.endswith("...")


def test_help_names_the_flags_for_node_facts(commands: Commands) -> None:
    """All commands on objects have kube-proxy's flags; most show them only when asked."""
    options = {"run": "--help", "render": "--help-config", "diff": "--help-config"}
    for command, option in options.items():
        out = commands.run(command, option, node="").out
        for flag in (
            "--config",
            "--hostname-override",
            "--cluster-cidr",
            "--detect-local-mode",
            "--pod-interface-name-prefix",
            "--pod-bridge-interface",
            "--nodeport-addresses",
            "--masquerade-all",
        ):
            assert flag in out, (command, flag)


@pytest.mark.parametrize("command", ["render", "diff", "explain", "services"])
def test_help_does_not_repeat_the_flags_of_the_daemon(commands: Commands, command: str) -> None:
    """They are one word away, and the help fits a screen."""
    out = commands.run(command, "--help", node="").out
    assert "--masquerade-all" not in out
    assert "--help-config" in out
    assert len(out.splitlines()) <= 60


def test_an_unknown_command_is_wrong_usage(commands: Commands) -> None:
    """Status 2, and no traceback."""
    result = commands.run("explode", node="")

    assert result.code == 2
    assert "there is no command 'explode'" in result.err


@pytest.mark.parametrize(
    ("typed", "meant"), [("explian", "explain"), ("stat", "status"), ("servcies", "services")]
)
def test_a_mistyped_command_is_suggested(commands: Commands, typed: str, meant: str) -> None:
    """As options are; with wrong usage's status."""
    result = commands.run(typed, "shop/web")

    assert (result.code, result.out) == (2, "")
    assert f"do you mean {meant}?" in result.err


def test_the_installed_script_is_the_same_program() -> None:
    """What `pip install` puts on the path starts the same command line as `python -m nfproxy`."""
    code = (
        "import importlib.metadata as m, sys; sys.argv = ['nfproxy', '--version'];"
        "entry = m.EntryPoint('nfproxy', 'nfproxy.cli:run_main', 'console_scripts'); entry.load()()"
    )
    project = (ROOT / "pyproject.toml").read_text()
    assert 'nfproxy = "nfproxy.cli:run_main"' in project
    by_script = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    by_module = subprocess.run(
        [sys.executable, "-m", "nfproxy", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert by_script.stdout == by_module.stdout
