"""
The netlink protocol: constants and messages.
"""
