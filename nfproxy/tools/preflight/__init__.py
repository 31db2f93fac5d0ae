"""
Checks whether a node is fit for nfproxy, before anything is switched over.

Each module is one subject: its facts (plain values), its readers (``read_…``, which look at the
machine or the API server), its judgements (``judge_…``, which compute findings from facts) and
``CHECKS``, the lines that it adds to the report.

::

    report       all subjects, in the order of the report
    ├── kernel      privileges, the kernel, its families; trial.py loads the daemon's program
    ├── nft         libnftables and the host's nft (hostnft.py) on the tables that are here
    ├── proxies     kube-proxy and other service proxies
    ├── firewalls   what flushes rulesets (ruleset.py), what drops forwarded packets
    ├── network     forwarding, reverse paths, bridges
    ├── conntrack, ports, memory
    ├── apiserver   does each API server answer, at an address that is not a Service's?
    ├── access      may nfproxy make its requests, is there a Node of this name?
    examine      runs the readers at the same time and the judgements after them
    findings     what a judgement returns

To add a check: write a ``judge_…`` in the module of its subject, and a ``Check`` in its ``CHECKS``
that names the facts it needs. A test calls the judgement with values.

Preflight changes nothing. It tries what has to be tried in a network namespace of its own, or has
the kernel validate it without a commit.
"""
