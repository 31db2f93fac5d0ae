"""
The desired state and the kernel as operators see them: data, differences, totals.

Everything here computes from a plan and from what was read; nothing changes either.
"""
