"""What was touched and is not committed yet, in the order in which it is committed."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from nfproxy.model.addresses import Family
from nfproxy.model.service import ObjectName
from nfproxy.nft.schema import SCHEMAS, SOURCE_RANGES, Interval
from nfproxy.plan.desired import NODE, Touched
from nfproxy.plan.frontends import FrontendKey, ListKey, Part, SharedElement

#: A part, and the Service that it belongs to.
ServicePart = tuple[ObjectName, Part]

# Without these, a node and its cluster cannot work on anything else. Kubernetes reserves the first
# prefix, and OpenShift the second, so no tenant has a Service there.
_IMPORTANT = (NODE, ObjectName("default", "kubernetes"))
_IMPORTANT_PREFIXES = ("kube-", "openshift-")
_IMPORTANT_QUEUE = "important!"  # no namespace has this name

#: Stands for the Service of parts that only the kernel has.
UNKNOWN = ObjectName("", "unknown")


_RANGE_SETS = {name for name, one in SCHEMAS.items() if one.interval is not Interval.NO}
_EARLY_SETS = _RANGE_SETS | {SOURCE_RANGES}


def is_range(part: Part) -> bool:
    """Return whether this is a range, which may give way to a larger one."""
    return isinstance(part, SharedElement) and part.set in _RANGE_SETS


def _order(part: Part) -> int:
    """
    Return when a part's turn is among those of its Service: the highest number is first.

    Source ranges and lists are there before the verdicts that lead to them. An endpoint leaves
    affinity lists before slots: a client would keep it. A cluster IP that is known rejects
    connections to ports without a frontend, so it comes after the frontends.
    """
    if isinstance(part, FrontendKey):
        return 2
    if isinstance(part, ListKey):
        return 3
    if isinstance(part, SharedElement):
        return 3 if part.set in _EARLY_SETS else 1
    return 4


def is_important(service: ObjectName) -> bool:
    """Return whether a Service is programmed before those of all tenants."""
    return service in _IMPORTANT or service.namespace.startswith(_IMPORTANT_PREFIXES)


class Turn:
    """
    A Service whose turn it is, and its parts, which are taken out one by one.

    Taking one out costs the same however many there are: a Service may have a hundred thousand, and
    as many turns as they take. What is left, and what came back, waits when the turn is put back.
    """

    def __init__(self, service: ObjectName, parts: Iterable[Part], waiting: set[Part]) -> None:
        """Let all parts be taken; those that are leave `waiting`."""
        self.service = service
        self.came_back: list[Part] = []
        self._waiting = waiting
        self._by_order: dict[int, list[Part]] = {}
        for part in parts:
            self.append(part)

    def __bool__(self) -> bool:
        """Return whether a part can be taken."""
        return bool(self._by_order)

    def __iter__(self) -> Iterator[Part]:
        """Yield the parts that are left, the next ones first."""
        parts = (reversed(self._by_order[order]) for order in sorted(self._by_order, reverse=True))
        return chain(*parts, self.came_back)

    @property
    def next_part(self) -> Part:
        """The part that is taken next."""
        return self._by_order[max(self._by_order)][-1]

    def take(self) -> Part:
        """Take out the part whose turn it is."""
        order = max(self._by_order)
        parts = self._by_order[order]
        part = parts.pop()
        if not parts:
            del self._by_order[order]
        self._waiting.discard(part)
        return part

    def give_back(self, part: Part) -> None:
        """Let a part wait for the next turn: this one is too short for it, or not its own."""
        self.came_back.append(part)

    def go_on(self, parts: Iterable[Part]) -> None:
        """Begin the Service's next turn, with parts that have come since; they wait already."""
        for part in parts:
            self.append(part)
        back: dict[int, list[Part]] = {}
        for part in reversed(self.came_back):
            if part not in self._waiting:
                self._waiting.add(part)
                back.setdefault(_order(part), []).append(part)
        for order, first in back.items():
            self._by_order[order] = first + self._by_order.get(order, [])
        self.came_back = []

    def append(self, part: Part) -> None:
        """Add a part that waits: the next of its kind."""
        self._by_order.setdefault(_order(part), []).append(part)


class Backlog:
    """
    Services with parts that wait, by turns.

    Important Services are first, all of them. Then namespaces take turns, and a namespace's
    Services do: each turn is one Service. A namespace without waiting Services that gets one is
    next. So a change waits for at most one turn of each other namespace, however much they have.
    """

    def __init__(self, families: Collection[Family]) -> None:
        """Start empty; parts of other families never wait."""
        self._families = families
        self._parts: dict[ObjectName, list[Part] | Turn] = {}  # a turn: one that goes on
        self._known: set[Part] = set()
        self._queues: OrderedDict[str, deque[ObjectName]] = OrderedDict()
        self._planned: set[ObjectName] = set()
        self._finished: set[ObjectName] = set()

    def __len__(self) -> int:
        """Return how many Services wait, the node included."""
        return len(self._parts)

    def __contains__(self, service: ObjectName) -> bool:
        """Return whether a Service waits."""
        return service in self._parts

    def clear(self) -> None:
        """Forget all parts. Services that were planned are finished when they wait no more."""
        self._parts.clear()
        self._known.clear()
        self._queues.clear()
        self._finished |= self._planned

    def add(self, touched: Touched) -> None:
        """Let everything wait that was touched and does not wait already."""
        for parts in (
            touched.affinity_lists,
            touched.shared_elements,
            touched.lists,
            touched.frontends,
        ):
            for part, service in parts.items():
                self.add_part(service, part)
        self._planned |= touched.services
        self._finished |= touched.services
        self._finished -= self._parts.keys()

    def add_part(self, service: ObjectName, part: Part) -> None:
        """Let a part wait that does not wait already."""
        if part.family not in self._families or part in self._known:
            return
        self._known.add(part)
        waiting = self._parts.get(service)
        if waiting is None:
            waiting = self._parts[service] = []
            self._enqueue(service, is_new=True)
        waiting.append(part)

    def _enqueue(self, service: ObjectName, *, is_new: bool) -> None:
        name = _IMPORTANT_QUEUE if is_important(service) else service.namespace
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = deque()
            if is_new:
                self._queues.move_to_end(name, last=False)
        queue.append(service)

    def next_turn(self) -> Turn | None:
        """Take out the Service whose turn it is."""
        if not self._queues:
            return None
        name = _IMPORTANT_QUEUE if _IMPORTANT_QUEUE in self._queues else next(iter(self._queues))
        queue = self._queues[name]
        service = queue.popleft()
        if queue:
            self._queues.move_to_end(name)
        else:
            del self._queues[name]
        parts = self._parts.pop(service)
        if service in self._planned:
            self._finished.add(service)
        return parts if isinstance(parts, Turn) else Turn(service, parts, self._known)

    def put_back(self, turn: Turn) -> None:
        """Let the parts wait that a turn was too short for."""
        service = turn.service
        self._finished.discard(service)
        if service not in self._parts:
            self._enqueue(service, is_new=False)
        turn.go_on(self._parts.get(service, ()))
        self._parts[service] = turn

    def is_planned(self, service: ObjectName) -> bool:
        """Return whether a Service was planned and has not been reported as finished."""
        return service in self._planned

    def take_finished(self) -> set[ObjectName]:
        """Return the Services that were planned and wait no more; each is returned once."""
        finished, self._finished = self._finished, set()
        self._planned -= finished
        if not (self._planned or self._parts):
            # Empty ones keep the room that a first load took.
            self._known, self._planned, self._parts = set(), set(), {}
        return finished
