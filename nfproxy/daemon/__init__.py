"""
The daemon, ``nfproxy run``: it keeps a node's tables in step with a source of objects.

``assembly`` builds the parts and says how long each lives; start reading there. ``loop`` awaits
changes and deadlines in the event loop, ``schedule`` computes which task is due when, ``proxier``
plans and commits in a worker thread, ``unplanned`` keeps what is not planned yet. ``hooks`` is what
follows a commit (health, metrics, health check node ports), ``staleflows`` removes stale flows,
``serviceconnections`` counts connections by Service, ``kernelcounters`` reads what else the kernel
counts, ``insightpages`` answers `services` and `explain`, ``events`` posts Events, ``repairlog`` is
what the log says of other processes' changes, ``changelog`` keeps the last changes of all kinds,
``serviceprogress`` knows since when each Service is in force, ``ownstatus`` answers ``nfproxy
status``, ``missingnode`` says that the Node object is missing, and ``background`` has the smaller
tasks beside the loop. Every task belongs to ``assembly``, and ends with it.

Threads: sources, schedule, servers and all hooks but one belong to the event loop. Planner,
reconciler and the hook after a commit run in a worker thread, one call at a time; the loop awaits
each. Conntrack is cleaned, and metrics are written, in a thread of their own.
"""

from nfproxy.daemon.loop import Configure, Daemon
from nfproxy.daemon.proxier import Commit, Hooks
from nfproxy.daemon.schedule import SyncTimings

__all__ = ["Commit", "Configure", "Daemon", "Hooks", "SyncTimings"]
