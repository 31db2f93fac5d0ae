"""
The command line: a little wiring around the same parts.

One module per command. Exit status: 0 done, 1 failed (``diff``: different), 2 wrong usage
(``diff``: failed).
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from typing import Any

import click

from nfproxy import __version__
from nfproxy.errors import NfproxyError

_COMMANDS = ("run", "preflight", "render", "diff", "cleanup", "demo")
_INTERRUPTED, _CLOSED_PIPE = 130, 141  # what a shell says after SIGINT, SIGPIPE


class _Commands(click.Group):
    """Imports a command's module when it is called, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(f"nfproxy.cli.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - a programming error
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NfproxyError as error:
            click.echo(f"nfproxy: error: {error}", err=True)
        except BrokenPipeError:
            _forget_output()
            ctx.exit(_CLOSED_PIPE)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except Exception:
            traceback.print_exc()  # a fault of ours
        return ctx.exit(2 if ctx.invoked_subcommand == "diff" else 1)


def _forget_output() -> None:
    """Let nothing more be written to a pipe whose reader has gone (``| head``)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="nfproxy")
def main() -> None:
    """
    A Kubernetes service proxy for nftables.

    Balances connections to Services over their endpoints, as kube-proxy does, with a small
    fixed ruleset in which everything that varies is a map element. Shows what it
    would do (render), what differs (diff), and does it (run).

    \b
    Try it on a machine without a cluster:
        nfproxy demo
        nfproxy render -f DIR           what would be programmed, as an nft script
        nfproxy run --manifests DIR     program this machine, follow the files
        nfproxy diff -f DIR             what differs from the kernel
    """


def run_main() -> None:
    """Run the command line."""
    main(prog_name="nfproxy")
