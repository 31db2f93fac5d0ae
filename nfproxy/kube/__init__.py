"""
From the API's wire form to the model, and the cache of all objects.

:mod:`~nfproxy.kube.wire` holds the fields that nfproxy reads, as JSON spells them;
:mod:`~nfproxy.kube.decode` turns one object into a value of the model and its problems;
:mod:`~nfproxy.kube.cache` keeps the latest good version of each object;
:mod:`~nfproxy.kube.listwatch` is the protocol by which an API server sends them.

Everything here computes: no socket, file, clock or event loop. Bad input raises nothing here: a bad
item costs only itself, and what is wrong with it is a value.
"""
