"""
Frontends that several Services ask for: who gets each one, and which claims lost.

A thousand Services may ask for one address. A claim that comes or goes costs a search among those
of its frontend, and the reports of one planning are brought up to date once, at its end.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from nfproxy.model.service import Claim, ObjectName
from nfproxy.plan.claims import ClaimFinding, ClaimFindings, ClaimReason
from nfproxy.plan.frontends import Frontend, FrontendKey, FrontendKind


class Contest:
    """The claims of at least one Service to one frontend; the least one gets it."""

    def __init__(self, first: Frontend) -> None:
        """Start with one claim."""
        self.claims = {first.claim.service: first}
        self._order: list[tuple[tuple[bool, Claim], ObjectName]] = [_place(first)]

    @property
    def winner(self) -> Frontend:
        """The claim that gets the frontend, whichever came first."""
        return self.claims[self._order[0][1]]

    def put(self, service: ObjectName, claim: Frontend | None) -> None:
        """Put a Service's claim in place of the one it had; None for no claim."""
        old = self.claims.pop(service, None)
        if old is not None:
            del self._order[bisect_left(self._order, _place(old))]
        if claim is not None:
            self.claims[service] = claim
            insort(self._order, _place(claim))


class Contests:
    """All contests at present, and what is reported of the claims that lost."""

    def __init__(self, findings: ClaimFindings) -> None:
        """Start with none; report into `findings`."""
        self._findings = findings
        self._contests: dict[FrontendKey, Contest] = {}
        self._lost: dict[FrontendKey, dict[ObjectName, ClaimFinding]] = {}
        # Not reported yet: by frontend, whose claim may have lost; None stands for all.
        self._unsettled: dict[FrontendKey, set[ObjectName] | None] = {}

    def __contains__(self, key: FrontendKey) -> bool:
        """Return whether several Services ask for a frontend."""
        return key in self._contests

    def put(
        self, key: FrontendKey, holder: Frontend, service: ObjectName, claim: Frontend | None
    ) -> Frontend:
        """Take a Service's claim (None: no claim); return the one that gets the frontend."""
        contest = self._contests.get(key)
        if contest is None:
            contest = self._contests[key] = Contest(holder)
        contest.put(service, claim)
        winner = contest.winner
        is_same = (holder.claim.service, holder.kind) == (winner.claim.service, winner.kind)
        concerned = self._unsettled.setdefault(key, set())
        if not is_same or len(contest.claims) == 1:
            self._unsettled[key] = None
        elif concerned is not None:
            concerned.add(service)
        if len(contest.claims) == 1:
            del self._contests[key]
        return winner

    def losers(self) -> Iterator[tuple[FrontendKey, Frontend, list[Frontend]]]:
        """
        Yield each contested frontend with the claim that gets it, and the others, by Service.

        May be called in any thread.
        """
        for key, contest in list(self._contests.items()):
            claims = dict(contest.claims)
            if claims:
                winner = min(claims.values(), key=lambda claim: claim.precedence)
                others = sorted(claims.items())
                yield key, winner, [claim for _, claim in others if claim is not winner]

    def settle(self) -> None:
        """Bring the findings up to date."""
        unsettled, self._unsettled = self._unsettled, {}
        for key, services in unsettled.items():
            contest = self._contests.get(key)
            claims = contest.claims if contest else {}
            known = self._lost.setdefault(key, {})
            for service in {*known, *claims} if services is None else services:
                new, claim = None, claims.get(service)
                if contest and claim is not None and claim is not contest.winner:
                    new = _finding(contest.winner, claim)
                self._findings.replace(key, known.pop(service, None), new)
                if new is not None:
                    known[service] = new
            if not known:
                del self._lost[key]


def _place(claim: Frontend) -> tuple[tuple[bool, Claim], ObjectName]:
    return claim.precedence, claim.claim.service


def _finding(winner: Frontend, claim: Frontend) -> ClaimFinding:
    what = (
        "is the cluster IP of {other}"
        if winner.kind is FrontendKind.CLUSTER_IP and claim.kind is not FrontendKind.CLUSTER_IP
        else "belongs to the older {other}"
    )
    return ClaimFinding(
        ClaimReason.CONFLICT,
        claim.claim.service,
        claim.kind.field,
        f"{what}, which keeps it",
        winner.claim.service,
    )
