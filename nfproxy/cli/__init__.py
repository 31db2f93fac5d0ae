"""
The command line: one module per command, which puts the parts of the package together.

``inputs`` reads the configuration and the objects, ``output`` prints. Exit status: 0 done, 1 failed
(of commands that answer a question: the answer is bad), 2 wrong usage (of those: no answer).
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from importlib import import_module
from typing import IO, Any

import click

from nfproxy import __version__
from nfproxy.cli.streams import make_usable
from nfproxy.errors import NOTHING_USABLE, NfproxyError, reason_of
from nfproxy.host.freememory import modules_load
from nfproxy.host.processes import set_process_name
from nfproxy.text import one_line, quoted

_COMMANDS = (
    "run",
    "explain",
    "services",
    "trace",
    "preflight",
    "render",
    "diff",
    "changes",
    "status",
    "report",
    "cleanup",
    "demo",
)
#: Commands whose status 1 is an answer, and `render`, which reads the same input: a failure is 2.
_ANSWERING = ("diff", "explain", "services", "changes", "trace", "status", "render")
_INTERRUPTED, _CLOSED_PIPE = 130, 141  # a shell's status after SIGINT, SIGPIPE

#: What the file behind standard output may answer.
_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_LONGEST_REFUSAL = 300  # characters of a command line that cannot be used


class _RefusedCommandLine(click.ClickException):
    """A command line that cannot be used: one line, as for every other error."""

    exit_code = 2

    def __init__(self, error: click.UsageError) -> None:
        text = one_line(error.format_message(), _LONGEST_REFUSAL).rstrip(".")
        command = error.ctx.command_path if error.ctx else "nfproxy"
        end = " " if text.endswith("?") else "; "
        help_text = f"`{command} --help` lists what there is"
        super().__init__(f"{text[:1].lower()}{text[1:]}{end}{help_text}")

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it to standard error."""
        click.echo(f"nfproxy: error: {self.message}", file=file, err=True)


def _in_one_line(error: click.UsageError) -> click.ClickException:
    """Return what to raise for a command line that cannot be used; without any word: the help."""
    is_help = type(error).__name__ == "NoArgsIsHelpError"  # of later versions of click
    return error if is_help else _RefusedCommandLine(error)


class _Commands(click.Group):
    """Imports the module of the command that was called only, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in _COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        near = [one for one in _COMMANDS if one.startswith(name)] if name else []
        near = near or get_close_matches(name, _COMMANDS)
        hint = f"; do you mean {' or '.join(near[:2])}?" if near else ""
        raise click.UsageError(f"there is no command {quoted(name)}{hint}", ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        with modules_load():
            command = import_module(f"nfproxy.cli.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - a programming error
        return command

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **options)
        except click.UsageError as error:
            raise _in_one_line(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NfproxyError as error:
            click.echo(f"nfproxy: error: {error}", err=True)
            if error.code == NOTHING_USABLE:
                ctx.exit(2)
        except BrokenPipeError:
            _discard_output()
            ctx.exit(_CLOSED_PIPE)
        except click.UsageError as error:
            raise _in_one_line(error) from None
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NOT_WRITTEN:
                _discard_output()
                click.echo(f"nfproxy: error: standard output: {reason_of(error)}", err=True)
            else:
                traceback.print_exc()  # a bug of nfproxy
        return ctx.exit(2 if ctx.invoked_subcommand in _ANSWERING else 1)


def _discard_output() -> None:
    """Discard what is still buffered for a pipe that its reader has closed (``| head``)."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="nfproxy")
def main() -> None:
    """
    A Kubernetes service proxy for nftables.

    Balances connections to Services over their endpoints, as kube-proxy does, with a small
    fixed ruleset: what varies is an element of a map. Prints the ruleset (render), compares
    it with the kernel (diff), and programs it (run).

    \b
    Try it on a machine without a cluster:
        nfproxy demo
        nfproxy render -f DIR           print the ruleset as an nft script
        nfproxy run --manifests DIR     program this machine, follow the files
        nfproxy diff -f DIR             compare the ruleset with the kernel
    """


def run_main() -> None:
    """Run the command line."""
    make_usable()
    # The kernel reports this name with each change of the tables: to another nfproxy, for one.
    set_process_name("nfproxy")
    main(prog_name="nfproxy")
