"""
Real packets in a lab: who asks, for what, and who answered.

    scenes        a Service on a node, reached in every way there is
    steps         rows of expectations: source, frontend, answer
    sending       sends from a host and reports what came back
    attempts      one connection attempt per protocol, as a machine that never waits
    sctp, udpflows, allprotocols
"""
