"""
One job for libnftables, in a process of its own: text on standard input, errors on standard error.

Run as a script, not imported: it must start fast and must not depend on nfproxy. What it
needs of site-packages is named in its arguments. Exit status: 0 done, 1 refused,
3 libnftables cannot be loaded.

libnftables keeps its peak memory and can crash on what others put into the network
namespace; here both end with the process.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run one script, check it (``--check``), answer in JSON (``--json``); then: import path."""
    mode, path = sys.argv[1], sys.argv[2]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash loop must not fill the disk
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody would read the answer
    sys.path.append(path)
    try:
        # The bindings say more than that it is missing, on standard error.
        library = ctypes.CDLL("libnftables.so.1")
        import nftables

        nft = nftables.Nftables()
    except (ImportError, OSError, AttributeError) as error:
        print(error, file=sys.stderr)
        return 3
    if mode == "--check":
        # The bindings lack the call; the library has had it since its first release.
        library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        library.nft_ctx_set_dry_run(nft._Nftables__ctx, True)
    if mode == "--json":
        nft.set_json_output(True)
    code, output, errors = nft.cmd(sys.stdin.read())
    sys.stdout.write(output or "")
    sys.stderr.write(errors or "")
    return 0 if code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
