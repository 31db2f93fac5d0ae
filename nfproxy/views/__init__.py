"""
What people read of the desired state and of the kernel: data, differences, totals.

Everything here computes from a plan and an observation; nothing changes either.
"""
