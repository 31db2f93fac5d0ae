"""A daemon in a process and a network namespace of its own, on the stand-in, for benches."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from support.apiserver import StandIn

from bench import objects
from bench.cgroup import Cgroup
from bench.objects import Size
from nfproxy.tools.lab import Namespace

NODE = "node-0"
READY = "ready after"
_TICK = os.sysconf("SC_CLK_TCK")
_LIMIT_S = 120.0


class Process:
    """A running daemon, and what the kernel says of it and its children."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def wait_until_ready(self) -> None:
        """Wait until everything is programmed."""
        deadline = time.monotonic() + _LIMIT_S
        while READY not in self.log_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the daemon did not get ready:\n{self.log_text()}")
            time.sleep(0.005)

    def log_text(self) -> str:
        """Return what it has logged until now."""
        return self._log.read_text()

    def _family(self) -> list[int]:
        pids = [self._process.pid]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) in pids:
                pids.append(int(stat.parent.name))
        return pids

    @property
    def has_children(self) -> bool:
        """Whether the daemon has helpers now."""
        return len(self._family()) > 1

    def memory(self, field: str) -> int:
        """Return a field of /proc/PID/status, summed over the daemon and its helpers."""
        return sum(_memory(pid, field) for pid in self._family())

    def own_memory(self, field: str) -> int:
        """Return a field of /proc/PID/status of the daemon alone."""
        return _memory(self._process.pid, field)

    def forget_peak(self) -> None:
        """Let the daemon's VmHWM be what it has now."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def processor_s(self) -> float:
        """Return the processor time that the daemon and its children have used."""
        return sum(sum(_times(pid)) for pid in self._family()) / _TICK

    def unscheduled_s(self) -> float:
        """Return how long its threads and children could have run, and had no processor."""
        return sum(self.unscheduled_of(str(pid)) for pid in self._family())

    @staticmethod
    def unscheduled_of(pid: str) -> float:
        """Return that of a process's threads."""
        waits = []
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                waits.append(int(stat.read_text().split()[1]))
        return sum(waits) / 1e9

    def children_s(self) -> float:
        """Return the part of it that children have used."""
        return self.processor_s() - sum(_times(self._process.pid)[:2]) / _TICK


def _memory(pid: int, field: str) -> int:
    """Return a field of a process's status in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _times(pid: int) -> list[int]:
    """Return a process's ticks in user space and in the kernel, and those of ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


@contextmanager
def daemon(
    namespace: Namespace,
    api: StandIn,
    directory: Path,
    pause_ms: float,
    group: Cgroup | None = None,
    options: Sequence[str] = (),
) -> Iterator[Process]:
    """Run the daemon, in a cgroup if one is given, and end it."""
    kubeconfig = api.write_kubeconfig(directory / "kubeconfig", kind="token")
    log = directory / "log"
    command = [
        *(sys.executable, "-m", "nfproxy", "run", f"--kubeconfig={kubeconfig}"),
        *(f"--hostname-override={NODE}", f"--cluster-cidr={objects.LOCAL_PODS}"),
        f"--iptables-min-sync-period={pause_ms:g}ms",
        *("--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"),
        "--conntrack-tcp-timeout-close-wait=0",
        *options,
    ]
    environment = compiled(directory)
    if group is not None:
        command = group.inside(command)
    with log.open("wb") as out:
        process = namespace.start(command, stdout=out, stderr=out, env=environment)
    try:
        yield Process(process, log)
    finally:
        namespace.stop(process)


def compiled(directory: Path) -> dict[str, str]:
    """Return an environment with compiled modules, which the image has and a work tree has not."""
    modules = directory / "compiled"
    environment = os.environ | {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(modules),
    }
    if not modules.exists():
        load = "import nfproxy.cli.run, nfproxy.daemon.assembly"
        subprocess.run([sys.executable, "-c", load], env=environment, check=True)
    return environment


def serve(namespace: Namespace, size: Size) -> StandIn:
    """Return an API server that holds a cluster of a size."""
    api = StandIn(namespace)
    numbers = range(size.services)
    services = (objects.service_json(n) for n in numbers)
    slices = (objects.slice_json(n, objects.endpoints_of(n, size.endpoints)) for n in numbers)
    for resource, bodies in (("services", services), ("endpointslices", slices)):
        api.load(resource, [_declined(msgspec.json.decode(body)) for body in bodies])
    node = {
        "kind": "Node",
        "metadata": {"name": NODE},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.77.11"}]},
    }
    api.apply(node)
    return api


def _declined(item: dict[str, Any]) -> dict[str, Any]:
    """Return an object without managedFields, which the stand-in would take time to leave out."""
    del item["metadata"]["managedFields"]
    return item
