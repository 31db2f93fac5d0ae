"""
Objects of a cluster, with few words.

    model   nfproxy's own values: service(), endpoint_slice() …
    api     the same as the API writes them
    web     the Service web and its endpoints, for tests of the reconciler
"""
