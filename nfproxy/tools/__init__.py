"""
Commands that look at or prepare a node. The daemon never imports them.

``preflight`` checks a node, ``takeover`` removes what kube-proxy left, ``trace`` follows packets,
``bundle`` collects what a report needs, ``demo`` shows nfproxy at work and ``lab`` builds nodes and
pods out of network namespaces.
"""
