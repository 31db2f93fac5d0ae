"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

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
