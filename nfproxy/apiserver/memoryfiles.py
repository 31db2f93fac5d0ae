"""
Files for what only takes files, without a disk.

OpenSSL's interface in Python reads keys from paths only. A key that stands in a kubeconfig, or
that a plugin gave, should not lie about in ``/tmp``, where a crash would leave it, and which a
container may not have.
"""

from __future__ import annotations

import os


class MemoryFiles:
    """Files that exist until closed, in the kernel's memory, for this process (memfd_create(2))."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def __del__(self) -> None:
        """Close what nobody has closed."""
        self.close()

    def add(self, content: bytes) -> str:
        """Return the path of a new file."""
        descriptor = os.memfd_create("nfproxy")
        self._descriptors.append(descriptor)
        os.write(descriptor, content)
        return f"/proc/self/fd/{descriptor}"

    def close(self) -> None:
        """Remove the files; their paths may soon be those of something else. Idempotent."""
        descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            os.close(descriptor)
