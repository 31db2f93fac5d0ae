"""
The servers: health, metrics, health check node ports, and node ports on loopback addresses.

All but the last speak plain HTTP without authentication, as kube-proxy's do, so every client that
reaches the node may send them anything. ``listening`` opens sockets, ``localqueue`` those of which
one has this machine's own connections, ``accepting`` accepts connections, ``admission`` bounds
their number, ``serving`` serves a page within bounds, ``requestreader`` reads requests as Go does,
``pages`` is what a page is. ``ports`` has the pages of the health port and the metrics port,
``zpages`` two of them, ``localpages`` those for this node alone. ``webpages`` are those of them for
people, ``pagetexts`` what their templates show, ``html`` the responses. ``healthcheckports`` is the
answer to load balancers' health checks. ``tcpproxy`` and ``udpproxy`` pass connections and
datagrams from loopback addresses on to endpoints, which ``endpointchoice`` draws.

Everything here belongs to the event loop; metrics are written, and pages for people rendered, in
threads.
"""
