"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from nfproxy.text import quoted

files_option = click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    metavar="FILE|DIR|-",
    help="Manifests to read: a file, a directory (all .yaml, .yml and .json below it), or - for "
    "standard input. Repeatable. Without it, objects come from where the nfproxy that runs here "
    "has them, or from the API server: that of --kubeconfig or --master, of the pod's service "
    "account, or of kubectl's configuration.",
)

namespace_option = click.option(
    "-n", "--namespace", default="", metavar="NS", help="The namespace of a name without one."
)

allow_empty_option = click.option(
    "--allow-empty",
    is_flag=True,
    help="Go on where there is no Service to proxy. The ruleset then serves nothing.",
)

proc_option = click.option(
    "--proc",
    type=click.Path(path_type=Path),
    default=Path("/proc"),
    show_default=True,
    metavar="DIR",
    help="Where the node's sysctls are (DIR/sys/net); those of a container's own /proc are "
    "read-only.",
)


def within(
    kind: type[int] | type[float], least: float, most: float
) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """Return the callback of an option that is a number within bounds; None where it is absent."""

    def number(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
        if text is None:
            return None
        with suppress(ValueError):
            if least <= (found := kind(text)) <= most:  # "nan" is not
                return found
        word = "whole number" if kind is int else "number"
        what = f"{quoted(text)} is no {word} from {least:g} to {most:g}"
        raise click.BadParameter(what, ctx, parameter)

    return number
