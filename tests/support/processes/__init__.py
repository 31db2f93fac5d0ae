"""
nfproxy's commands as processes.

    commands         any command in a namespace, and manifests to feed it
    forked           commands as copies of forkserver, a process that has all modules already
    apidaemon        nfproxy run against the stand-in of the API server
    pageservers      servers of pages, for one test
    without_sockets  runs a program that may not open some sockets
"""
