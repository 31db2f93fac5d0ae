"""
Tries nfproxy's program in a network namespace of its own.

A child process does that, with this module as its main program: only a process without other
threads can enter a user namespace, and whatever goes wrong there reaches neither the parent nor the
node.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import msgspec

import nfproxy
from nfproxy.dataplane.kernel import Kernel
from nfproxy.dataplane.libnftables import library_version, load_text
from nfproxy.dataplane.probes import missing_features
from nfproxy.errors import MissingFeatureError, NfproxyError, reason_of
from nfproxy.host.addresses import enabled_families
from nfproxy.host.privatenamespace import CLONE_NEWNET, enter_private_namespace, unshare
from nfproxy.host.processes import may_administer_network
from nfproxy.model.addresses import FAMILIES, Family, Prefix, parse_address, parse_prefix
from nfproxy.model.changes import Changes
from nfproxy.model.endpoints import Endpoint, EndpointSlice, SlicePort
from nfproxy.model.node import ServiceCIDR
from nfproxy.model.nodeconfig import LocalPods, NodeConfig
from nfproxy.model.service import ObjectName, Protocol, Service, ServicePort
from nfproxy.plan.planner import Planner
from nfproxy.reconcile.observed import observe
from nfproxy.reconcile.reconciler import Reconciler
from nfproxy.reconcile.script import script
from nfproxy.tools.preflight.examine import FactSource, IfKnown, Subject
from nfproxy.tools.preflight.hostnft import HOST_NFT, HostNft, call_nft
from nfproxy.views.compare import compare

LIMIT_S = 12.0
_LIBRARY_S = 6.0  # for a call of libnftables
_ENDING_S = 2.0  # for the child to end what it started
_TOO_LONG = 3  # the child's exit status where its time was up

_NODE = "preflight"
# Addresses of the sample, from the ranges for documentation (RFC 5737, RFC 3849).
_SERVICES = {Family.IPV4: "192.0.2.{}", Family.IPV6: "2001:db8::{}"}
_PODS = {Family.IPV4: "198.51.100.{}", Family.IPV6: "2001:db8:1::{}"}
_OUTSIDE = {Family.IPV4: "203.0.113.{}", Family.IPV6: "2001:db8:2::{}"}
_LENGTH = {Family.IPV4: 24, Family.IPV6: 64}

Place = Literal["namespace", "validation", ""]


class Trial(msgspec.Struct, frozen=True):
    """
    What came of trying nfproxy's program.

    `place` is where it was tried: in a network namespace, by validation alone, or nowhere ("", then
    `obstacle` says why). `refused` says why it failed, "" where it works, and `missing` names the
    features that the kernel lacks, each with its remedy. `library` is the version of libnftables.
    `host_nft` says why the host's nft cannot read the program: "" where it can, None where it was
    not asked.
    """

    place: Place
    obstacle: str = ""
    refused: str = ""
    missing: tuple[tuple[str, str], ...] = ()
    library: str = ""
    host_nft: str | None = None


class _Order(msgspec.Struct):
    """
    What the child is to try.

    `nft` is the command of the host's nft, [] for none. With `validate_only` the child stays where
    it is and has the kernel validate the program.
    """

    families: list[int]
    nft: list[str]
    validate_only: bool = False
    limit_s: float = LIMIT_S


def read_trial(families: Sequence[Family], nft: Sequence[str]) -> Trial:
    """
    Try the daemon's program with the Services of `sample`; `nft` is the host's command.

    Raises MissingFeatureError where the child cannot be started or gives no answer.
    """
    order = _Order([int(family) for family in families], list(nft), limit_s=LIMIT_S)
    trial = _carry_out(order)
    if trial.place or not may_administer_network():
        return trial
    # In another child: the first may be half inside a user namespace, without its privileges.
    order.validate_only = True
    return msgspec.structs.replace(_carry_out(order), obstacle=trial.obstacle)


def _carry_out(order: _Order) -> Trial:
    # The child runs this package, wherever it is, and not one in the working directory.
    package_root = str(Path(nfproxy.__file__).parents[1])
    paths = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            env={**os.environ, "PYTHONPATH": paths},
            input=msgspec.json.encode(order),
            capture_output=True,
            timeout=LIMIT_S + _ENDING_S,
            check=False,
        )
        if done.returncode == _TOO_LONG:
            raise MissingFeatureError(f"the trial took longer than {LIMIT_S:g} s")
        return msgspec.json.decode(done.stdout, type=Trial)
    except subprocess.TimeoutExpired as error:
        raise MissingFeatureError(f"the trial took longer than {LIMIT_S:g} s") from error
    except OSError as error:
        raise MissingFeatureError(f"the trial could not start: {reason_of(error)}") from error
    except msgspec.MsgspecError as error:
        raise MissingFeatureError(
            f"the trial gave no answer; its process ended with status {done.returncode}"
        ) from error


def _load_and_read_back(families: Sequence[Family], nft: Sequence[str]) -> Trial:
    """Move this process to a network namespace of its own and try the program there."""
    if obstacle := _enter_namespace():
        return Trial("", obstacle)
    try:
        _load(families)
    except NfproxyError as error:
        return _refused("namespace", error, families)
    return Trial("namespace", library=_library(), host_nft=_read_by(nft) if nft else None)


def _validate(families: Sequence[Family]) -> Trial:
    """Have the kernel validate the program in this network namespace, which changes nothing."""
    try:
        load_text(sample_script(families), check=True)
    except NfproxyError as error:
        return _refused("validation", error, families)
    return Trial("validation", library=_library())


def _refused(place: Place, error: NfproxyError, families: Sequence[Family]) -> Trial:
    missing = tuple((one.what, one.remedy) for one in missing_features(families))
    return Trial(place, refused=str(error), missing=missing, library=_library())


def _enter_namespace() -> str:
    """Enter a network namespace of our own; return why that is impossible, "" if it worked."""
    try:
        if not enter_private_namespace():
            unshare(CLONE_NEWNET)
    except (OSError, MissingFeatureError):
        return "no network namespace can be made here without the capability SYS_ADMIN"
    return ""


def _load(families: Sequence[Family]) -> None:
    """Program the namespace as the daemon does, and read it back. Raises NfproxyError."""
    planner = sample()
    with closing(Kernel()) as kernel:
        reconciler = Reconciler(kernel, planner.desired, planner.config, families, time.monotonic)
        reconciler.sync(planner.desired.everything())
        rows, _ = compare(planner.desired, observe(kernel.elements, families), families)
    if rows:
        raise MissingFeatureError(
            f"the kernel does not hold what it was given: {rows[0].subject} is {rows[0].change}"
        )


def _library() -> str:
    try:
        return library_version(_LIBRARY_S)
    except NfproxyError:
        return ""


def _read_by(nft: Sequence[str]) -> str:
    """Return why an nft cannot list the tables in this namespace, "" if it can."""
    return call_nft((*nft, "list", "ruleset")).trouble


def _give_up(*_: object) -> None:
    """Exit; subprocess.run kills on the way out what it is waiting for."""
    sys.exit(_TOO_LONG)


def _main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
    # The child ends itself: if the parent killed it, a hanging nft would stay behind.
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, order.limit_s)
    families = [Family(number) for number in order.families]
    trial = _validate(families) if order.validate_only else _load_and_read_back(families, order.nft)
    os.write(sys.stdout.fileno(), msgspec.json.encode(trial))


def sample() -> Planner:
    """Return a planner with Services that need every statement of nfproxy's templates."""
    config = NodeConfig(
        node_name=_NODE,
        node_ips=_addresses(_OUTSIDE, 1),
        local_pods=LocalPods(_prefixes(_PODS)),
        node_port_prefixes={family: (found,) for family, found in _prefixes(_OUTSIDE).items()},
    )
    services: dict[ObjectName, Service | None] = {one.name: one for one in _services()}
    slices: dict[ObjectName, EndpointSlice | None] = {
        one.name: one for name in services for one in _slices(name)
    }
    planner = Planner(config)
    cidrs = tuple(_prefixes(_SERVICES).values())
    planner.apply(Changes(services, slices, {"all": ServiceCIDR("all", cidrs)}))
    return planner


def sample_script(families: Sequence[Family]) -> str:
    """Return the nft script of the sample's program."""
    planner = sample()
    return script(planner.desired, planner.config.program, families)


def _services() -> Iterator[Service]:
    every = [ServicePort(one.word, one, 80, 30000 + one) for one in Protocol]
    yield _service("cluster", 1, *every)
    sticky = ServicePort("tcp", Protocol.TCP, 81, 30081)
    yield _service("sticky", 2, sticky, affinity_timeout_s=10800)
    yield _service(
        "local",
        3,
        ServicePort("tcp", Protocol.TCP, 82, 30082),
        load_balancer_ips=tuple(_addresses(_OUTSIDE, 8).values()),
        source_ranges=tuple(_prefixes(_OUTSIDE).values()),
        external_local=True,
    )
    yield _service("without-endpoints", 4, ServicePort("none", Protocol.TCP, 83))


def _service(name: str, number: int, *ports: ServicePort, **more: Any) -> Service:
    cluster_ips = tuple(_addresses(_SERVICES, number).values())
    return Service(name=ObjectName(_NODE, name), cluster_ips=cluster_ips, ports=ports, **more)


def _slices(service: ObjectName) -> Iterator[EndpointSlice]:
    ports = tuple(SlicePort(protocol.word, protocol, 8080) for protocol in Protocol)
    for family in FAMILIES:
        yield EndpointSlice.of(
            name=ObjectName(service.namespace, f"{service.name}-{family.table}"),
            service=service,
            family=family,
            ports=ports,
            endpoints=(
                Endpoint(_addresses(_PODS, 5)[family], node=_NODE),
                Endpoint(_addresses(_PODS, 6)[family], node="another"),
            ),
        )


def _addresses(pattern: dict[Family, str], number: int) -> dict[Family, bytes]:
    return {family: parse_address(text.format(number)) for family, text in pattern.items()}


def _prefixes(pattern: dict[Family, str]) -> dict[Family, Prefix]:
    return {f: parse_prefix(f"{text.format(0)}/{_LENGTH[f]}") for f, text in pattern.items()}


def _read(_: Subject, nft: HostNft | None, families: Sequence[Family]) -> Trial:
    return read_trial(families, nft.command if nft and not nft.trouble else ())


ENABLED_FAMILIES = FactSource("address families", lambda subject: enabled_families(subject.proc))
TRIAL = FactSource("nfproxy's program", _read, (IfKnown(HOST_NFT), ENABLED_FAMILIES), 2 * LIMIT_S)


if __name__ == "__main__":
    _main()
