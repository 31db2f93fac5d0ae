"""
Runs nft scripts by libnftables in its own process, until standard input ends.

A script, not a module to import. It must start fast, so it depends on nothing of nfproxy; its
arguments name the directory of the Python bindings, nfproxy's process id and, in place of
libnftables' own, a netlink socket.

A script comes as its length in bytes, a line end and its text. The answer is a line with
libnftables' status and the lengths of what it prints and of its errors, and then these. Exit
status: 0 done, 3 libnftables cannot be loaded, 4 libnftables or its bindings are of an unknown
version.

libnftables keeps its peak memory, and what other programs put into the network namespace can crash
it. Both end with this process.
"""

from __future__ import annotations

import ctypes
import os
import resource
import stat
import sys

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_SIGKILL = 9  # to import `signal` takes a fifth of the time that this process takes to start
_FILES = 64  # this process has opened fewer
_CONTEXT = "_Nftables__ctx"  # the bindings' pointer to libnftables' context, which is private


def main() -> int:
    """Run scripts; only check them (``--check``); or answer in JSON (``--json``)."""
    mode, path, parent, *netlink = sys.argv[1:]
    # A crash that repeats must not fill the disk with core dumps.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Without nfproxy, no process reads the answer.
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != int(parent):
        return 0  # it had ended before
    # The kernel reports this name with what the script changes: to another nfproxy, for one.
    prctl(_PR_SET_NAME, b"nfproxy", 0, 0, 0)
    sys.path.append(path)
    try:
        # Load the library first: its error is short. The bindings print more before they raise.
        library = ctypes.CDLL("libnftables.so.1")
        # The bindings import it for what no job here does, and that takes as long again.
        sys.modules["json"] = type(sys)("json")
        import nftables

        nft = nftables.Nftables()
    except (ImportError, OSError, AttributeError) as error:
        print(error, file=sys.stderr)
        return 3
    while True:
        # In each mode, so that a new version of the bindings is noticed at the start of the daemon.
        context = getattr(nft, _CONTEXT, None)
        if context is None:
            print(f"nftables.Nftables has no {_CONTEXT}", file=sys.stderr)
            return 4
        if netlink and not _put_in_place(int(netlink[0])):
            print("libnftables opened no socket, or several", file=sys.stderr)
            return 4
        if mode == "--check":
            # The bindings lack this call; the library has had it since its first release.
            library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
            library.nft_ctx_set_dry_run(context, True)
        if mode == "--json":
            nft.set_json_output(True)
        if (text := _read_script()) is None:
            return 0
        code, output, errors = nft.cmd(text)
        _answer(code, output or "", errors or "")
        # Each script has a context of its own: nothing of one has an effect on the next.
        del nft
        nft = nftables.Nftables()


def _read_script() -> str | None:
    """Return the next script; None if there will be none, or only a part of one."""
    length = sys.stdin.buffer.readline()
    text = sys.stdin.buffer.read(int(length or 0))
    return text.decode() if length and len(text) == int(length) else None


def _answer(code: int, *printed: str) -> None:
    output, errors = (text.encode("utf-8", "surrogateescape") for text in printed)
    sys.stdout.buffer.write(b"%d %d %d\n" % (code, len(output), len(errors)) + output + errors)
    sys.stdout.buffer.flush()


def _put_in_place(netlink: int) -> bool:
    """Put a socket in the place of libnftables' own; return whether there is exactly one."""
    sockets = [number for number in range(3, _FILES) if number != netlink and _is_socket(number)]
    if len(sockets) != 1:
        return False
    os.dup2(netlink, sockets[0])
    return True


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
