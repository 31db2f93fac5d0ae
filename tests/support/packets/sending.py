"""
Send real packets from a host of the lab and report what became of them.

::

    outcome = probe(cluster.client, "10.96.0.1", 80)
    assert outcome.by == "pod-1-1"
    assert outcome.seen_address == cluster.client.ipv4     # not masqueraded
    assert tally(probe_many([Probe(pod, "10.96.0.1", 80)] * 200)) == {"pod-1-1": ...}

Each probe is a new connection for conntrack: unless the test says otherwise, it has a source
port none of the last 28,000 probes over its protocol had, from a range without node ports.
"""

import enum
import errno
import select
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from support.packets.attempts import ATTEMPTS
from support.responders import settle_all

from nfproxy.model.service import Protocol
from nfproxy.tools.lab import Host
from nfproxy.tools.lab.attempts import ConnectAttempt, Ending, open_attempt

TIMEOUT_SECONDS = 0.3
AT_ONCE = 128


class Verdict(enum.Enum):
    """What became of a probe."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """A reset, an SCTP ABORT, or ICMP port unreachable: at once, and meant."""
    UNREACHABLE = "unreachable"
    """Another ICMP error or no route: a fault of the network rather than an answer."""
    DROPPED = "dropped"
    """Nothing came back."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of one probe.

    `by` is the identity that answered, `seen_address` and `seen_port` the source it
    saw, `source_address` and `source_port` the one the probe was sent with (the
    address is empty if it was never sent). `reason` names the errno otherwise.
    """

    verdict: Verdict
    by: str = ""
    seen_address: str = ""
    seen_port: int = 0
    source_address: str = ""
    source_port: int = 0
    reason: str = ""

    @property
    def answered(self) -> bool:
        """Return whether a server answered."""
        return self.verdict is Verdict.ANSWERED

    @property
    def refused(self) -> bool:
        """Say whether it was rejected on the spot."""
        return self.verdict is Verdict.REFUSED

    @property
    def dropped(self) -> bool:
        """Say whether nothing came back."""
        return self.verdict is Verdict.DROPPED

    @property
    def masqueraded(self) -> bool:
        """Say whether the one that answered saw another address than the probe's."""
        return self.answered and self.seen_address != self.source_address

    def __str__(self) -> str:
        """Return a short text for a failed assertion."""
        if self.answered:
            return f"answered by {self.by}, which saw {self.seen_address} port {self.seen_port}"
        return f"{self.verdict.value} {self.reason}".strip()


@dataclass(frozen=True, slots=True)
class Probe:
    """One connection to try: from a host to an address and port."""

    source: Host
    destination: str
    port: int
    protocol: Protocol = Protocol.TCP
    source_address: str = ""
    source_port: int = 0


def probe(
    source: Host,
    destination: str,
    port: int,
    protocol: Protocol = Protocol.TCP,
    *,
    source_address: str = "",
    source_port: int = 0,
    timeout_s: float = TIMEOUT_SECONDS,
) -> Outcome:
    """Try one connection and return what became of it."""
    one = Probe(source, destination, port, protocol, source_address, source_port)
    return probe_many([one], timeout_s=timeout_s)[0]


def probe_many(
    probes: Iterable[Probe], *, timeout_s: float = TIMEOUT_SECONDS, at_once: int = AT_ONCE
) -> list[Outcome]:
    """Try many, `at_once` at a time, and return the outcomes in the same order."""
    todo = list(probes)
    outcomes: list[Outcome] = []
    for start in range(0, len(todo), at_once):
        outcomes += _run(todo[start : start + at_once], timeout_s)
    return outcomes


def repeat(
    times: int,
    source: Host,
    destination: str,
    port: int,
    protocol: Protocol = Protocol.TCP,
    *,
    source_address: str = "",
) -> Counter[str]:
    """Try the same `times` times and return the tally."""
    one = Probe(source, destination, port, protocol, source_address)
    return tally(probe_many([one] * times))


def tally(outcomes: Iterable[Outcome]) -> Counter[str]:
    """Count how often each identity answered, and each verdict for the rest."""
    return Counter(one.by if one.answered else one.verdict.value for one in outcomes)


def attempt(one: Probe) -> ConnectAttempt:
    """Open the socket of a probe, bound to its source; nothing is sent yet."""
    return open_attempt(
        ATTEMPTS[one.protocol],
        one.source,
        one.destination,
        one.port,
        source_address=one.source_address,
        source_port=one.source_port,
    )


def outcome_of(attempted: ConnectAttempt, report: Ending | None) -> Outcome:
    """Turn what an attempt reports into an outcome; None means that nothing came."""
    address, port = attempted.source_address, attempted.source_port
    if report is None:
        return Outcome(Verdict.DROPPED, source_address=address, source_port=port)
    if report.error:
        reason = errno.errorcode.get(report.error, str(report.error))
        verdict = _VERDICTS.get(report.error, Verdict.UNREACHABLE)
        return Outcome(verdict, source_address=address, source_port=port, reason=reason)
    by, seen_address, seen_port = report.line.split(" ")
    return Outcome(Verdict.ANSWERED, by, seen_address, int(seen_port), address, port)


_VERDICTS = {
    errno.ECONNREFUSED: Verdict.REFUSED,
    errno.ECONNRESET: Verdict.REFUSED,
}


def _run(probes: Sequence[Probe], timeout_s: float) -> list[Outcome]:
    attempts: list[ConnectAttempt] = []
    try:
        attempts.extend(attempt(one) for one in probes)
        reports = _wait_for(attempts, timeout_s)
        return [outcome_of(tried, reports.get(tried.fileno())) for tried in attempts]
    finally:
        for tried in attempts:
            tried.close()


def _wait_for(attempts: Sequence[ConnectAttempt], timeout_s: float) -> dict[int, Ending]:
    """Start all, follow them until none is open or time is up; return reports by fd."""
    reports: dict[int, Ending] = {}
    pending: dict[int, ConnectAttempt] = {}
    with select.epoll() as epoll:

        def take(fd: int, report: Ending | None) -> None:
            if report is not None:
                reports[fd] = report
                if pending.pop(fd, None):
                    epoll.unregister(fd)

        for one in attempts:
            report = one.start()
            if report is None:
                pending[one.fileno()] = one
                epoll.register(one.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
            else:
                reports[one.fileno()] = report

        deadline = time.monotonic() + timeout_s
        last_look = False
        while pending:
            events = epoll.poll(max(0.0, deadline - time.monotonic()))
            for fd, _ in events:
                if fd in pending:
                    take(fd, pending[fd].advance())
            if not events:
                if last_look:
                    break
                settle_all()
                deadline = time.monotonic() + 0.01
                last_look = True
    return reports


__all__ = [
    "Outcome",
    "Probe",
    "Protocol",
    "Verdict",
    "probe",
    "probe_many",
    "repeat",
    "tally",
]
