"""
From facts to verdicts. Everything here computes: no file, no socket, no clock.
"""
