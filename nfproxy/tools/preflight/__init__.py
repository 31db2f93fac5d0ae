"""
Checks whether a node is fit for nfproxy, before anything is switched over.

Each module is one subject: its facts (plain values), its readers (``read_…``, which look at the
machine or the API server), its judgements (``judge_…``, which compute findings from facts) and
``CHECKS``, the lines that it adds to the report.

::

    report       all subjects, in the order of the report
    ├── apiserver   can the API server be reached without a Service, may nfproxy ask what it must?
    ├── kernel      privileges, the kernel and its families; uses trial, which loads the program
    ├── nft         libnftables, the host's nft, and the tables that are already here
    ├── proxies     kube-proxy and other service proxies
    ├── firewalls   what flushes rulesets, what drops forwarded packets
    ├── network     forwarding, reverse paths, bridges
    ├── conntrack, ports, memory
    examine      runs the readers at the same time and the judgements after them
    findings     what a judgement returns
    hostroot     files of a host whose root directory is mounted somewhere

Preflight changes nothing. It tries what has to be tried in a network namespace of its own, or has
the kernel validate it without a commit.
"""
