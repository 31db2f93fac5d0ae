"""
What kube-proxy leaves on a node, in each of its modes, and its removal.

What belongs to kube-proxy and in which order it goes is decided by names, tables and plan, which
compute; the modules named after a part of the kernel read that part and change it. Never touched:
what kubelet, CNI plugins, other software or an administrator made.
"""
