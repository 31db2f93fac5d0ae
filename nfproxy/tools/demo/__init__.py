"""
``nfproxy demo``: a cluster on one machine, nfproxy on its nodes, and real requests.

Everything visible is real: two nodes, pods and an outside client are network namespaces
(:mod:`nfproxy.tools.lab`), ``nfproxy run`` is a process on each node, and what is shown was
measured or read from the kernel. `story` tells it in order; `scenario` says which requests are made
and what must come of them; a claim that does not hold ends the demo with exit code 1.
"""
