"""
Loads nft text into the kernel, by libnftables in a child process.

The child may crash or hang without harm to nfproxy. A script is one transaction: the kernel takes
it as a whole or not at all. To start the child takes ten times as long as a usual script.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from nfproxy.errors import DataplaneError, MissingFeatureError, TransactionError, reason_of
from nfproxy.netlink.sockets import NOT_PERMITTED, NOT_PERMITTED_REMEDY
from nfproxy.text import one_line, shorten

_CHILD = Path(__file__).with_name("libnftables_child.py")
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE)
TIMEOUT_S = 120.0

#: libnftables' status, and exit statuses of the child.
_DONE, _NO_LIBRARY, _UNKNOWN_BINDINGS = 0, 3, 4

# A child runs so many scripts, and no other after one of so many bytes: libnftables keeps its peak
# memory, some fifty times the script.
_MOST_SCRIPTS, _LARGE = 500, 1 << 17

#: Codes of the DataplaneError of a child that crashed, or did not finish in time.
CRASHED, TIMED_OUT = "libnftables crashed", "libnftables timed out"

# Limits of an error text, in characters and lines.
_ERROR_LIMIT, _LINE_LIMIT, _LINES = 1200, 200, 6


def load_text(
    text: str,
    *,
    check: bool = False,
    timeout_s: float = TIMEOUT_S,
    netlink: socket.socket | None = None,
) -> str:
    """
    Run an nft script as one transaction and return what it prints.

    With `check` libnftables and the kernel only validate the script. The script goes through the
    socket `netlink`, which must not block and had no other use; by default through a new one.

    Raises TransactionError if the script is refused, MissingFeatureError without libnftables, and
    DataplaneError if the child crashes or hangs. In the last case the kernel may have the script or
    not: read the tables before going on.
    """
    with closing(Child("--check" if check else "--run", netlink)) as child:
        return child.run(text, timeout_s)


def library_version(timeout_s: float = TIMEOUT_S) -> str:
    """
    Return the version of libnftables, such as ``1.0.6``; "" if the library does not say.

    Each listing in JSON names it. Raises as `load_text` does.
    """
    with closing(Child("--json")) as child:
        found = re.search(r'"version": *"([^"]{1,32})"', child.run("list tables", timeout_s))
    return found[1] if found else ""


class Child:
    """
    A process that loads libnftables, and then runs scripts, one after the other.

    `mode` is an argument of the child. The scripts go through the socket `netlink`, as in
    `load_text`.
    """

    def __init__(self, mode: str = "--run", netlink: socket.socket | None = None) -> None:
        """Start the process. Raises DataplaneError, or MissingFeatureError without bindings."""
        files = () if netlink is None else (netlink.fileno(),)
        command = [sys.executable, "-I", "-S", str(_CHILD), mode, _bindings_path()]
        self._scripts_left = _MOST_SCRIPTS
        try:
            with ExitStack() as on_failure:
                self._socket, other = socket.socketpair()
                self._answers = on_failure.enter_context(self._socket.makefile("rb"))
                on_failure.enter_context(self._socket)
                with other:
                    self._process = subprocess.Popen(
                        [*command, str(os.getpid()), *map(str, files)],
                        stdin=other.fileno(),
                        stdout=other.fileno(),
                        stderr=subprocess.PIPE,
                        pass_fds=files,
                        # Ctrl-C stops nfproxy, not the child: what has begun shall finish.
                        start_new_session=True,
                    )
                on_failure.pop_all()
        except OSError as error:
            raise DataplaneError(
                f"cannot start a process for libnftables: {reason_of(error)}"
            ) from error

    @property
    def is_usable(self) -> bool:
        """Whether it should be given another script: it has not ended, nor used much memory."""
        return self._scripts_left > 0 and self._process.poll() is None

    def run(self, text: str, timeout_s: float = TIMEOUT_S) -> str:
        """
        Run a script and return what it prints. Raises as `load_text` does.

        After an error the process has ended.
        """
        script = text.encode()
        self._scripts_left = self._scripts_left - 1 if len(script) <= _LARGE else 0
        try:
            answer = self._exchange(script, timeout_s)
        except BaseException as error:
            self.close()
            if not isinstance(error, TimeoutError):
                raise
            raise DataplaneError(
                f"libnftables did not finish within {timeout_s:g} s; its process was killed",
                code=TIMED_OUT,
            ) from None
        if answer is None:
            raise self._ended(timeout_s)
        code, out, err = answer
        if code != _DONE:
            self.close()
            raise _refusal(shorten_errors(err.decode("utf-8", "replace")))
        return out.decode("utf-8", "replace")

    def _exchange(self, script: bytes, timeout_s: float) -> tuple[int, bytes, bytes] | None:
        """Return status, output and errors; None if the process ended. Raises TimeoutError."""
        self._socket.settimeout(timeout_s)
        try:
            # If it ended before it took all of that, it has no answer either.
            with suppress(BrokenPipeError):
                self._socket.sendall(b"%d\n%b" % (len(script), script))
            code, *lengths = (int(word) for word in self._answers.readline().split())
            out, err = (self._answers.read(length) for length in lengths)
        except (ConnectionResetError, ValueError):
            return None
        return (code, out, err) if lengths == [len(out), len(err)] else None

    def _ended(self, timeout_s: float) -> DataplaneError | MissingFeatureError:
        """Return the error of a process that ended without an answer."""
        try:
            _, err = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            err = b""
        self.close()
        return _error(self._process.returncode, shorten_errors(err.decode("utf-8", "replace")))

    def close(self) -> None:
        """End the process. Idempotent."""
        self._answers.close()
        self._socket.close()
        with self._process as process:
            process.kill()


def _refusal(errors: str) -> TransactionError:
    # libnftables has no error numbers: only its text says that something is not permitted.
    not_permitted = os.strerror(errno.EPERM) in errors
    return TransactionError(
        f"libnftables refused the script: {errors}",
        NOT_PERMITTED_REMEDY if not_permitted else "",
        NOT_PERMITTED if not_permitted else "",
    )


def _error(status: int, errors: str) -> DataplaneError | MissingFeatureError:
    """Return the error of a child that ended with a status and printed `errors`."""
    if status == _NO_LIBRARY:
        return MissingFeatureError(
            f"libnftables cannot be loaded ({errors})",
            "install the package libnftables1 (Debian, Ubuntu), nftables (Alpine, Arch, RHEL)",
        )
    if status == _UNKNOWN_BINDINGS:
        return MissingFeatureError(
            f"nfproxy does not know this version of libnftables or of its bindings ({errors})",
            "pip install 'pip-nftables>=1.0.2,<1.1'",
        )
    return DataplaneError(f"libnftables ended with {_ending(status)} ({errors})", code=CRASHED)


def _ending(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    if -status in _CRASHES:
        return (
            f"{signal.Signals(-status).name}, as an older one can on what a newer nft wrote into "
            "this network namespace: see `nft list ruleset`"
        )
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def _bindings_path() -> str:
    """Return the directory that holds the Python bindings (pip-nftables)."""
    spec = importlib.util.find_spec("nftables")
    if spec is None or spec.origin is None:
        raise MissingFeatureError(
            "the Python bindings of libnftables are missing", "pip install pip-nftables"
        )
    file = Path(spec.origin)
    return str(file.parents[1] if file.name == "__init__.py" else file.parent)


def shorten_errors(text: str) -> str:
    """
    Return libnftables' errors as one line of a log: few lines of the text, none of them long.

    For an element that it refuses, libnftables prints the whole command, megabytes of it.
    """
    # Lines of marks below the text (^^^) say nothing without the column they stand in.
    lines = [one_line(line, _LINE_LIMIT) for line in text.splitlines() if line.strip(" ^~\t")]
    # One about the table comes for each line of a script that names it.
    lines = [*dict.fromkeys(lines)]
    return shorten(" | ".join(lines[:_LINES]), _ERROR_LIMIT) or "no message"
