"""What waits in the kernel until packets have passed, and which chains are idle."""

from nfproxy.model.addresses import Family
from nfproxy.model.service import Protocol
from nfproxy.nft.chains import Guard, Policy, Shape
from nfproxy.plan.frontends import FrontendKey
from nfproxy.reconcile.chainuses import IDLE_S, MOST_IDLE, ChainUses, Deadlines

V4 = Family.IPV4
ONE, TWO = (FrontendKey(V4, bytes(4), Protocol.TCP, port) for port in (80, 81))
SMALL, LARGE = (Shape(Policy.CLUSTER, Protocol.TCP, cluster=count) for count in (1, 2))


def test_keys_are_due_in_the_order_in_which_they_began():
    """A key that begins again waits behind the others."""
    deadlines: Deadlines[str] = Deadlines(10.0)
    for key, now in (("a", 0.0), ("b", 1.0), ("a", 2.0)):
        deadlines.begin(key, now)

    assert deadlines.next_at == 11.0
    assert deadlines.due(11.0) == ["b"]
    assert deadlines.due(12.0) == ["b", "a"]
    deadlines.end("b")
    assert deadlines.next_at == 12.0
    deadlines.end("a")
    assert (deadlines.next_at, deadlines.due(99.0)) == (None, [])


def uses() -> ChainUses:
    """Return two chains, of which two frontends use the small one."""
    made = ChainUses()
    made.reset({(V4, shape.name): shape for shape in (SMALL, LARGE)}, 0.0)
    for key in (ONE, TWO):
        made.use(key, (SMALL,), 0.0)
    return made


def test_a_chain_is_idle_once_its_last_frontend_leaves_it():
    """It counts from then on, and no longer when a frontend comes back."""
    chains = uses()
    assert chains.due(IDLE_S) == [(V4, LARGE.name)]
    chains.use(ONE, (LARGE,), 5.0)
    assert chains.next_at is None
    chains.use(TWO, (), 6.0)
    assert chains.due(6.0 + IDLE_S) == [(V4, SMALL.name)]
    chains.use(TWO, (SMALL,), 7.0)
    assert chains.next_at is None


def test_a_chain_whose_removal_failed_counts_as_not_loaded():
    """It may be gone or not, so it is loaded before it is used, and its removal is tried again."""
    chains = uses()
    chains.removal_failed([(V4, LARGE.name)], 400.0)

    assert (V4, LARGE.name) not in chains.loaded
    assert chains.next_at == 400.0 + IDLE_S
    chains.removed([(V4, LARGE.name)])
    assert chains.next_at is None


def test_what_is_due_soon_goes_along():
    """Each removal takes a child process, so chains go in batches."""
    chains = ChainUses()
    chains.reset({}, 0.0)
    for number in range(100):
        chains.made_ahead({(V4, f"cluster-tcp-{number}"): SMALL}, float(number))

    assert chains.due(IDLE_S - 1) == []
    assert len(chains.due(IDLE_S)) == 61


def test_idle_chains_are_bounded():
    """Of too many the oldest go at once, so that the number stays while Services come and go."""
    chains = ChainUses()
    chains.reset({}, 0.0)
    now = IDLE_S  # until then elements may lead to chains that look idle
    removals = 0
    for number in range(3 * MOST_IDLE):
        chain = Guard(number, (8,))
        key = ONE._replace(address=number.to_bytes(4, "big"))
        chains.loaded[V4, chain.name] = chain
        chains.use(key, (chain,), now)
        chains.use(key, (), now)
        now += 0.02
        if chains.next_at is not None and chains.next_at <= now:
            chains.removed(chains.due(now))
            removals += 1
        assert len(chains.loaded) <= MOST_IDLE + 50  # those of a second may be in use yet
        assert (V4, chain.name) in chains.loaded

    assert removals < 12


def test_too_many_chains_stay_while_their_uses_are_unknown_or_their_removal_failed():
    """After a reading elements may lead to any of them. A failure is not repeated at once."""
    many = {(V4, f"cluster-tcp-{number}"): SMALL for number in range(2 * MOST_IDLE)}
    chains = ChainUses()
    chains.reset(many, 0.0)
    assert (chains.next_at, chains.due(1.0)) == (IDLE_S, [])

    due = chains.due(IDLE_S)
    assert len(due) == 2 * MOST_IDLE
    chains.removal_failed(due, IDLE_S)
    assert (chains.next_at, chains.due(IDLE_S + 1)) == (2 * IDLE_S, [])
