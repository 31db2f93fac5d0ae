"""nfproxy's commands as processes in a network namespace, and manifests to feed them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from support.processes.forked import fork_server

from nfproxy.dataplane.kernel import Kernel
from nfproxy.model.addresses import FAMILIES, Family
from nfproxy.netlink.messages import generic, message
from nfproxy.netlink.nftables import GET_GENERATION, SUBSYSTEM
from nfproxy.netlink.sockets import open_socket
from nfproxy.nft import schema
from nfproxy.reconcile.observed import observe
from nfproxy.tools.lab import Namespace

T = TypeVar("T")

ROOT = Path(__file__).parents[3]
NODE = "node-1"

#: What drops every capability: root without any is an ordinary user to the kernel. It keeps the
#: one that lets it be mapped into a user namespace, as users with other numbers can be without.
ORDINARY_USER = (
    *("setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all,+setfcap", "--no-new-privs"),
    "--",
)

_ON_OBJECTS = ("run", "render", "diff", "preflight", "explain", "services")

#: Much longer than anything takes here: what does not come fails, and costs that once.
WAIT_S = 40.0
_RUN_S = 60.0

_VARIABLES = {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1"}


class Result(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


class Daemon:
    """A running ``nfproxy run``; its log is kept in a file."""

    def __init__(self, namespace: Namespace, process: subprocess.Popen[Any], log: Path) -> None:
        self._namespace = namespace
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """Everything logged so far."""
        return self._log.read_text("utf-8", "replace")

    @property
    def alive(self) -> bool:
        """Return whether the process is still there."""
        return self.process.poll() is None

    def wait_for(self, text: str, times: int = 1) -> str:
        """Wait until the log holds a text so many times; return the log."""
        waits_for(lambda: self.log.count(text) >= times or not self.alive)
        log = self.log
        assert log.count(text) >= times, f"{text!r} is not there {times} times:\n{log}"
        return log

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the process alone, and return its exit status."""
        self.process.send_signal(number)
        code: int = self.process.wait(WAIT_S)
        self._namespace.stop(self.process)
        return code

    def wait(self) -> int:
        """Wait for the process to end by itself, and return its exit status."""
        code: int = self.process.wait(WAIT_S)
        self._namespace.stop(self.process)
        return code


class Commands:
    """
    Runs nfproxy's commands in one namespace, for node `NODE`.

    `package_root` is where the package nfproxy is found.
    """

    def __init__(self, namespace: Namespace, scratch: Path, package_root: Path = ROOT) -> None:
        self.namespace = namespace
        self._scratch = scratch
        self._root = package_root

    def run(
        self,
        *arguments: object,
        input: str | None = None,
        prefix: Sequence[str] = (),
        node: str = NODE,
    ) -> Result:
        """
        Run a command to its end.

        Without a prefix, it is a copy of a process with all modules, where there is one.
        """
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            files[0].write(input or "")
            for file in files:
                file.seek(0)
            descriptors = [file.fileno() for file in files]
            process = self._start(arguments, descriptors, prefix=prefix, node=node)
            try:
                code = process.wait(_RUN_S)
            finally:
                self.namespace.stop(process)
            texts = []
            for file in files[1:]:
                file.seek(0)
                texts.append(file.read())
            return Result(code, *texts)

    def _start(
        self,
        arguments: Sequence[object],
        files: Sequence[int],
        *,
        prefix: Sequence[str],
        node: str,
        prepare: str = "",
    ) -> subprocess.Popen[Any]:
        server = fork_server()
        if server and not prefix and self._root == ROOT:
            words = self._words(arguments, node)
            return server.start(self.namespace, words, _VARIABLES, files, prepare)
        argv = self.argv(*arguments, prefix=prefix, node=node)
        if prepare:
            at = argv.index("-m")
            argv[at : at + 2] = ["-c", f"{prepare}\nfrom nfproxy.cli import run_main; run_main()"]
        stdin, stdout, stderr = files
        return self.namespace.start(argv, stdin=stdin, stdout=stdout, stderr=stderr)

    def argv(self, *arguments: object, prefix: Sequence[str] = (), node: str = NODE) -> list[str]:
        """Return the command line of a command; one on objects is for node `node`."""
        variables = _VARIABLES | {"PYTHONPATH": str(self._root)}
        environment = [f"{name}={value}" for name, value in variables.items()]
        python = [sys.executable, "-P", "-m", "nfproxy"]
        return [*prefix, "env", *environment, *python, *self._words(arguments, node)]

    def _words(self, arguments: Sequence[object], node: str) -> list[str]:
        words = [str(argument) for argument in arguments]
        named = ["--hostname-override", node] if words[0] in _ON_OBJECTS else []
        return [*words, *(named if node else [])]

    @contextlib.contextmanager
    def daemon(
        self,
        manifests: Path | None,
        *arguments: object,
        prefix: Sequence[str] = (),
        ready: bool = True,
        node: str = NODE,
        prepare: str = "",
    ) -> Iterator[Daemon]:
        """
        Start ``nfproxy run``, from manifests or an API server, and wait until it is ready.

        It executes the Python statements `prepare` before: so that it waits less long.
        """
        log = self._scratch / f"log-{time.monotonic_ns()}"
        source = () if manifests is None else ("--manifests", manifests)
        with log.open("wb") as file, open(os.devnull, "rb") as nothing:  # noqa: PTH123
            words = ("run", *source, *arguments)
            files = (nothing.fileno(), file.fileno(), file.fileno())
            process = self._start(words, files, prefix=prefix, node=node, prepare=prepare)
        started = Daemon(self.namespace, process, log)
        try:
            if ready:
                started.wait_for("ready after")
            yield started
        finally:
            self.namespace.stop(process)

    def wait_for_listener(self, port: int) -> None:
        """Wait until a process in the namespace listens at a TCP port."""
        asked = ["ss", "-Hltn", f"sport = :{port}"]
        wait_until(lambda: self.namespace.run(asked).stdout)
        assert self.namespace.run(asked).stdout, f"no process listens at port {port}"

    def nft(self, text: str) -> None:
        """Run an nft script in the namespace."""
        self.namespace.run(["nft", "-f", "-"], input=text)

    def tables(self) -> list[str]:
        """Return the tables in the namespace: ``ip nfproxy``."""
        listing = self.namespace.run(["nft", "list", "tables"]).stdout
        return [line.removeprefix("table ") for line in listing.splitlines()]

    def generation(self) -> int:
        """Return the ruleset's generation: every committed transaction adds one."""
        return self.namespace.call(generation)

    def state(self, families: Sequence[Family] = FAMILIES) -> dict[str, Any]:
        """Return what the tables hold: elements, with a frontend's slots in any order."""
        return self.namespace.call(_state, families)

    def frontends(self) -> dict[str, tuple[str, ...]]:
        """Return each frontend that answers, and its endpoints."""
        return {
            name: tuple(sorted({*value[1], *value[2]}))
            for name, value in self.state()["frontends"].items()
        }


def generation() -> int:
    """Return the generation of this network namespace's ruleset."""
    with open_socket() as asked:
        asked.send(message(SUBSYSTEM << 8 | GET_GENERATION, 0, 1, generic(0)))
        answer = asked.recv(4096)
    return int.from_bytes(answer[24:28], "big")  # the first attribute, behind two headers


def _state(families: Sequence[Family]) -> dict[str, Any]:
    kernel = Kernel()
    try:
        observed = observe(kernel.elements, families)
    finally:
        kernel.close()
    return {
        "strays": len(observed.strays),
        "frontends": {
            str(key): (
                str(state.verdict),
                tuple(sorted(_endpoint(key.family, slot) for slot in state.slot_ranges[0])),
                tuple(sorted(_endpoint(key.family, slot) for slot in state.slot_ranges[1])),
                tuple(sorted((name, where.hex()) for name, where in state.own_elements)),
            )
            for key, state in observed.frontends.items()
            if state.verdict is not None
        },
        "shared": sorted((m.family.label, m.set, m.key.hex()) for m in observed.shared_elements),
    }


def _endpoint(family: Family, destination: bytes) -> str:
    fields = schema.SCHEMAS["endpoints-tcp"].value or ()
    return schema.format_fields(fields, destination, family).replace(" . ", ":")


def waits_for(condition: Callable[[], object], limit_s: float = WAIT_S) -> bool:
    """Wait until a condition holds; return whether it does."""
    deadline = time.monotonic() + limit_s
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(holds)


def wait_until(condition: Callable[[], object], limit_s: float = WAIT_S) -> None:
    """Assert that a condition comes to hold."""
    assert waits_for(condition, limit_s), f"not within {limit_s:g} s"


def eventually(expected: T, look: Callable[[], T]) -> None:
    """Assert that a value becomes what is expected."""
    waits_for(lambda: look() == expected)
    assert look() == expected


def errors_in(log: str) -> list[str]:
    """Return the lines of a log that report trouble."""
    return [line for line in log.splitlines() if re.search(r"ERROR|CRITICAL|Traceback", line)]


def package_copy(target: Path, files: Mapping[str, str]) -> Path:
    """
    Copy the package to a directory, with some files replaced; return what to put on the path.

    `files` maps paths inside the package to their text.
    """
    skip = shutil.ignore_patterns("__pycache__", "demo")
    shutil.copytree(ROOT / "nfproxy", target / "nfproxy", symlinks=False, ignore=skip)
    for name, text in files.items():
        (target / "nfproxy" / name).write_text(text)
    return target


# --- manifests ---------------------------------------------------------------------------


def service(
    name: str = "web",
    cluster_ip: str = "10.96.0.1",
    *,
    port: object = 80,
    created: str = "2026-01-01T00:00:00Z",
    metadata: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """Return a Service with one port; `spec` adds fields or replaces them."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": "default",
            "creationTimestamp": created,
            **(metadata or {}),
        },
        "spec": {
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "ipFamilies": ["IPv6" if ":" in cluster_ip else "IPv4"],
            "ports": [{"port": port, "protocol": "TCP"}],
            **spec,
        },
        **({"status": status} if status else {}),
    }


def endpoint_slice(
    service_name: str = "web",
    *addresses: str,
    name: str = "",
    node: str = NODE,
    port: object = 8080,
    conditions: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Return an EndpointSlice of some addresses, each on one node."""
    ipv6 = bool(addresses) and ":" in addresses[0]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name or f"{service_name}-{'ipv6' if ipv6 else 'ipv4'}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": "IPv6" if ipv6 else "IPv4",
        "ports": [{"port": port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "nodeName": node,
                "conditions": {"ready": True, **(conditions or {})},
            }
            for address in addresses
        ],
        **more,
    }


def node_object(name: str = NODE, **metadata: Any) -> dict[str, Any]:
    """Return the Node, with podCIDRs and addresses of both families."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "a"}, **metadata},
        "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "192.168.77.11"},
                {"type": "InternalIP", "address": "fd77::11"},
            ]
        },
    }


def write(path: Path, *objects: Any) -> Path:
    """Write objects as a List (JSON) or a multi-document file, renamed into place as a whole."""
    if path.suffix == ".json" and len(objects) > 1:
        objects = ({"apiVersion": "v1", "kind": "List", "items": objects},)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("\n---\n".join(json.dumps(item, indent=1) for item in objects))
    return partial.replace(path)
