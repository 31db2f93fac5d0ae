"""
The ends of a line: programs that accept, and that make, connections.

``python -m bench.connect serve PORT`` accepts for ever. ``… measure FILE`` reads counts from
standard input; for each it connects that often, to the FILE's "address port" lines in turn, and
prints the nanoseconds each connect(2) took and all of it took, as JSON.
"""

from __future__ import annotations

import itertools
import json
import struct
import sys
import time
from pathlib import Path
from socket import AF_INET, SO_LINGER, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def serve(port: int) -> None:
    """Accept and drop connections until killed."""
    with socket(AF_INET, SOCK_STREAM) as server:
        server.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        server.bind(("", port))
        server.listen(4096)
        print("ready", flush=True)
        while True:
            server.accept()[0].close()


def measure(targets: list[tuple[str, int]]) -> None:
    """Do what standard input asks for until it ends."""
    following = itertools.cycle(targets)
    for line in sys.stdin:
        taken = []
        began = time.perf_counter_ns()
        for target in itertools.islice(following, int(line)):
            with socket(AF_INET, SOCK_STREAM) as client:
                client.settimeout(None)
                client.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)  # leave no TIME_WAIT
                start = time.perf_counter_ns()
                client.connect(target)
                taken.append(time.perf_counter_ns() - start)
        print(json.dumps([taken, time.perf_counter_ns() - began]), flush=True)


def _targets(path: Path) -> list[tuple[str, int]]:
    rows = [line.split() for line in path.read_text("ascii").splitlines()]
    return [(address, int(port)) for address, port in rows]


def main() -> None:
    """Be one end."""
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        measure(_targets(Path(sys.argv[2])))


if __name__ == "__main__":
    main()
