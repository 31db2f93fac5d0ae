"""Every endpoint of a Service port: whether new connections go there, and why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nfproxy.insight.explanation import EndpointRow, EndpointUse
from nfproxy.insight.sight import PortSight
from nfproxy.model.addresses import format_address
from nfproxy.model.endpoints import Endpoint, EndpointSlice
from nfproxy.nft.schema import port_bytes
from nfproxy.plan.endpoints import Destination, left_out
from nfproxy.text import shown_name

NO_PORT = "no port"
IN_TWO_SLICES = "another slice has it in a better state"


def endpoint_rows(port: PortSight) -> tuple[EndpointRow, ...]:
    """
    Return a row for each endpoint of the Service's slices in the port's family, used ones first.

    One without the port has a row, too: an empty list would hide the mistake.
    """
    reasons = _Reasons(port)
    rows = [row for piece in port.own_slices for row in _rows_of(port, piece, reasons)]
    return tuple(sorted(rows, key=lambda row: bool(row.reason)))


def _rows_of(port: PortSight, piece: EndpointSlice, reasons: _Reasons) -> Iterator[EndpointRow]:
    numbers = [
        one.port
        for one in piece.ports
        if one.name == port.port.name and one.protocol is port.port.protocol
    ]
    for endpoint in piece.endpoints:
        if not numbers:
            yield _row(port, piece, endpoint, None, EndpointUse(), NO_PORT)
        for number in numbers:
            destination = endpoint.address + port_bytes(number)
            if port.found.get(destination) == endpoint.kind:
                use, reason = reasons.of(destination)
            else:
                use, reason = EndpointUse(), IN_TWO_SLICES
            yield _row(port, piece, endpoint, number, use, reason)


class _Reasons:
    """Why endpoints of a port are not on its lists."""

    def __init__(self, port: PortSight) -> None:
        node = port.sight.config.node_name
        self._uses_cluster, self._uses_local = port.uses_cluster, port.uses_local
        self._cluster = frozenset(port.chosen.cluster)
        self._local = frozenset(port.chosen.local)
        nothing: Mapping[Destination, str] = {}
        self._not_cluster = self._not_local = nothing
        if self._uses_cluster:
            self._not_cluster = left_out(port.found, port.chosen, node, local=False)
        if self._uses_local:
            self._not_local = left_out(port.found, port.chosen, node, local=True)

    def of(self, destination: Destination) -> tuple[EndpointUse, str]:
        """Return which lists hold a destination, and why not those that the port has."""
        use = EndpointUse(cluster=destination in self._cluster, local=destination in self._local)
        why = self._not_cluster.get(destination, "")
        why_not_local = self._not_local.get(destination, "")
        if not self._uses_cluster:
            return use, why_not_local
        if not why and why_not_local:
            # Connections of policy Cluster go there: those of pods and the node, most often.
            return use, f"Local: {why_not_local}"
        return use, why


def _row(
    port: PortSight,
    piece: EndpointSlice,
    endpoint: Endpoint,
    number: int | None,
    use: EndpointUse,
    reason: str,
) -> EndpointRow:
    known = port.sight.details.endpoint(piece.name, endpoint.address)
    node = endpoint.node
    return EndpointRow(
        address=format_address(endpoint.address),
        port=number,
        pod=_shown(known.pod),
        node=_shown(node or ""),
        local=node is not None and node == port.sight.config.node_name,
        slice=piece.name.name,
        ready=endpoint.ready,
        serving=endpoint.serving,
        terminating=endpoint.terminating,
        zone=_shown(known.zone),
        used=use,
        reason=reason,
    )


def _shown(text: str) -> str:
    """Return a name for people, "" for none."""
    return shown_name(text) if text else ""
