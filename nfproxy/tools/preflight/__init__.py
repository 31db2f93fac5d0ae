"""
Whether a node is fit for nfproxy, found out before anything is switched over.

::

    read/     thin readers: /proc, netlink, files of the host, the API server, a scratch namespace
      │ facts.py: plain values
    judge/    from facts to verdicts, each with the remedy; computes only
      │
    checks.py     which facts each check is about
    examine.py    readers side by side, each with a time limit; then the judgements

Nothing here changes the node: what has to be tried is tried in a network namespace of its own, or
by validation without a commit.
"""
