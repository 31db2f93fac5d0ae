"""
From the API's wire form to the model.

:mod:`~nfproxy.kube.wire` holds the fields nfproxy reads, as JSON spells them;
:mod:`~nfproxy.kube.decode` turns one object into a model value plus what is wrong with
it. Everything here computes, and nothing raises for bad input: a bad item costs only
itself, and what is wrong comes back as values.
"""
