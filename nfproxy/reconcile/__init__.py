"""
From the desired state to transactions that bring the kernel in step with it.

    reconciler   reads and writes a dataplane: start here
    committing   commits portions, at a start ahead of the kernel
    tracker      what the kernel is believed to hold, what differs, and what has to go later
    backlog      what waits, in the order in which it is committed
    syncreport   what a sync reports
    costs        how much fits one transaction
    portions     the same where the kernel limits its bytes
    batch        one portion of work
    refusals     what the kernel refuses in a transaction
    transition   the operations that one frontend needs
    lists        the operations that a shared list needs
    chainuses    which chains frontends use, and which are made ahead
    chaintexts   nft texts that load chains
    chainloading loads the program and chains into a dataplane
    observed     what a reading of the tables says about frontends
    extent       what foreign changes touched
    restoring    the operations that put that back
    script       the desired state as one nft script, for `render` and for foreign tables

All but ``reconciler``, ``committing`` and ``chainloading`` compute.
"""
