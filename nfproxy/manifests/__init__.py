"""
Where objects come from.

Every source is a :class:`~nfproxy.kube.source.Source`: first everything there is,
then what changes. This is an edge: files, threads and the clock are allowed here;
what an object means is decided in :mod:`nfproxy.kube`.
"""
