"""
What a container takes from a process, without a container: rights, and places to write to.

Put before a command (``prefix`` in :mod:`support.processes.commands`), each makes a mount
namespace of its own, so that nothing of it is left.
"""

from __future__ import annotations

#: A script's own arguments are ``"$@"``; its name is not among them.
_SCRIPT = ("sh", "-euc")

#: As container runtimes mount it for everyone but privileged containers.
_READ_ONLY_SYSCTLS = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"

#: Every mount read-only, but for /proc (each process may write what is its own) and /dev.
_READ_ONLY_ROOT = """
while read -r _ target _; do
    case "$target" in /proc | /proc/* | /dev | /dev/*) continue ;; esac
    mount -o remount,bind,ro "$(printf '%b' "$target")"
done < /proc/self/mounts
"""

#: ``capabilities: {drop: [ALL], add: [NET_ADMIN]}`` and ``allowPrivilegeEscalation: false``.
_ONLY_NET_ADMIN = "exec setpriv --bounding-set=-all,+net_admin --inh-caps=-all --no-new-privs --"


def _container(*steps: str) -> tuple[str, ...]:
    script = "\n".join((*steps, f'{_ONLY_NET_ADMIN} "$@"'))
    return ("unshare", "--mount", *_SCRIPT, script, "container")


#: The main container: nothing can be written to, and CAP_NET_ADMIN is all there is.
CONTAINER = _container(_READ_ONLY_SYSCTLS, _READ_ONLY_ROOT)


def init_container(directory: str) -> tuple[str, ...]:
    """Return the init container, which has the node's /proc/sys/net at `directory`/sys/net."""
    return _container(
        f"mkdir -p {directory}/sys/net",
        f"mount --bind /proc/sys/net {directory}/sys/net",
        _READ_ONLY_SYSCTLS,
    )
