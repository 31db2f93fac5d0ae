"""
A command of nfproxy in a child of the tests' own process.

It has the modules already that a new interpreter would take a third of a second to import.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import NoReturn

from support.processes.commands import Commands, Result

from nfproxy.cli import run_main
from nfproxy.host.privatenamespace import setns

_BROKEN = 70  # the status of a child that did not come as far as the command


def run_forked(commands: Commands, *arguments: object) -> Result:
    """Run a command to its end, as `Commands.run` does: on a pipe, in its network namespace."""
    argv = commands.argv(*arguments)
    words = argv[argv.index("nfproxy") + 1 :]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            _run(commands.namespace.fd, words, out.fileno(), err.fileno())
        _, status = os.waitpid(pid, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
        return Result(os.waitstatus_to_exitcode(status), *texts)


def _run(namespace: int, words: Sequence[str], out: int, err: int) -> NoReturn:
    status = _BROKEN
    try:
        setns(namespace)
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        sys.stdout, sys.stderr = (open(n, "w", closefd=False) for n in (1, 2))  # noqa: SIM115
        os.environ.update(COLUMNS="80", NO_COLOR="1")
        sys.argv = ["nfproxy", *words]
        run_main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
