"""
From the desired state to transactions that bring the kernel in step with it.

    reconciler   reads and writes a dataplane: start here
    tracker      what the kernel is believed to hold, and what has to go later
    transition   the operations that one frontend needs
    observed     what a reading of the tables says about frontends
    script       the desired state as one nft script, for `render` and for foreign tables

All but ``reconciler`` compute.
"""
