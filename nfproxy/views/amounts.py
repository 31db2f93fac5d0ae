"""How much there is to program, for a line of text."""

from __future__ import annotations

from nfproxy.plan.desired import Desired
from nfproxy.text import plural


def amounts_text(desired: Desired, *, with_idle: bool = False) -> str:
    """
    Return ``22 frontends, 30 slots``.

    With `with_idle` also how many Services have no endpoint on this node, if any.
    """
    frontends = desired.frontends.values()
    slots = sum(size.endpoints for size in desired.sizes.values())
    text = f"{plural(len(frontends), 'frontend')}, {plural(slots, 'slot')}"
    if not with_idle:
        return text
    served = {frontend.claim.service for frontend in frontends if any(frontend.slot_ranges)}
    idle = len({frontend.claim.service for frontend in frontends} - served)
    verb = "has" if idle == 1 else "have"
    return f"{text}; {plural(idle, 'Service')} {verb} no endpoint here" if idle else text
