"""
Small networks out of network namespaces: hosts, links, addresses, routes.

`Lab` holds namespaces and what runs in them; `Cluster` builds two Kubernetes-like
nodes with pods and an outside client on top. `nfproxy demo` and the packet tests
stand on it. Nothing here knows about services or nfproxy's table, nothing touches
the network namespace the program was started in, and all of it is gone when the
lab is closed or the process ends, however it ends: the namespaces have no names,
only file descriptors of this process.
"""

from nfproxy.tools.lab.cluster import Cluster, Node, Pod
from nfproxy.tools.lab.hosts import Addresses, Host
from nfproxy.tools.lab.namespaces import Lab, Namespace
from nfproxy.tools.lab.privileges import enter_private_namespace

__all__ = [
    "Addresses",
    "Cluster",
    "Host",
    "Lab",
    "Namespace",
    "Node",
    "Pod",
    "enter_private_namespace",
]
