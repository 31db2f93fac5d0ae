"""For each fault the line of nfproxy that handles it, and what the line is without that."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import nfproxy


class Break(NamedTuple):
    """A text that is once in a file of the package, and the text in its place."""

    file: str
    line: str
    instead: str

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(nfproxy.__file__).parent / self.file


LIST_WATCH, LOOP, CLOCK = "kube/listwatch.py", "daemon/loop.py", "clock.py"

# How a watch or list that failed is asked for again.
NO_RETRY = Break(
    LIST_WATCH,
    "        self.wait_s = self._retries.next_s(status.retry_after_s if status else None)\n",
    "        self.wait_s = 3600.0\n",
)
# How a transaction that failed is tried again.
NO_RESYNC = Break(
    "daemon/schedule.py",
    "            delay_s = self._retries.next_s()\n",
    "            delay_s = 3600.0\n",
)
# How another process's change is noticed.
DEAF = Break(
    LOOP, "        change = changes.read()\n", "        change = changes.read() and None\n"
)
# That an object is newer than another.
ANY_VERSION = Break("kube/history.py", "    return is_number and", "    return False and")
# What the kernel holds, read at a start.
NO_TAKE_OVER = Break(
    "reconcile/tracker.py",
    "        self._states = observed.frontends\n",
    "        self._states = {}\n",
)

BREAKS: dict[str, tuple[Break, ...]] = {
    # the API server
    "cut_watches": (NO_RETRY,),
    "cut_an_event": (
        Break(
            LIST_WATCH,
            "self._latest.version or self._version\n",
            'str(int(self._latest.version or "0") + 20)\n',
        ),
    ),
    "expire_history": (
        Break(
            LIST_WATCH,
            "            self._is_relisting = True\n            self._forget_version()\n",
            "            self._is_relisting = True\n",
        ),
    ),
    "send_garbage": (
        Break(
            LIST_WATCH,
            "            return outputs + self._malformed(not_an_event(line))\n",
            "            raise\n",
        ),
    ),
    "restart": (NO_RETRY,),
    "be_down": (NO_RETRY,),
    "freeze": (
        Break(
            "apiserver/transport.py",
            "            async with asyncio.timeout(request.head_s):\n",
            "            async with asyncio.timeout(3600):\n",
        ),
        Break("apiserver/connection.py", "= 3.0, 10.0\n", "= 3600.0, 3600.0\n"),
    ),
    "be_overloaded": (NO_RETRY,),
    "ask_to_wait_for_years": (
        Break(
            "backoff.py", "min(max(retry_after_s or 0.0, 0.0), MAX_RETRY_AFTER_S)", "retry_after_s"
        ),
    ),
    "miss_changes": (
        Break(
            "kube/cache.py",
            "        return [self._remove(kind, name) for name in unlisted if name is not None]\n",
            "        return []\n",
        ),
    ),
    "drip": (
        Break(
            "apiserver/bodies.py",
            "asyncio.timeout_at(deadline_at + size / _SLOWEST_BYTES_PER_S)",
            "asyncio.timeout_at(deadline_at + 3600)",
        ),
    ),
    "page_without_end": (
        Break(
            "kube/pagedlist.py",
            "        if page.continue_token in self._tokens:\n",
            "        if False:\n",
        ),
        Break(
            "kube/pagedlist.py",
            "        if self._expected * _FULL > self.objects:\n",
            "        if False:\n",
        ),
    ),
    "go_back_in_versions": (ANY_VERSION,),
    "repeat_events": (
        Break(
            "kube/cache.py",
            "        if before is now or before == now:\n",
            "        now = None if before == now else now\n        if before is now:\n",
        ),
    ),
    "send_an_old_object": (ANY_VERSION,),
    "send_unknown_events": (
        Break(
            "kube/watch.py",
            'an error without a Status")\n    return None\n',
            'an error without a Status")\n    raise KeyError(event.type)\n',
        ),
    ),
    "redirect": (Break("apiserver/transport.py", "allow_redirects=False", "allow_redirects=True"),),
    "send_a_gzip_bomb": (
        Break("apiserver/bodies.py", "        if size > max_bytes:\n", "        if False:\n"),
        Break(
            "kube/watch.py",
            "            self.is_too_long = self._size > self._limit\n",
            "            self.is_too_long = False\n",
        ),
    ),
    "refuse_the_token": (NO_RETRY,),
    "forbid_a_resource": (NO_RETRY,),
    # the process
    "kill": (NO_TAKE_OVER,),
    "kill_at_start": (NO_TAKE_OVER,),
    "stop_in_order": (
        Break(
            LOOP,
            '        log.info("stopping; installed rules stay")',
            "        __import__('os').system('nft delete table ip nfproxy')",
        ),
    ),
    "pause": (DEAF,),
    "exhaust_descriptors": (NO_RETRY,),
    "exhaust_memory": (NO_TAKE_OVER,),
    "fill_disk": (
        Break(
            "cli/loglines.py",
            "    handler = logging.StreamHandler()\n",
            "    handler = logging.StreamHandler()\n"
            "    handler.handleError = lambda record: sys.exit(1)\n    import sys\n",
        ),
    ),
    "let_the_clock_jump": (Break(CLOCK, "    return time.monotonic()\n", "    return unix_s()\n"),),
    # the kernel and libnftables
    "run_out_of_kernel_memory": (NO_RESYNC,),
    "run_out_of_buffers": (NO_RESYNC,),
    "lose_rights": (NO_RESYNC,),
    "refuse_an_element": (
        Break(
            "reconcile/refusals.py",
            "    return error.code not in _OTHER_CAUSES",
            "    return False",
        ),
    ),
    "crash_libnftables": (NO_RESYNC,),
    "hang_libnftables": (
        Break(
            "dataplane/libnftables.py",
            "        self._socket.settimeout(timeout_s)\n",
            "        self._socket.settimeout(3600)\n",
        ),
    ),
    "lose_notifications": (Break("dataplane/announcements.py", "            yield None\n", ""),),
    "change_the_tables": (DEAF,),
    "flush_again_and_again": (DEAF,),
    # interfaces
    "switch_an_interface": (
        Break(
            "host/addresschanges.py",
            "        if found != self._current:\n",
            "        if False:\n",
        ),
    ),
}
