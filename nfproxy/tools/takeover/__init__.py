"""
Finds and removes what kube-proxy left on a node, in each of its modes.

``names``, ``tables``, ``virtualservers`` and ``leftovers`` compute what belongs to kube-proxy, and
what must not be removed yet. ``nftables``, ``legacy``, ``ipvs`` and ``ruleobjects`` each read and
change one part of the kernel. ``removal`` and ``draining`` hold the order in which all of it goes.
Nothing that kubelet, a CNI plugin, other software or an administrator made is touched.
"""
