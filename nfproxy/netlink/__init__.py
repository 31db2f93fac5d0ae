"""
The kernel's netlink protocols: every constant, message and socket is here, once.

``messages`` has what all messages share: headers and attributes. ``nftables`` knows tables, chains,
sets and rules, ``elements`` what sets and maps hold, ``conntrack`` the tracked connections and
``tracked`` how far they have come, ``tracing`` traced packets, ``rtnetlink`` the addresses of this
node, ``routing`` routes, interfaces and neighbours, ``trafficcontrol`` queues and filters of tc.
All of them compute: bytes in, values out. ``sockets`` is the only module that opens one.
"""
