"""
The machine nfproxy runs on, apart from its tables: addresses, sysctls, the process itself.

An edge: /proc, /sys and the kernel's address table are read and written here. What follows from
an address is decided elsewhere.
"""
