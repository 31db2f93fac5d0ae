"""
The dataplane's vocabulary: our sets and maps, elements, chains and the text they become.

Everything here computes; nothing opens a socket or knows that a kernel exists.
"""
