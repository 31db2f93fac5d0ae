"""
Manifest files as a source of objects, for a node without an API server.

::

    watching (inotify) ──► scan ──► parsing ──► directory ──► object cache
                            └─ files

:class:`~nfproxy.manifests.source.ManifestSource` is the whole, :mod:`~nfproxy.manifests.once` reads
files for commands. Files, threads and the clock are used here; :mod:`nfproxy.kube` decides what an
object means.
"""
