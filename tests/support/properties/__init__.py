"""
What property tests draw from.

    clusters     strategies: small clusters in which everything collides, and changes to them
    walks        planner and reconciler through a sequence of steps
    packetmodel  a packet inside the table while the table changes
    profiles     how hypothesis searches
"""
