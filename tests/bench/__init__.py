"""
The benchmark: what nfproxy costs, beside a ruleset of one chain per service port.

``run.sh`` is the command; ``python -m bench`` with ``tests`` on the path does the same. Every
size is measured in a process of its own (``measure``), in a network namespace of its own.
"""

from nfproxy.errors import NfproxyError


class BenchError(NfproxyError):
    """A part of the benchmark did not do what is to be measured."""
