"""
The kernel at the edge: netlink for elements, libnftables for the program.

Nothing here decides anything.
"""
