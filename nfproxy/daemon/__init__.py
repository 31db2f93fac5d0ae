"""
The daemon: the loop that keeps a node in step, and everything that goes along with it.

``daemon`` is the loop between a source of objects and the kernel; ``duties`` does what follows
a commit: health, metrics, health-check node ports, connection tracking, Events; ``assembly`` puts
the parts of ``nfproxy run`` together. This is where tasks are owned: they end with it.
"""

from nfproxy.daemon.interface import Commit, Configure, Duties, Pace
from nfproxy.daemon.loop import Daemon

__all__ = ["Commit", "Configure", "Daemon", "Duties", "Pace"]
