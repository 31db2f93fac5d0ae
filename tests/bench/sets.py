"""
What declared sizes of sets, and counters of elements, cost a first load.

A set that is declared with a size has a hash table for it from the beginning, and takes no element
beyond it. Any other grows with its elements. Each form is loaded by `nft` from a script, in one
transaction, and by netlink as nfproxy does, in transactions of some tens of milliseconds.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import click
import msgspec
from rich.console import Console
from rich.table import Table

from bench import machine, objects
from bench.measure import CONFIG
from bench.objects import Size
from nfproxy.dataplane import libnftables
from nfproxy.dataplane.kernel import Kernel
from nfproxy.host.privatenamespace import enter_private_namespace
from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.identity import Kind
from nfproxy.model.addresses import Family
from nfproxy.nft import ruleset
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.chaintexts import of_family
from nfproxy.reconcile.script import script
from nfproxy.reconcile.transition import ABSENT, Operation, elements_of, transition

DEFAULT, QUICK = Size(45_000, 1), Size(50, 2)
_FAMILY = Family.IPV4
_PORTION = 5000  # operations in one transaction
_FORMS = ((False, True), (True, True), (False, False), (True, False))


class Loaded(msgspec.Struct, frozen=True):
    """One form: seconds and memory of `nft -f`, and seconds of the kernel for transactions."""

    sizes: bool
    counters: bool
    nft_s: float
    nft_kernel_s: float
    nft_mb: float
    netlink_s: float
    longest_s: float


def planner_of(size: Size) -> Planner:
    """Return the planner of a cluster."""
    cache = ObjectCache("node-0")
    for number in range(size.services):
        cache.put(Kind.SERVICE, objects.service_json(number))
        addresses = objects.endpoints_of(number, size.endpoints)
        cache.put(Kind.ENDPOINT_SLICE, objects.slice_json(number, addresses))
    planner = Planner(CONFIG)
    planner.apply(cache.take())
    return planner


def measure(planner: Planner, sizes: bool, counters: bool) -> Loaded:
    """Load one form into this network namespace, in both ways."""
    operations = [
        operation
        for key, wanted in planner.desired.frontends.items()
        for operation in elements_of(key, transition(key, ABSENT, wanted).state)
    ]
    operations.sort(key=lambda one: one.set == "frontends")  # slots first
    operations += [Operation(True, *each) for each in planner.desired.shared_elements]
    operations = [one for one in operations if one.family is _FAMILY]
    most = 2 * len(operations)
    whole = _form(script(planner.desired, CONFIG.program, [_FAMILY]), sizes, counters, most)
    nft_s, nft_kernel_s, nft_mb = _nft(whole)
    chains = {
        (key.family, chain.name): chain
        for key, wanted in planner.desired.frontends.items()
        for chain in wanted.chains
    }
    empty = ruleset.replacement_text(CONFIG.program, _FAMILY, of_family(chains, _FAMILY))
    libnftables.load_text(_form(empty, sizes, counters, most))
    kernel, longest_s, began = Kernel(), 0.0, time.perf_counter()
    for start in range(0, len(operations), _PORTION):
        at = time.perf_counter()
        kernel.commit(operations[start : start + _PORTION])
        longest_s = max(longest_s, time.perf_counter() - at)
    netlink_s = time.perf_counter() - began
    kernel.close()
    libnftables.load_text("flush ruleset\n")
    return Loaded(sizes, counters, nft_s, nft_kernel_s, nft_mb, netlink_s, longest_s)


def _form(text: str, sizes: bool, counters: bool, most: int) -> str:
    """Return a table's text with declared sizes, or without counters."""
    if sizes:
        hashed = "frontends|endpoints-tcp|cluster-ips"
        text = re.sub(rf"(\t(?:map|set) (?:{hashed}) {{\n)", rf"\1\t\tsize {most}\n", text)
    return text if counters else re.sub(r"(?m)^\t\tcounter\n", "", text)


def _nft(text: str) -> tuple[float, float, float]:
    """Return seconds, seconds in the kernel, and MB at the peak, of `nft -f -`."""
    began = time.perf_counter()
    process = subprocess.Popen(["nft", "-f", "-"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(text.encode())
    process.stdin.close()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError("nft refused the script")
    return time.perf_counter() - began, used.ru_stime, used.ru_maxrss / 1024


def forms(size: Size) -> Iterator[Loaded]:
    """Measure each form."""
    planner = planner_of(size)
    for sizes, counters in _FORMS:
        yield measure(planner, sizes, counters)


def show(results: Sequence[Loaded], size: Size, console: Console) -> None:
    """Print a table."""
    table = Table(title=f"First load of {size}, IPv4, by form of the maps", title_justify="left")
    for head in ("sizes", "counters", "nft -f", "of it kernel", "nft's memory", "by netlink"):
        table.add_column(head, justify="right")
    table.add_column("longest transaction", justify="right")
    for one in results:
        table.add_row(
            *("yes" if each else "no" for each in (one.sizes, one.counters)),
            *(f"{seconds:.2f} s" for seconds in (one.nft_s, one.nft_kernel_s)),
            f"{one.nft_mb:.0f} MB",
            f"{one.netlink_s:.2f} s",
            f"{one.longest_s * 1e3:.0f} ms",
        )
    console.print(table)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A tiny size: a test of the bench.")
@click.option("--size", default=str(DEFAULT), help="E.g. 45000x1.")
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text")
def main(quick: bool, size: str, output: str) -> None:
    """Measure what sizes of sets and counters of elements cost a first load."""
    enter_private_namespace()
    print(machine.facts(), file=sys.stderr, flush=True)
    measured = QUICK if quick else Size.parse(size)
    results = list(forms(measured))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        show(results, measured, Console(width=None if sys.stdout.isatty() else 120))


if __name__ == "__main__":
    main(prog_name="bench sets")
