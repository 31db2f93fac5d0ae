"""
The same Services in the common layout: a chain for each service port, written by nft.

Modelled on kube-proxy's nftables mode (Kubernetes 1.36): its base chains, hooks and static
chains, its maps, its names of chains. One simplification is in the baseline's favour: what its
proxier does before nft (it lists its table at every change) is not measured.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import BenchError
from bench.objects import (
    ENDPOINT_PORT,
    LOCAL_PODS,
    NAMESPACE,
    PORT,
    SERVICE_CIDR,
    Size,
    cluster_ip,
    endpoints_of,
    service_name,
    spare_endpoint,
)
from bench.results import Baseline, Spread
from nfproxy.tools.lab import Namespace

TIMEOUT_S = 1200.0
POLL_S = 0.002

#: typeof and not type, so that an nft of any version can list it; the kernel sees no difference.
_TABLE = rf"""table ip kube-proxy {{
	comment "rules for kube-proxy"
	set cluster-ips {{ typeof ip daddr; }}
	set hairpin-connections {{ typeof ip saddr . ip daddr . meta l4proto . th dport; }}
	map service-ips {{ typeof ip daddr . meta l4proto . th dport : verdict; }}
	map service-nodeports {{ typeof meta l4proto . th dport : verdict; }}
	map no-endpoint-services {{ typeof ip daddr . meta l4proto . th dport : verdict; }}
	map no-endpoint-nodeports {{ typeof meta l4proto . th dport : verdict; }}
	map firewall-ips {{ typeof ip daddr . meta l4proto . th dport : verdict; }}
	chain filter-prerouting-pre-dnat {{
		type filter hook prerouting priority -110;
		ct state new jump firewall-check
	}}
	chain filter-output-pre-dnat {{
		type filter hook output priority -110;
		ct state new jump firewall-check
	}}
	chain filter-input {{
		type filter hook input priority 0;
		ct state new jump nodeport-endpoints-check
		ct state new jump service-endpoints-check
	}}
	chain filter-forward {{
		type filter hook forward priority 0;
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain filter-output {{
		type filter hook output priority 0;
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
	chain nat-output {{ type nat hook output priority -100; jump services; }}
	chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
	chain firewall-check {{ ip daddr . meta l4proto . th dport vmap @firewall-ips; }}
	chain service-endpoints-check {{
		ip daddr . meta l4proto . th dport vmap @no-endpoint-services
	}}
	chain nodeport-endpoints-check {{
		ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @no-endpoint-nodeports
	}}
	chain cluster-ips-check {{
		ip daddr @cluster-ips reject
		ip daddr {SERVICE_CIDR} drop
	}}
	chain services {{
		ip saddr != {LOCAL_PODS} ip daddr @cluster-ips meta mark set mark or 0x4000
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @service-nodeports
	}}
	chain masquerading {{
		meta mark & 0x4000 != 0 meta mark set mark xor 0x4000 masquerade fully-random
		ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections \
			masquerade fully-random
	}}
"""


def chain_name(number: int) -> str:
    """Return the name of a Service's chain, as long as kube-proxy's: the hash comes first."""
    rest = f"{NAMESPACE}/{service_name(number)}/tcp/http"
    digest = base64.b32encode(hashlib.sha256(rest.encode()).digest()).decode()[:8]
    return f"service-{digest}-{rest}"


def balancing_rule(addresses: Sequence[str]) -> str:
    """Return the one rule of a Service's chain."""
    slots = ", ".join(f"{i} : {text} . {ENDPOINT_PORT}" for i, text in enumerate(addresses))
    return f"meta l4proto tcp dnat ip to numgen random mod {len(addresses)} map {{ {slots} }}"


def ruleset(size: Size) -> Iterator[str]:
    """Yield the pieces of the whole ruleset as nft text."""
    yield _TABLE
    for number in range(size.services):
        rule = balancing_rule(endpoints_of(number, size.endpoints))
        yield f"\tchain {chain_name(number)} {{ {rule}; }}\n"
    yield "}\nadd element ip kube-proxy cluster-ips {\n"
    yield ",\n".join(cluster_ip(number) for number in range(size.services))
    yield "\n}\nadd element ip kube-proxy service-ips {\n"
    yield ",\n".join(
        f"{cluster_ip(number)} . tcp . {PORT} : goto {chain_name(number)}"
        for number in range(size.services)
    )
    yield "\n}\n"


def replacement(number: int, size: Size, addresses: Sequence[str]) -> str:
    """Return the text that rewrites one Service's chain."""
    where = f"ip kube-proxy {chain_name(number)}"
    return f"flush chain {where}\nadd rule {where} {balancing_rule(addresses)}\n"


def write_ruleset(size: Size, directory: Path) -> Path:
    """Write the ruleset to a file below a directory."""
    path = directory / f"baseline-{size.services}x{size.endpoints}.nft"
    with path.open("w", encoding="ascii") as file:
        file.writelines(ruleset(size))
    return path


class Load(NamedTuple):
    """One run of ``nft -f``: seconds, processor seconds, peak memory in bytes."""

    seconds: float
    cpu: float
    peak: int


def load(namespace: Namespace, path: Path) -> Load:
    """Load a file."""
    with path.with_suffix(".err").open("w+b") as errors:
        began = time.perf_counter()
        process = namespace.start(["nft", "-f", str(path)], stderr=errors)
        peak, ended = 0, 0
        while not ended:
            # Not wait4's ru_maxrss: that includes what the parent had when it forked.
            peak = max(peak, _peak_memory(process.pid))
            time.sleep(POLL_S)
            if time.perf_counter() - began > TIMEOUT_S:
                namespace.stop(process)
                raise BenchError(f"nft took more than {TIMEOUT_S:g} s to load {path.name}")
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        namespace.stop(process)
        errors.seek(0)
        if process.returncode:
            raise BenchError(
                f"nft refused the baseline: {errors.read(1000).decode().strip()} "
                "(Message too long: so large a transaction needs root, not just a user namespace)"
            )
    return Load(seconds, usage.ru_utime + usage.ru_stime, peak)


def _peak_memory(pid: int) -> int:
    """Return a process's VmHWM in bytes, 0 once it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("ascii")
    except OSError:
        return 0
    return next((int(t.split()[1]) * 1024 for t in text.splitlines() if t.startswith("VmHWM")), 0)


def measure(namespace: Namespace, size: Size, directory: Path, repeats: int) -> Baseline:
    """Load the baseline into a namespace, then replace one endpoint at a time."""
    path = write_ruleset(size, directory)
    first = load(namespace, path)
    changes = []
    for number in range(repeats):
        service = number * 7919 % size.services
        addresses = endpoints_of(service, size.endpoints)
        addresses[number % len(addresses)] = spare_endpoint(number)
        text = replacement(service, size, addresses)
        began = time.perf_counter()
        namespace.run(["nft", "-f", "-"], input=text)
        changes.append(time.perf_counter() - began)
    return Baseline(
        services=size.services,
        endpoints=size.endpoints,
        text_bytes=path.stat().st_size,
        load=first.seconds,
        cpu=first.cpu,
        peak=first.peak,
        replaced=Spread.of(changes),
    )
