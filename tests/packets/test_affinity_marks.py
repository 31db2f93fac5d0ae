"""What session affinity writes into packets on their way, and takes out again."""

from __future__ import annotations

from support.kernel import rules
from support.packets.sending import Probe, probe_many
from support.packets.steps import (
    CLUSTER_IP,
    endpoints_of,
    everywhere,
    families,
    proxied,
)

from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Cluster

HOURS = 3 * 3600


#: Counts packets whose priority is an endpoint's number: on the way, and when they leave.
WATCH = """\
table F watch {
	counter inside {
	}
	counter outside {
	}
	chain forward {
		type filter hook forward priority 0;
		meta priority & 0xc0000000 == 0x40000000 counter name "inside"
	}
	chain output {
		type filter hook output priority 0;
		meta priority & 0xc0000000 == 0x40000000 counter name "inside"
	}
	chain postrouting {
		type filter hook postrouting priority 300;
		meta priority & 0xc0000000 == 0x40000000 counter name "outside"
	}
}
"""


@families
def test_no_packet_leaves_with_an_endpoint_s_number(served: Cluster, family: Family) -> None:
    """A packet's priority has it from the look-up of a client to postrouting only."""
    web = everywhere(affinity_timeout_s=HOURS)
    node = served.nodes[0]
    with proxied(served, web, *endpoints_of("web", [served.pod(2, 1)])):
        rules.load(node, WATCH.replace("F", family.table))
        probe_many([Probe(node, CLUSTER_IP.of(family), 80, Protocol.TCP)])  # recorded by this one
        probe_many([Probe(node, CLUSTER_IP.of(family), 80, Protocol.TCP)] * 3)
        found = rules.listing(node, "counters", "table", family.table, "watch")
        rules.load(node, f"delete table {family.table} watch\n")
    inside, outside = (
        int(found.split(f"counter {name} {{", 1)[1].split()[1]) for name in ("inside", "outside")
    )
    assert inside >= 3
    assert outside == 0
