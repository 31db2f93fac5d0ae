"""
A client of the Kubernetes API: it reads objects into the object cache, and posts Events.

::

    configuration ─► access ◄─ credentials ◄─ kubeconfig, credential plugins, a pod's files
                       │
       serverpool ► connection ──► transport ──► official client (kubeclient)
                    ▲      ▲
                    │      └── eventposter ◄─ eventseries
                    └── reflector (one for each resource) ──► feed ──► object cache ──► source

Credential plugins run in ``plugins``, each below a ``plugin_child`` process; ``bodies`` reads
answers within bounds.

Modules that only compute: ``serverpool`` (which of several API servers, and its proxy) and
``eventseries`` (which Events, and when). The protocol of lists and watches is decided in
:mod:`nfproxy.kube.listwatch`; the reflector only asks, reads and sleeps. What people read about
failures: ``failures`` for requests without an answer, :mod:`nfproxy.kube.apistatus` for answers.

Everything runs in the event loop's thread.
"""
