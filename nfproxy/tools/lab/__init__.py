"""
Builds small networks out of network namespaces: hosts, links, addresses, routes, servers.

`Lab` holds namespaces and the programs in them. `Cluster` builds Kubernetes-like nodes with pods
and an outside client. `Responders` answer on hosts. ``nfproxy demo`` and the packet tests use them.

Nothing here knows Services or nfproxy's table, and nothing touches the network namespace of the
caller. Everything is gone when the lab is closed or the process ends in any way: the namespaces
have no names, only file descriptors of this process.
"""

from nfproxy.tools.lab.cluster import Cluster, LabNode, Pod
from nfproxy.tools.lab.hosts import Addresses, Host
from nfproxy.tools.lab.namespaces import Lab, Namespace
from nfproxy.tools.lab.responders import Responders

__all__ = ["Addresses", "Cluster", "Host", "Lab", "LabNode", "Namespace", "Pod", "Responders"]
