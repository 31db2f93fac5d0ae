"""What ``nfproxy render`` prints on a terminal in place of the script: a line a frontend."""

from __future__ import annotations

from collections.abc import Iterator

from nfproxy.cli.textlayout import table_lines
from nfproxy.plan.desired import Desired
from nfproxy.text import plural
from nfproxy.views.compare import service_port
from nfproxy.views.describe import answer

_MOST = 200  # frontends: more are no summary


def summary_lines(desired: Desired, source: str, script_lines: int, width: int) -> Iterator[str]:
    """Yield the lines: what there is, a table of frontends by Service, and how to get the rest."""
    frontends = sorted(
        desired.frontends.values(),
        # Cluster IPs and other addresses before node ports.
        key=lambda f: (f.claim.service, f.claim.port_name, not f.key.address, f.key),
    )
    families = {frontend.key.family for frontend in frontends if not frontend.key.address}
    services = len({frontend.claim.service for frontend in frontends})
    yield f"{plural(services, 'Service')}, {plural(len(frontends), 'frontend')}, of {source}"
    yield ""
    rows = []
    for frontend in frontends[:_MOST]:
        said = answer(frontend)
        pods, outside = said["pods"], said["outside"]
        text = pods if pods == outside else f"{pods}; outside {outside}"
        where = str(frontend.key) if len(families) > 1 else frontend.key.place
        rows.append((service_port(frontend.claim), where, frontend.kind.value, text))
    yield from table_lines(("SERVICE", "FRONTEND", "KIND", "ANSWER"), rows, width)
    if len(frontends) > _MOST:
        yield f"and {plural(len(frontends) - _MOST, 'further frontend')}: -o yaml has all"
    yield ""
    yield f"The script has {plural(script_lines, 'line')}: -o nft prints it, or a pipe."
