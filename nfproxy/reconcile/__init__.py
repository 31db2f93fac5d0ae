"""
From what should be to what is: the desired state, the difference, the transaction.

``desired`` and ``transition`` compute; ``reconciler`` drives a dataplane it is given.
"""
