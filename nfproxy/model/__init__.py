"""
Kubernetes objects and the node's configuration as immutable values.

Everything here computes; nothing opens a socket or reads a clock or a file. :mod:`nfproxy.kube` has
parsed and checked the API's text: an address is packed bytes, a port a number in range, a name
follows the API's rules.
"""
