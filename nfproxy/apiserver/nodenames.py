"""The names of the cluster's Nodes: one request, when this node's Node is missing."""

from __future__ import annotations

from nfproxy.apiserver.connection import Connection
from nfproxy.apiserver.transport import ApiRequest
from nfproxy.kube.nodenames import ListedNode, read_node_names

# Every node of a cluster may ask at once: metadata alone, and of a bounded number of Nodes.
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_LIMIT = "500"
_WAIT_S = 10.0


async def list_node_names(connection: Connection) -> tuple[ListedNode, ...]:
    """Return the first 500 Nodes by name. Raises RequestError."""
    request = ApiRequest(
        "/api/v1/nodes", {"limit": _LIMIT}, accept=_METADATA, head_s=_WAIT_S, silence_s=_WAIT_S
    )
    return read_node_names(await connection.read(request))
