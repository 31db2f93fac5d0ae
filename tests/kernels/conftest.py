"""
Tests that need a kernel, and a machine, of their own: they run in guests of --kernels only.

See tests/tools/kernel_tests.py, and tests/run.sh --help. Anywhere else they are not collected.
"""

from __future__ import annotations

import os

if "NFPROXY_GUEST" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
