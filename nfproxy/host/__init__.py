"""
The machine that nfproxy runs on, apart from its tables: addresses, sysctls, processes, kube-proxy.

These modules read and write /proc and /sys, and ask the kernel for addresses and tables. They
decide nothing.
"""
