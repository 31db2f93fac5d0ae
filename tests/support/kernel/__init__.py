"""
Kernels in the place of nfproxy's: in memory, or of a namespace; and tables to compare.

    fake         nf_tables in memory, as strict as the kernel's
    real         the kernel of a namespace of the lab
    memoryproxy  planner and reconciler over the fake kernel
    nodeproxy    planner and reconciler over a node of the lab
    tables, wholetable, nfttext   what a table holds, as values
    rules, entries                rules and conntrack entries by hand
    oldproxy, ipvs                what kube-proxy leaves on a node
"""
