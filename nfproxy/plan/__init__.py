"""
Policy: which address may reach which endpoint, and why.

Pure functions from objects and the node's configuration to the desired dataplane. No
I/O, no clock, no kernel. The semantics are kube-proxy's (nftables mode, Kubernetes 1.36)
unless a docstring says otherwise.
"""
