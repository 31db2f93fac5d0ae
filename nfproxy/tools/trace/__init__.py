"""
``nfproxy trace``: what happens to real packets, in the tables of every program.

``table`` makes a table that marks first packets and answers, ``headers`` reads a packet's headers,
``traced`` joins the kernel's messages to connections, ``endings`` and ``wording`` say how each
ended and why, ``rules`` finds the text of a rule, ``subject`` what to trace for a question, and
``session`` reads from the kernel.

The table belongs to a socket of this process: the kernel removes it when the process ends, however
that happens.
"""
