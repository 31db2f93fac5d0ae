"""
A Kubernetes API server as a source of objects, and as the place where Events go.

::

                                               servers (which of several)
                                                           │
    kubeconfig, service account, --master ── access ──► connection ──► requests
                                                           ▲
    Services, EndpointSlices, ServiceCIDRs, Node ── reflector each ──► object cache ──► source
                                                           ▲
    events ────────────────────────────────────────────────┘

What the protocol means is decided in :mod:`nfproxy.kube.watch` and :mod:`nfproxy.kube.cache`,
which know neither sockets nor clocks; here is when to ask, whom, and what to do when nobody
answers.
"""
