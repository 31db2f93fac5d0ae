"""
Network namespaces without names, and the programs that run in them.

A namespace lives as long as something refers to it. Here that is a file descriptor, so no crash can
leave a namespace behind. One thread of the lab works inside and moves from namespace to namespace;
the caller's threads stay where they are. A socket stays in the namespace where it was made,
whichever thread uses it.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from nfproxy.closing import Closing
from nfproxy.errors import MissingFeatureError
from nfproxy.host.privatenamespace import CLONE_NEWNET, REMEDY, in_private_namespace, setns, unshare

T = TypeVar("T")

STOP_SECONDS = 3.0


class Namespace:
    """
    One network namespace of a lab; `Lab.namespace` makes it, and the lab closes it.

    Any thread may call it.
    """

    def __init__(self, name: str, fd: int, worker: ThreadPoolExecutor) -> None:
        self.name = name
        self.fd = fd
        self._worker = worker
        self._processes: list[subprocess.Popen[Any]] = []

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """
        Call `function(*args)` inside the namespace and return what it returns.

        The lab's only worker thread runs it, so it must be short and must not use `call` itself.
        """
        return self._worker.submit(self._inside, function, args).result()

    def _inside(self, function: Callable[..., T], args: Sequence[Any]) -> T:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self.fd)
            try:
                return function(*args)
            finally:
                setns(home)  # an idle thread would keep a closed namespace alive
        finally:
            os.close(home)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Make a socket inside; it can be used and closed from any thread."""
        return self.call(socket.socket, family, kind, protocol)

    def set_sysctls(self, values: dict[str, str]) -> None:
        """
        Set sysctls, named by their path below /proc/sys/net ("ipv4/ip_forward").

        Skip a name that starts with "?" where the kernel does not have it.
        """
        self.call(_write_sysctls, values)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,
        check: bool = True,
        timeout_s: float = 30.0,
    ) -> subprocess.CompletedProcess[str]:
        """
        Run a program inside to its end and return what it printed.

        With `check`, an exit code other than 0 raises CalledProcessError, with the program's error
        output as a note.
        """
        process = self.start(
            argv,
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = process.communicate(input, timeout=timeout_s)
        finally:
            self.stop(process)
        if check and process.returncode:
            error = subprocess.CalledProcessError(process.returncode, list(argv), out, err)
            error.add_note(f"in {self.name}: {err[:1000]}")
            raise error
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def start(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """
        Start a program inside, with options as for Popen. Closing the lab ends it.

        The program gets its own session, so Ctrl-C reaches only the lab's process, which then ends
        the program in order. Where setpriv exists, the kernel ends the program if the lab's process
        is killed.
        """
        return self.call(self._start, [*_die_with_us(), *argv], options)

    def _start(self, command: list[str], options: dict[str, Any]) -> subprocess.Popen[Any]:
        process: subprocess.Popen[Any] = subprocess.Popen(
            command, start_new_session=True, **options
        )
        # Kept by the worker: a signal may interrupt the caller while it waits.
        self._processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[Any]) -> None:
        """End a program made by `start` and its whole session; it may have ended already."""
        _end([process])
        if process in self._processes:
            self._processes.remove(process)

    def enter_command(self) -> list[str]:
        """Return the command with which a person enters this namespace from a shell."""
        pid = os.getpid()
        command = ["nsenter", f"--net=/proc/{pid}/fd/{self.fd}"]
        if in_private_namespace():
            command[1:1] = [f"--user=/proc/{pid}/ns/user", "--preserve-credentials"]
        return command

    def close(self) -> None:
        """End the programs inside and release the namespace. Idempotent."""
        processes, self._processes = self._processes, []
        _end(processes)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Lab(Closing):
    """A set of namespaces that end together. A context manager; any thread may call it."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lab")
        self._namespaces: list[Namespace] = []

    @property
    def namespaces(self) -> tuple[Namespace, ...]:
        """The namespaces that are open, in the order they were made."""
        return tuple(self._namespaces)

    def namespace(self, name: str) -> Namespace:
        """
        Make an empty namespace; `name` is for people only.

        Raises MissingFeatureError where the process may not make one.
        """
        try:
            return self._worker.submit(self._new_namespace, name).result()
        except PermissionError as error:
            raise MissingFeatureError("cannot make a network namespace", REMEDY) from error

    def here(self, name: str) -> Namespace:
        """Return this process's own namespace; closing it ends the programs started in it."""
        fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        namespace = Namespace(name, fd, self._worker)
        self._namespaces.append(namespace)
        return namespace

    def _new_namespace(self, name: str) -> Namespace:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWNET)
            fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            setns(home)
        finally:
            os.close(home)
        namespace = Namespace(name, fd, self._worker)
        # Kept by the worker: a signal may interrupt the caller while it waits.
        self._namespaces.append(namespace)
        return namespace

    def drop(self, namespace: Namespace) -> None:
        """Close one namespace before the others."""
        self._namespaces.remove(namespace)
        namespace.close()

    def close(self) -> None:
        """
        End every program and release every namespace. Idempotent.

        The kernel removes a namespace a moment after its last file descriptor, socket and process.
        """
        for namespace in self._namespaces:
            namespace.close()
        self._namespaces.clear()
        self._worker.shutdown()


def _write_sysctls(values: dict[str, str]) -> None:
    for name, value in values.items():
        path = Path("/proc/sys/net", name.removeprefix("?"))
        try:
            path.write_text(value)
        except FileNotFoundError:
            if not name.startswith("?"):
                raise
        except PermissionError as error:
            raise MissingFeatureError(f"cannot set {path} in our own namespace", REMEDY) from error
        except OSError as error:
            error.add_note(f"writing {value!r} to {path}")
            raise


def _die_with_us() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _end(processes: Sequence[subprocess.Popen[Any]]) -> None:
    """End programs and their sessions: by SIGTERM, and by SIGKILL after some seconds."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for process in processes:
        while not _has_ended(process) and time.monotonic() < deadline:
            time.sleep(0.002)
        _signal(process, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None and not stream.closed:
                stream.close()


def _has_ended(process: subprocess.Popen[Any]) -> bool:
    """Look without reaping: as long as it is a zombie, its id still names its session."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(process: subprocess.Popen[Any], number: signal.Signals) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
