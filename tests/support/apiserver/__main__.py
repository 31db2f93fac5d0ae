"""
``python -m support.apiserver``: a stand-in as a process of its own.

It prints one line of JSON when it listens: ``url``, ``port``, ``directory`` (certificates),
``kubeconfig`` (of an administrator), ``control`` (a UNIX socket for commands, see control.py).
It ends with SIGTERM, SIGINT, or when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from support.apiserver import control, credentials
from support.apiserver.access import ADMIN, TOKENS
from support.apiserver.host import Host
from support.apiserver.server import Settings
from support.apiserver.standin import ADDRESSES


def main() -> None:
    """Read the command line, and run."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m support.apiserver", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--address", action="append", help="default: 127.0.0.1 and ::1")
    parser.add_argument("--bookmark-s", type=float, default=defaults.bookmark_s)
    parser.add_argument("--history", type=int, default=defaults.history)
    given = parser.parse_args()
    settings = Settings(bookmark_s=given.bookmark_s, history=given.history)
    directory = Path(tempfile.mkdtemp(prefix="apiserver-"))
    try:
        asyncio.run(_run(directory, tuple(given.address or ADDRESSES), given.port, settings))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _run(directory: Path, addresses: tuple[str, ...], port: int, settings: Settings) -> None:
    host = Host(directory, socket.socket, addresses, port, settings)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin)
            ended.set()

    loop.add_reader(sys.stdin, read)
    path = directory / "control"
    runner = await control.serve(host, path)
    url = f"https://127.0.0.1:{host.listener.port}"
    kubeconfig = credentials.write_kubeconfig(
        directory / "kubeconfig",
        "token",
        server=url,
        ca_file=host.authority.file,
        trust="file",
        token=TOKENS[ADMIN],
        certificate=None,
        proxy_url="",
    )
    facts = {"url": url, "port": host.listener.port, "directory": directory, "control": path}
    print(json.dumps({**facts, "kubeconfig": kubeconfig}, default=str), flush=True)
    await ended.wait()
    await runner.cleanup()
    await host.close()


main()
