"""
``nfproxy demo``: a cluster on one machine, nfproxy on its nodes, and real requests.

Everything shown is real. Two nodes, their pods and an outside client are network namespaces
(:mod:`nfproxy.tools.lab`), ``nfproxy run`` is a process on each node, and all numbers are measured
or read from the kernel. `performance` runs the demo, `story` is its order, `scenario` lists the
requests with their expected results, `screen` prints. A claim that does not hold ends the demo with
exit code 1.
"""
