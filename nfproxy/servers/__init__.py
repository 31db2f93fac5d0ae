"""
HTTP servers: health, metrics, and the health check node ports of Services.

All speak plain HTTP without authentication, as kube-proxy's do, so everybody who can reach
the node may send them anything. ``listening`` opens sockets, ``serving`` bounds what clients
may use up, ``pages`` is what a page is; the other modules say what stands on which page.
Everything here belongs to the event loop.
"""
