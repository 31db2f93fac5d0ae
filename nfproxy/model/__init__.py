"""
What the cluster says, as immutable values.

Everything here computes; nothing opens a socket, reads a clock or a file. Text
from the API has been parsed before it gets here: an address is packed bytes, a
port a number in range, a name has been checked against the API's own rules.
"""
