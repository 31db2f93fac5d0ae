"""
What nfproxy's client of the API server is tested against: scripted servers, proxies, certificates.

    scriptedserver   answers what a test says, request by request
    reflecting       one resource, listed and watched on such a server
    access           credentials and addresses as a test wants them
    certificates     made by openssl
    connectproxy     an HTTP proxy that only knows CONNECT, in a namespace
    http11           HTTP/1.1 byte by byte, for servers of nfproxy
"""
