"""
A stand-in for the API server: LIST, WATCH, Events, and all that can go wrong with them.

It behaves as kube-apiserver 1.36 does for Services, EndpointSlices, Nodes, ServiceCIDRs and
Events, as far as a client that lists and watches can see; tests/apiserver runs one suite
against both. There is no validation and no allocation: objects are stored as they come. There
is no HTTP/2, no protobuf, no Table, and of patches only merges.

    standin      what tests use, in a thread        control, __main__   the same, in a process
    api          its commands as methods            commands            what they do
    host         the whole, in an event loop        server              requests and answers
    listening    sockets, connections               access, rbac        who may what
    listing      options, pages, tokens             streams             watches
    store        objects, versions, history         writes              POST, PUT, PATCH, DELETE
    certificates, credentials
    selectors, resources, status, discovery, faults, manifests          client: for its tests
"""

from support.apiserver.api import Api
from support.apiserver.server import Request
from support.apiserver.standin import StandIn

__all__ = ["Api", "Request", "StandIn"]
